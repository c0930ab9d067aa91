"""Insight3 molecule lists (``.bin``).

72-byte records after a header of 16; positions in pixels with the first pixel's centre at 1; frames from 1.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from emitter.core.errors import EmitterError
from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize

_MAGIC = b"M425"
_HEADER_BYTES = 16  # magic, frames, status, number of molecules
_FLOATS = ("x", "y", "x_drift", "y_drift", "height", "area", "width", "phi", "aspect", "background", "sum")
_INTS = ("category", "valid", "frame", "length", "link")
_RECORD = np.dtype(
    [(name, "<f4") for name in _FLOATS]
    + [(name, "<i4") for name in _INTS]
    + [("z", "<f4"), ("z_drift", "<f4")]
)


def is_insight3(path: Path) -> bool:
    """Whether the file begins as an Insight3 molecule list does."""
    with path.open("rb") as file:
        return file.read(4) == _MAGIC


def read_insight3(path: Path, pixel_size: PixelSize | None) -> EmitterTable:
    """Read a molecule list. Its intensity (the fit's sum, in its own units) is given as photons.

    Raises:
        EmitterError: no pixel size, or fewer records than the header says.
    """
    if pixel_size is None:
        raise EmitterError(f"{path} is in pixels: give the pixel size with pixel_size_nm=")
    content = path.read_bytes()
    count = int(np.frombuffer(content[12:_HEADER_BYTES], "<i4")[0]) if len(content) >= _HEADER_BYTES else -1
    if count < 0 or len(content) < _HEADER_BYTES + count * _RECORD.itemsize:
        raise EmitterError(
            f"{path} is truncated: it holds fewer molecules than its header says, copy it again"
        )
    records = np.frombuffer(content, _RECORD, count, _HEADER_BYTES)
    x_nm, y_nm = pixel_size.to_nm(records["x"] - 0.5, records["y"] - 0.5)
    return EmitterTable.of(
        records["frame"] - 1, x_nm=x_nm, y_nm=y_nm, z_nm=records["z"], photons=records["sum"]
    )
