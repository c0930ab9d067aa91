"""resolution.py: how fine a table is, by Fourier ring correlation and by nearest neighbours (NeNA)."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass

from emitter.analysis.doubts import frc_doubts, nena_doubts
from emitter.analysis.frc import frc
from emitter.analysis.nena import Nena, nena
from emitter.app.progress import progress
from emitter.app.table_settings import TableSettings
from emitter.core.errors import EmitterError, require
from emitter.io.files import prepare_output, writing

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Settings(TableSettings):
    """What conf/resolution.yaml says; its comments explain every key."""

    pixel_nm: float = 10.0
    splits: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.output.suffix.lower() == ".json",
            f"output is {self.output}: give a name that ends with .json",
        )
        require(self.pixel_nm > 0, f"pixel_nm is {self.pixel_nm}: give the image's pixel in nm, above 0")
        require(self.seed >= 0, f"seed is {self.seed}: give a whole number, 0 or more")
        require(self.splits >= 1, f"splits is {self.splits}: give 1 or more")


def run(settings: Settings) -> dict[str, float | list[float] | list[str] | None]:
    """Write both figures, why they may be wrong, and the curve as json, which are returned too.

    A figure that cannot be had is null.

    Raises:
        EmitterError: a table that cannot be read or is too small for FRC, or an output that cannot be written.
    """
    path = prepare_output(settings.output)
    table, _ = settings.read()
    with progress("FRC") as report:
        curve = frc(table, settings.pixel_nm, settings.splits, settings.seed, report)
    doubts = frc_doubts(table, curve)
    if not math.isnan(curve.resolution_nm):
        log.info(
            "FRC resolution %.1f nm (threshold 1/7, pixels of %.3g nm)", curve.resolution_nm, curve.pixel_nm
        )
    precision: Nena | None = None
    try:
        precision = nena(table)
        doubts += nena_doubts(precision, table)
        log.info(
            "NeNA precision %.2f ± %.2g nm (standard deviation of x and of y)",
            *(precision.precision_nm, precision.error_nm),
        )
    except EmitterError as error:
        doubts.append(f"no NeNA precision: {error}")
    for doubt in doubts:
        log.warning(doubt)
    result = {
        "frc_resolution_nm": _or_null(curve.resolution_nm),
        "frc_spread_nm": _or_null(curve.spread_nm),
        "frc_pixel_nm": curve.pixel_nm,
        "nena_precision_nm": precision and precision.precision_nm,
        "nena_error_nm": precision and precision.error_nm,
        "warnings": doubts,
        "frequency_per_nm": curve.frequency_Q.tolist(),
        "correlation": curve.correlation_Q.tolist(),
    }
    with writing(path) as temporary:
        temporary.write_text(json.dumps(result))
    log.info("wrote %s", path)
    return result


def _or_null(value: float) -> float | None:
    """json has neither NaN nor infinity."""
    return value if math.isfinite(value) else None
