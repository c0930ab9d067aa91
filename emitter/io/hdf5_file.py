"""HDF5 files of tables: what h5py says of them as this package says it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from emitter.core.errors import EmitterError
from emitter.io.files import replacing


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """The file, to read.

    Raises:
        EmitterError: one that is cut off or lacks what is looked for in it.
    """
    try:
        with h5py.File(path) as file:
            yield file
    except EmitterError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError) as error:  # h5py's, of what is broken or not there
        reason = " ".join(str(error).replace("'", "").replace('"', "").split())
        raise EmitterError(f"table {path} cannot be read ({reason}): copy or write it again") from error


@contextmanager
def created(path: Path, n_bytes: int) -> Iterator[h5py.File]:
    """A new file, whole or not at all, that will hold ``n_bytes`` of data.

    Raises:
        OSError: it cannot be written.
    """
    # told before, since the HDF5 library may crash when a disk becomes full under it
    if shutil.disk_usage(path.absolute().parent).free < n_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with replacing(path) as temporary:
        try:
            with h5py.File(temporary, "w") as file:
                yield file
        except RuntimeError as error:  # h5py's, of a full disk
            raise OSError(str(error)) from error
