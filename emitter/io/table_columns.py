"""From the columns of a file to an ``EmitterTable``: the checks that every format shares."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

from emitter.core.errors import EmitterError
from emitter.core.table import PRECISION_COLUMNS, EmitterTable

POSITIONS = ("frame", "x_nm", "y_nm")
NAMES = (*POSITIONS, "z_nm", "photons", "background", "probability", *PRECISION_COLUMNS, "n_frames")
Column = TypeVar("Column")
MAX_FRAME = 2**31 - 1  # what other programs hold, and far from where int64 overflows


def pick(columns: Mapping[str, Column], candidates: Mapping[str, tuple[str, ...]]) -> dict[str, Column]:
    """A file's columns, or what stands for them, under our names: the first of each one's candidates that is there."""
    picked = {}
    for ours, names in candidates.items():
        present = [name for name in names if name in columns]
        if present:
            picked[ours] = columns[present[0]]
    return picked


def checked_table(
    path: Path, kind: str, first_frame: int, columns: dict[str, np.ndarray], first_row: int = 0
) -> EmitterTable:
    """A table from columns under our names, frames still counted from ``first_frame``; its rows are the file's from
    ``first_row`` on.

    Raises:
        EmitterError: a frame that is no whole number from ``first_frame`` on, or a position that is not finite.
    """
    for name in POSITIONS:
        missing = ~np.isfinite(columns[name])
        if missing.any():
            row = first_row + int(np.argmax(missing)) + 1
            raise EmitterError(f"row {row} of {path} has no number for {name}: fill it or leave the row out")
    columns = dict(columns)
    frame = columns.pop("frame")
    bad = (frame != np.round(frame)) | (frame < first_frame) | (frame > MAX_FRAME)
    if bad.any():
        raise EmitterError(
            f"row {first_row + int(np.argmax(bad)) + 1} of {path} has frame {frame[bad][0]:g}: frames in {kind} are "
            f"whole numbers from {first_frame} to {MAX_FRAME}"
        )
    return EmitterTable.of(frame.astype(np.int64) - first_frame, **columns)
