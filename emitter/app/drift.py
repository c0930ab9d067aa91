"""drift.py: a table without the sample's drift, and the drift."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd

from emitter.analysis.drift import Drift, DriftSettings, estimate_drift
from emitter.app.table_settings import TableSettings
from emitter.io.files import prepare_output, replacing
from emitter.io.tables import write_table
from emitter.plots.drift import plot_drift

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Settings(TableSettings):
    """What conf/drift.yaml says; its comments explain every key."""

    segments: int = 10
    pixel_nm: float = 20.0
    max_drift_nm: float = 1000.0
    outlier_nm: float = 30.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.drift  # checked by building it

    @property
    def drift(self) -> DriftSettings:
        """How drift is estimated."""
        return DriftSettings(self.segments, self.pixel_nm, self.max_drift_nm, self.outlier_nm)


def run(settings: Settings) -> Drift:
    """Write the corrected table and, beside it, the drift as csv and PNG; the drift is returned too.

    Raises:
        EmitterError: a table that cannot be read or is too small, or an output that cannot be written.
    """
    path = prepare_output(settings.output)
    csv_path, png_path = (path.with_name(f"{path.stem}_drift{ending}") for ending in (".csv", ".png"))
    table = settings.read()
    drift = estimate_drift(table, settings.drift)
    write_table(path, drift.corrected(table))
    frame_F = drift.first_frame + np.arange(len(drift.x_nm_F))
    with replacing(csv_path) as temporary:
        columns = {"frame": frame_F, "drift_x_nm": drift.x_nm_F, "drift_y_nm": drift.y_nm_F}
        pd.DataFrame(columns).to_csv(temporary, index=False, float_format="%.3f")
    with replacing(png_path) as temporary:
        plot_drift(frame_F, drift.x_nm_F, drift.y_nm_F, temporary)
    log.info("drift over %.0f nm in x, %.0f nm in y", np.ptp(drift.x_nm_F), np.ptp(drift.y_nm_F))
    log.info("wrote %s, %s and %s", path, csv_path, png_path)
    return drift
