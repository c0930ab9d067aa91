"""HDF5 files of tables: opening them with what h5py says put into one sentence, and reading them row by row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from emitter.core.errors import EmitterError
from emitter.io.parts import BLOCK_ROWS


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


def row_blocks(n_rows: int) -> Iterator[slice]:
    """Rows that are read at a time; one block without rows where there are none."""
    for start in range(0, max(1, n_rows), BLOCK_ROWS):
        yield slice(start, min(start + BLOCK_ROWS, n_rows))
