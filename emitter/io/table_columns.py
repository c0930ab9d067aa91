"""From the columns of a file to an ``EmitterTable``: the checks that every format shares."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from emitter.core.errors import EmitterError
from emitter.core.table import PRECISION_COLUMNS, EmitterTable

POSITIONS = ("frame", "x_nm", "y_nm")
NAMES = (*POSITIONS, "z_nm", "photons", "background", "probability", *PRECISION_COLUMNS)
MAX_FRAME = 2**31 - 1  # what other programs hold, and far from where int64 overflows


def pick(
    columns: Mapping[str, np.ndarray], candidates: Mapping[str, tuple[str, ...]]
) -> dict[str, np.ndarray]:
    """A file's columns under our names: for each, the first of its candidates that the file has."""
    picked = {}
    for ours, names in candidates.items():
        present = [name for name in names if name in columns]
        if present:
            picked[ours] = columns[present[0]]
    return picked


def checked_table(path: Path, kind: str, first_frame: int, columns: dict[str, np.ndarray]) -> EmitterTable:
    """A table from columns under our names, frames still counted from ``first_frame``.

    Raises:
        EmitterError: a frame that is no whole number from ``first_frame`` on, or a position that is not finite.
    """
    for name in POSITIONS:
        missing = ~np.isfinite(columns[name])
        if missing.any():
            raise EmitterError(
                f"row {int(np.argmax(missing)) + 1} of {path} has no number for {name}: fill it or leave the row out"
            )
    columns = dict(columns)
    frame = columns.pop("frame")
    bad = (frame != np.round(frame)) | (frame < first_frame) | (frame > MAX_FRAME)
    if bad.any():
        raise EmitterError(
            f"row {int(np.argmax(bad)) + 1} of {path} has frame {frame[bad][0]:g}: frames in {kind} are "
            f"whole numbers from {first_frame} to {MAX_FRAME}"
        )
    return EmitterTable.of(frame.astype(np.int64) - first_frame, **columns)


def known_columns(table: EmitterTable) -> dict[str, np.ndarray]:
    """The columns that hold at least one number; an empty table's are all there."""
    return {
        name: column
        for name, column in table.columns().items()
        if len(table) == 0 or name in POSITIONS or not np.isnan(column).all()
    }
