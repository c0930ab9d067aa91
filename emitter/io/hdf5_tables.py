"""Opening the formats that are HDF5 files: Picasso, DECODE and SMAP, told apart by what they hold."""

from __future__ import annotations

from pathlib import Path

import h5py

from emitter.core.errors import EmitterError
from emitter.core.units import PixelSize
from emitter.io import decode_h5, picasso, smap
from emitter.io.acquisition import Acquisition
from emitter.io.hdf5_file import opened
from emitter.io.parts import Parts

_FORMATS = (picasso, decode_h5, smap)


def is_hdf5(path: Path) -> bool:
    """Whether the file is HDF5, behind the header of a .mat file too."""
    return bool(h5py.is_hdf5(path))


def read_hdf5(path: Path, pixel_size: PixelSize | None) -> tuple[Parts, Acquisition]:
    """Read the table of whichever format the file is.

    Raises:
        EmitterError: none of the formats, a file that is cut off, or one that lacks what its format has.
    """
    with opened(path) as file:
        for known in _FORMATS:
            if known.is_of(file):
                return known.read(path, file, pixel_size)
        found = ", ".join(list(file)[:10])
    raise EmitterError(
        f"{path} is an HDF5 file with {found or 'nothing'} in it: give a table of Picasso (locs), "
        "DECODE (data, meta) or SMAP (saveloc)"
    )
