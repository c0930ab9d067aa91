"""resolution.py: how fine a table is, by Fourier ring correlation and by nearest neighbours (NeNA)."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass

from emitter.analysis.frc import frc
from emitter.analysis.nena import nena
from emitter.app.table_settings import TableSettings
from emitter.core.errors import EmitterError, require
from emitter.io.files import prepare_output, replacing

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Settings(TableSettings):
    """What conf/resolution.yaml says; its comments explain every key."""

    pixel_nm: float = 10.0
    splits: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.pixel_nm > 0, f"pixel_nm is {self.pixel_nm}: give the image's pixel in nm, above 0")
        require(self.splits >= 1, f"splits is {self.splits}: give 1 or more")


def run(settings: Settings) -> dict[str, float | list[float] | None]:
    """Write both figures and the curve as json, which are returned too; a figure that cannot be had is null.

    Raises:
        EmitterError: a table that cannot be read or is too small for FRC, or an output that cannot be written.
    """
    path = prepare_output(settings.output)
    table = settings.read()
    curve = frc(table, settings.pixel_nm, settings.splits, settings.seed)
    found = None if math.isnan(curve.resolution_nm) else curve.resolution_nm
    if found is None:
        log.warning(
            "the ring correlation does not cross 1/7: give another pixel_nm, or there are too few rows"
        )
    else:
        log.info("FRC resolution %.1f nm (threshold 1/7)", found)
    try:
        precision = nena(table)
        log.info("NeNA precision %.2f nm (standard deviation of x and of y)", precision)
    except EmitterError as error:
        precision = None
        log.warning("no NeNA precision: %s", error)
    report = {
        "frc_resolution_nm": found,
        "nena_precision_nm": precision,
        "frequency_per_nm": curve.frequency_Q.tolist(),
        "correlation": curve.correlation_Q.tolist(),
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(report))
    log.info("wrote %s", path)
    return report
