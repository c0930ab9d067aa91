"""Opening the formats that are HDF5 files: Picasso, DECODE and SMAP, told apart by what they hold."""

from __future__ import annotations

from pathlib import Path

import h5py

from emitter.core.errors import EmitterError
from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize
from emitter.io import decode_h5, picasso, smap
from emitter.io.acquisition import Acquisition

_FORMATS = (picasso, decode_h5, smap)


def is_hdf5(path: Path) -> bool:
    """Whether the file is HDF5, behind the header of a .mat file too."""
    return bool(h5py.is_hdf5(path))


def read_hdf5(path: Path, pixel_size: PixelSize | None) -> tuple[EmitterTable, Acquisition]:
    """Read the table of whichever format the file is.

    Raises:
        EmitterError: none of the formats, a file that is cut off, or one that lacks what its format has.
    """
    try:
        with h5py.File(path) as file:
            for known in _FORMATS:
                if known.is_of(file):
                    return known.read(path, file, pixel_size)
            found = ", ".join(list(file)[:10])
    except (OSError, KeyError) as error:  # h5py's for a broken file and for a dataset that is not there
        reason = " ".join(str(error).replace("'", "").replace('"', "").split())
        raise EmitterError(f"table {path} cannot be read ({reason}): copy or write it again") from error
    raise EmitterError(
        f"{path} is an HDF5 file with {found or 'nothing'} in it: give a table of Picasso (locs), "
        "DECODE (data, meta) or SMAP (saveloc)"
    )
