"""Insight3 molecule lists (``.bin``).

72-byte records after a header of 16; positions in pixels with the first pixel's centre at 1; frames from 1.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from emitter.core.errors import EmitterError
from emitter.core.units import PixelSize
from emitter.io.acquisition import Acquisition
from emitter.io.parts import Parts
from emitter.io.table_columns import checked_table

_MAGIC = b"M425"
_CENTRE_PX = 0.5  # between Insight3's coordinate of a point and ours
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


def read_insight3(path: Path, pixel_size: PixelSize | None) -> tuple[Parts, Acquisition]:
    """Read a molecule list. Its intensity (the fit's sum, in its own units) is given as photons.

    Raises:
        EmitterError: no pixel size, or fewer records than the header says.
    """
    if pixel_size is None:
        raise EmitterError(f"{path} is in pixels: give the pixel size with pixel_size_nm=")
    content_bytes = path.stat().st_size
    header = np.fromfile(path, "<i4", 4)
    count = int(header[3]) if len(header) == 4 else -1
    if count < 0 or content_bytes < _HEADER_BYTES + count * _RECORD.itemsize:
        raise EmitterError(
            f"{path} is truncated: it holds fewer molecules than its header says, copy it again"
        )
    records = np.fromfile(path, _RECORD, count, offset=_HEADER_BYTES)
    x_nm, y_nm = pixel_size.to_nm(
        records["x"].astype(np.float64) - _CENTRE_PX, records["y"].astype(np.float64) - _CENTRE_PX
    )
    columns = {"frame": records["frame"], "x_nm": x_nm, "y_nm": y_nm}
    columns |= {"z_nm": records["z"], "photons": records["sum"]}
    return Parts.of(checked_table(path, "Insight3's bin", 1, columns)), Acquisition(pixel_size)
