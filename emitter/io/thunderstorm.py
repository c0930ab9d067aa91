"""Writing localizations in ThunderSTORM's columns, block by block or at once."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from emitter.core.errors import EmitterError
from emitter.core.table import PRECISION_COLUMNS, EmitterTable
from emitter.io.files import open_alone
from emitter.io.journal import Written
from emitter.io.table_columns import NAMES

_DIGITS = 4  # 0.1 pm, 0.0001 photons
_CELL = pa.decimal128(38, _DIGITS)
_PART_ROWS = 1 << 16  # of text in memory at a time
_THEIRS = {"x_nm": "x [nm]", "y_nm": "y [nm]", "z_nm": "z [nm]"}
_THEIRS |= {"photons": "intensity [photon]", "background": "offset [photon]"}


def file_columns(ours: Mapping[str, np.ndarray], first_id: int = 1) -> dict[str, np.ndarray]:
    """The file's columns in order, from those of an ``EmitterTable`` that are to be written.

    What ThunderSTORM has no column for follows after its own. Its one lateral uncertainty is the root mean square of
    x's and y's.
    """
    frame = ours["frame"]
    columns = {"id": np.arange(first_id, first_id + len(frame)), "frame": frame + 1}
    columns |= {theirs: ours[name] for name, theirs in _THEIRS.items() if name in ours}
    if {"precision_x_nm", "precision_y_nm"} <= ours.keys():
        x_nm, y_nm = ours["precision_x_nm"], ours["precision_y_nm"]
        columns["uncertainty_xy [nm]"] = np.sqrt((x_nm**2 + y_nm**2) / 2)
    if "precision_z_nm" in ours:
        columns["uncertainty_z [nm]"] = ours["precision_z_nm"]
    if "n_frames" in ours:
        columns["detections"] = ours["n_frames"]  # as after ThunderSTORM's own merging
    extra = ("probability", "precision_x_nm", "precision_y_nm", "precision_photons")
    return columns | {name: ours[name] for name in extra if name in ours}


def write_header(file: BinaryIO, columns: Mapping[str, np.ndarray]) -> None:
    """The names, quoted as ThunderSTORM does."""
    file.write((",".join(f'"{name}"' for name in columns) + "\n").encode())


def write_rows(file: BinaryIO, columns: Mapping[str, np.ndarray]) -> None:
    """Lines of text: whole numbers as they are, others with four decimals; an unknown one is the word NaN, since other
    readers refuse or misread blank cells."""
    options = arrow_csv.WriteOptions(include_header=False, quoting_style="none")
    for start in range(0, len(columns["id"]), _PART_ROWS):
        part = slice(start, start + _PART_ROWS)
        cells = {name: _cells(column[part]) for name, column in columns.items()}
        arrow_csv.write_csv(pa.table(cells), file, options)


def _cells(column: np.ndarray) -> pa.Array:
    if column.dtype.kind == "i":
        return pa.array(column)
    finite = np.isfinite(column)
    try:
        cells = pa.array(column, mask=~finite).cast(_CELL).cast(pa.string())
    except pa.ArrowInvalid as error:
        raise EmitterError(f"a number beyond 1e33 ({error}) is none of a table: filter it out") from error
    if finite.all():
        return cells
    words = np.where(np.isnan(column), "NaN", np.where(column > 0, "inf", "-inf"))
    return pc.if_else(pa.array(finite), cells, pa.array(words))


class TableWriter:
    """A csv in ThunderSTORM's columns that grows while a movie is localized.

    Rows are written to ``<path>.partial``, which takes the name ``path`` when the block ends without an
    error. When it does not, the partial file stays if it has rows, so that nothing that was found is lost.
    Frames and ids count from 1. Columns that a network does not know (sigma, the background's deviation) are left out:
    readers go by the names, and refuse or misread empty cells. ``probability`` is ours and comes last, with the
    precision of each axis where there is one; ThunderSTORM's lateral uncertainty is the root mean square of x and y.

    Args:
        path: name of the finished file.
        with_z: write ``z [nm]`` (a 3D table).
        with_precision: the tables have columns of precision.
        after: what a partial file of before holds; what follows that there is cut off.

    Raises:
        EmitterError: another program is writing the same table.
    """

    def __init__(
        self, path: Path, with_z: bool, with_precision: bool = False, after: Written | None = None
    ) -> None:
        self.path = path
        self.partial_path = self.partial_of(path)
        self.n_rows = after.n_rows if after is not None else 0
        left_out = {"n_frames"} if with_precision else {"n_frames", *PRECISION_COLUMNS}
        left_out |= set() if with_z else {"z_nm", "precision_z_nm"}
        self._names = [name for name in NAMES if name not in left_out]
        self._file = open_alone(self.partial_path)
        kept = after.n_bytes if after is not None else 0
        self._file.truncate(kept)
        self._file.seek(kept)
        if kept:
            return
        none = EmitterTable.empty().with_columns(**dict.fromkeys(PRECISION_COLUMNS, np.empty(0)))
        write_header(self._file, self._columns(none))

    @staticmethod
    def partial_of(path: Path) -> Path:
        """The name of a table while it grows."""
        return path.with_name(path.name + ".partial")

    @property
    def n_bytes(self) -> int:
        """Of all that is written."""
        return self._file.tell()

    def write(self, table: EmitterTable) -> EmitterTable:
        """Append the rows of a table, in the order given; the table as the file has it, to so many digits."""
        rounded = {
            name: column if name == "frame" else column.round(_DIGITS)
            for name, column in table.columns().items()
        }
        table = EmitterTable(**rounded)
        if len(table):  # an empty one may lack columns
            write_rows(self._file, self._columns(table))
        self._file.flush()
        self.n_rows += len(table)
        return table

    def _columns(self, table: EmitterTable) -> dict[str, np.ndarray]:
        columns = table.columns()
        return file_columns({name: columns[name] for name in self._names}, self.n_rows + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._file.close()
            self.partial_path.replace(self.path)
            return
        with contextlib.suppress(OSError):  # a full disk, again
            self._file.close()
        if self.n_rows == 0:
            self.partial_path.unlink()
