"""drift.py: a table without the sample's drift, and the drift."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emitter.analysis.drift import Drift, DriftSettings, estimate_drift
from emitter.app.progress import progress
from emitter.app.table_settings import TableToTableSettings
from emitter.core.errors import EmitterError
from emitter.core.table import EmitterTable
from emitter.io.drift_csv import read_drift, write_drift
from emitter.io.files import prepare_output, writing
from emitter.io.tables import write_table
from emitter.plots.drift import plot_drift

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Settings(TableToTableSettings):
    """What conf/drift.yaml says; its comments explain every key."""

    apply: Path | None = None
    axial: bool = True
    max_drift_nm: float = 1000.0
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.drift  # checked by building it

    def inputs(self) -> tuple[Path, ...]:
        """The table, and a drift that is given."""
        return (self.localizations,) if self.apply is None else (self.localizations, self.apply)

    def outputs(self) -> tuple[Path, ...]:
        """The table and, unless it is given, its drift beside it as csv and PNG."""
        beside = (self.output.parent / f"{self.output.stem}_drift{ending}" for ending in (".csv", ".png"))
        return (self.output,) if self.apply is not None else (self.output, *beside)

    @property
    def drift(self) -> DriftSettings:
        """How drift is estimated."""
        return DriftSettings(self.max_drift_nm, self.axial, self.seed)


def run(settings: Settings) -> Drift:
    """Write the corrected table and, unless a drift is given, its drift beside it as csv and PNG, which is returned.

    Raises:
        EmitterError: a table or a drift that cannot be read, a table that is too small, or an output that cannot be
            written.
    """
    path, *beside = (prepare_output(output) for output in settings.outputs())
    table, acquisition = settings.read()
    if settings.apply is not None:
        drift = _given(settings.apply, table)
        write_table(path, drift.corrected(table), acquisition=acquisition)
        log.info("wrote %s, without the drift of %s", path, settings.apply)
        return drift
    csv_path, png_path = beside
    with progress("drift") as report:
        drift = estimate_drift(table, settings.drift, report)
    write_table(path, drift.corrected(table), acquisition=acquisition)
    write_drift(csv_path, drift.first_frame, drift.columns())
    with writing(png_path) as temporary:
        errors_nm_F = dict(zip(drift.columns(), drift.error_nm_FA.T, strict=True))
        plot_drift(drift.frames, drift.columns(), errors_nm_F, temporary)
    for name, nm_F in drift.columns().items():
        if nm_F.any():
            span, error = np.ptp(nm_F), drift.errors_nm()[name]
            log.info(
                "drift in %s spans %.1f nm, standard error %.1f nm", name.removesuffix("_nm"), span, error
            )
    log.info("wrote %s, %s and %s", path, csv_path, png_path)
    return drift


def _given(path: Path, table: EmitterTable) -> Drift:
    """A drift that was written before, of another table of the same frames."""
    first, nm_F = read_drift(path)
    drift_FA = np.column_stack(list(nm_F.values()))
    outside = (table.frame < first) | (table.frame >= first + len(drift_FA))
    if outside.all():
        raise EmitterError(
            f"{path} is of the frames {first} to {first + len(drift_FA) - 1}, none of which the table has: give the "
            "drift of the same movie's frames"
        )
    if outside.any():
        log.warning(
            "%d of %d localizations lie outside of the frames of %s: they have its first or last drift",
            *(np.count_nonzero(outside), len(table), path),
        )
    return Drift(first, drift_FA, np.full_like(drift_FA, np.nan))
