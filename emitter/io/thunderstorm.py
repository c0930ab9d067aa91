"""Writing localizations in ThunderSTORM's columns, block by block."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pandas as pd

from emitter.core.table import EmitterTable

_PART_ROWS = 200_000


@dataclass(frozen=True)
class Mark:
    """How far a table is written: rows, and the bytes of the file that hold them with the header."""

    n_rows: int = 0
    n_bytes: int = 0


class TableWriter:
    """A csv in ThunderSTORM's columns that grows while a movie is localized.

    Rows are written to ``<path>.partial``, which takes the name ``path`` when the block ends without an
    error. When it does not, the partial file stays if anything was done, so that nothing that was found is lost.
    Frames and ids count from 1. Columns that a network does not know (sigma, the background's deviation, the
    uncertainties) are left out: readers go by the names, and refuse or misread empty cells. ``probability``
    is ours and comes last.

    Args:
        path: name of the finished file.
        with_z: write ``z [nm]`` (a 3D table).
        after: go on behind this mark of an earlier writer's partial file; what lies behind it there is cut off.
    """

    def __init__(self, path: Path, with_z: bool, after: Mark = Mark()) -> None:
        self.path = path
        self.partial_path = partial_path(path)
        self.n_rows = after.n_rows
        self._begun = after.n_bytes > 0
        self._with_z = with_z
        self._file = self.partial_path.open("r+b" if after.n_bytes else "wb")
        if after.n_bytes:
            self._file.truncate(after.n_bytes)
            self._file.seek(after.n_bytes)
        else:
            names = self._columns(EmitterTable.empty())
            self._file.write((",".join(f'"{name}"' for name in names) + "\n").encode())
            self._file.flush()

    @property
    def mark(self) -> Mark:
        """How far the file is written now."""
        return Mark(self.n_rows, self._file.tell())

    def write(self, table: EmitterTable) -> None:
        """Append the rows of a table, in the order given."""
        self._file.write(_rows(self._columns(table)).encode())
        self._file.flush()
        self._begun = True
        self.n_rows += len(table)

    def _columns(self, table: EmitterTable) -> dict[str, np.ndarray]:
        """The file's columns, in order."""
        columns = {
            "id": np.arange(self.n_rows + 1, self.n_rows + 1 + len(table)),
            "frame": table.frame + 1,
            "x [nm]": table.x_nm,
            "y [nm]": table.y_nm,
        }
        if self._with_z:
            columns["z [nm]"] = table.z_nm
        columns["intensity [photon]"] = table.photons
        columns["offset [photon]"] = table.background
        columns["probability"] = table.probability
        return columns

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None:
            self.partial_path.replace(self.path)
        elif not self._begun:
            self.partial_path.unlink()


def partial_path(path: Path) -> Path:
    """The name of a table that is not finished."""
    return path.with_name(path.name + ".partial")


def _rows(columns: dict[str, np.ndarray]) -> str:
    """Lines of a csv: whole numbers as they are, others with four decimals. One format for the whole block: a
    data frame's own writer takes several times as long."""
    n_rows = len(next(iter(columns.values())))
    line = ",".join("%d" if column.dtype.kind in "iu" else "%.4f" for column in columns.values()) + "\n"
    values = itertools.chain.from_iterable(zip(*(c.tolist() for c in columns.values()), strict=True))
    # of the letters only those of nan and inf can occur
    return ((line * n_rows) % tuple(values)).replace("nan", "NaN")


def read_positions(path: Path) -> Iterator[EmitterTable]:
    """Frames and positions of a table that ``TableWriter`` wrote, finished or not, in parts that fit the memory."""
    names = {"frame": "frame", "x [nm]": "x_nm", "y [nm]": "y_nm", "z [nm]": "z_nm"}
    for part in pd.read_csv(path, usecols=lambda name: name in names, chunksize=_PART_ROWS):
        columns = {names[str(name)]: part[name].to_numpy() for name in part.columns}
        yield EmitterTable.of(columns.pop("frame") - 1, **columns)
