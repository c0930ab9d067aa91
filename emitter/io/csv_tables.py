"""Tables as text: ThunderSTORM csv (2D, 3D, older names), the SMLM challenge's csv, and our own csv.

Separated by commas, semicolons or tabs; known by their column names, whatever the quoting. ThunderSTORM's and the
challenge's frames count from 1, ours from 0; all have their origin at the image's outer corner.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv as arrow_csv

from emitter.core.errors import EmitterError
from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize
from emitter.io.acquisition import Acquisition
from emitter.io.files import replacing
from emitter.io.parts import Parts
from emitter.io.table_columns import NAMES, checked_table, pick
from emitter.io.thunderstorm import file_columns, write_header, write_rows

_UNCERTAINTY = ("uncertainty_xy [nm]", "uncertainty [nm]")


@dataclass(frozen=True)
class _Layout:
    """The file's columns for each of ours (the first that is there counts), and its first frame's number."""

    name: str
    first_frame: int
    columns: dict[str, tuple[str, ...]]

    @property
    def required(self) -> list[str]:
        return [self.columns[name][0] for name in ("frame", "x_nm", "y_nm")]


_LAYOUTS = (
    _Layout("emitter csv", 0, {name: (name,) for name in NAMES}),
    _Layout(
        "ThunderSTORM csv",
        1,
        {
            "frame": ("frame",),
            "x_nm": ("x [nm]",),
            "y_nm": ("y [nm]",),
            "z_nm": ("z [nm]",),
            "photons": ("intensity [photon]",),
            "background": ("offset [photon]",),
            "probability": ("probability",),
            "precision_x_nm": ("precision_x_nm", *_UNCERTAINTY),
            "precision_y_nm": ("precision_y_nm", *_UNCERTAINTY),
            "precision_z_nm": ("uncertainty_z [nm]",),
            "precision_photons": ("precision_photons",),
            "n_frames": ("detections",),
        },
    ),
    _Layout(
        "challenge csv",
        1,
        {
            "frame": ("frame",),
            "x_nm": ("xnano",),
            "y_nm": ("ynano",),
            "z_nm": ("znano",),
            "photons": ("intensity",),
        },
    ),
)
_PART_BYTES = 1 << 20  # of text that is read at a time; Arrow reads up to 32 of them ahead
_SEPARATORS = (",", ";", "\t")
_NULLS = ["", "nan", "NaN", "NAN", "null", "NULL", "NA", "N/A", "#N/A", "None"]


def read_csv(path: Path, pixel_size: PixelSize | None = None) -> tuple[Parts, Acquisition]:
    """Read a csv of any of the known layouts; a blank cell is NaN.

    Raises:
        EmitterError: an unknown layout (naming the columns found and expected), or a row that is not numbers.
    """
    names, separator, layout = _columns_of(path, _header(path))
    wanted = set(chain.from_iterable(layout.columns.values())) & set(names)
    unread = [name for name in names if name not in wanted]
    return Parts(partial(_parts, path, names, separator, layout, wanted), unread), Acquisition(pixel_size)


def _parts(
    path: Path, names: list[str], separator: str, layout: _Layout, wanted: set[str]
) -> Iterator[EmitterTable]:
    n_rows = 0
    for cells in _read_numbers(path, names, separator, wanted):
        columns = pick(cells, layout.columns)
        part = checked_table(path, layout.name, layout.first_frame, columns, n_rows)
        n_rows += len(part)
        yield part


def write_emitter_csv(path: Path, parts: Parts, acquisition: Acquisition) -> None:
    """Our own csv: the columns of ``EmitterTable`` in full precision, unknown ones as blank cells."""
    options = arrow_csv.WriteOptions(include_header=False, quoting_style="none")
    names = parts.survey.names
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(f"{','.join(names)}\n".encode())
        for block in parts.blocks():  # NaN becomes null, a blank cell
            cells = [pa.array(column, from_pandas=True) for column in block.columns().values()]
            arrow_csv.write_csv(pa.table(cells, names=names), file, options)


def write_thunderstorm(path: Path, parts: Parts, acquisition: Acquisition) -> None:
    """ThunderSTORM's columns, as far as they are known, and ours that it has none for."""
    names = {*parts.survey.known, "probability"}
    n_rows = 0
    with replacing(path) as temporary, temporary.open("wb") as file:
        write_header(file, file_columns(dict.fromkeys(names, np.empty(0))))
        for block in parts.blocks():
            columns = {name: column for name, column in block.columns().items() if name in names}
            write_rows(file, file_columns(columns, n_rows + 1))
            n_rows += len(block)


def _header(path: Path) -> str:
    """The first line."""
    with path.open("rb") as file:
        line = file.readline(100_000)
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if text.startswith("MATLAB 5.0"):
        raise EmitterError(f"{path} is a .mat file of before 7.3: save it with MATLAB's option -v7.3")
    if "\0" in text:
        raise EmitterError(
            f"{path} is not a table of text, nor of another known format: give {_known()}, Picasso .hdf5, DECODE .h5, "
            ".smlm, .parquet, SMAP .mat or Insight3 .bin"
        )
    if not text.strip():
        raise EmitterError(f"table {path} is empty: give {_known()}")
    return text


def _known() -> str:
    return ", ".join(known.name for known in _LAYOUTS)


def _columns_of(path: Path, header: str) -> tuple[list[str], str, _Layout]:
    """Names of the columns, separator and layout that the first line tells."""
    for separator in _SEPARATORS:
        names = _names(header, separator)
        for layout in _LAYOUTS:
            if set(layout.required) <= set(names):
                twice = [name for name in names if names.count(name) > 1]
                if twice:
                    raise EmitterError(f"table {path} has the column '{twice[0]}' twice: leave one out")
                return names, separator, layout
    expected = "; or ".join(f"{', '.join(known.required)} ({known.name})" for known in _LAYOUTS)
    found = ", ".join(_names(header, ","))[:200]
    raise EmitterError(f"table {path} has the columns {found}: expected {expected}")


def _names(header: str, separator: str) -> list[str]:
    """Column names, whatever their quoting, in lower case; a column without a name is called by its place."""
    names = [" ".join(name.split()).lower() for name in header.replace('"', "").split(separator)]
    return [name or f"column {place}" for place, name in enumerate(names, 1)]


def _read_numbers(
    path: Path, names: list[str], separator: str, wanted: set[str]
) -> Iterator[Mapping[str, np.ndarray]]:
    """The wanted columns by name as float64, part by part; a blank cell is NaN. The others may hold anything."""
    n_rows = 0
    try:
        for cells in _read_even(path, names, separator, wanted):
            yield cells
            n_rows += len(next(iter(cells.values())))
    except pa.ArrowInvalid:  # rows of unequal width, or a cell that is no number, or no row at all
        cells = _read_uneven(path, names, separator, wanted)  # slower, says which, and takes all at once
        yield {name: column[n_rows:] for name, column in cells.items()}
    except OSError as error:
        raise EmitterError(
            f"table {path} cannot be read ({' '.join(str(error).split())}): check the file"
        ) from error


def _read_even(
    path: Path, names: list[str], separator: str, wanted: set[str]
) -> Iterator[Mapping[str, np.ndarray]]:
    """The columns of a file whose rows all have the header's cells."""
    with arrow_csv.open_csv(
        path,
        arrow_csv.ReadOptions(skip_rows=1, column_names=names, block_size=_PART_BYTES),
        arrow_csv.ParseOptions(delimiter=separator),
        arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(wanted, pa.float64()),
            null_values=_NULLS,
            include_columns=sorted(wanted),
        ),
    ) as batches:
        for batch in chain([batches.schema.empty_table()], batches):
            yield {name: batch.column(name).to_numpy(zero_copy_only=False) for name in wanted}


def _read_uneven(path: Path, names: list[str], separator: str, wanted: set[str]) -> Mapping[str, np.ndarray]:
    """The columns of a file with rows that are longer by blank cells, or have blanks around numbers.

    Raises:
        EmitterError: a row that ends before its last column, or a cell that is not a number.
    """
    # pandas refuses rows that are wider than the first and cuts them where the first is as wide
    wide = _has_wider_rows(path, names, separator)

    def parse(dtype: type) -> pd.DataFrame:
        return pd.read_csv(
            path,
            sep=separator,
            header=None,
            skiprows=1,
            names=names,
            usecols=range(len(names)) if wide else None,
            index_col=False,
            skipinitialspace=True,
            dtype={name: dtype if name in wanted else str for name in names},
        )

    try:
        try:
            frame = parse(float)
            return {name: frame[name].to_numpy() for name in wanted}
        except ValueError:  # as words, much slower: which cell is it?
            frame = parse(str)
    except pd.errors.EmptyDataError:
        return {name: np.empty(0) for name in wanted}
    except (pd.errors.ParserError, UnicodeDecodeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise EmitterError(f"table {path} cannot be read ({reason}): write it again") from error
    return {name: _as_floats(path, name, frame[name]) for name in names if name in wanted}


def _has_wider_rows(path: Path, names: list[str], separator: str) -> bool:
    """Whether there are rows with blank cells beyond the header's columns.

    Raises:
        EmitterError: cells there that are not blank, as decimal commas make them, or a row without a cell for each
            column that has a name.
    """
    n_columns = n_named = len(names)
    while n_named and names[n_named - 1] == f"column {n_named}":
        n_named -= 1
    wider = False
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        for row, line in enumerate(line for line in file if line.strip()):
            n_cells = line.count(separator) + 1
            if row == 0 or ('"' not in line and n_named <= n_cells <= n_columns):
                continue
            beyond = line.split(separator, n_columns)[n_columns:]
            if '"' not in line and beyond and not beyond[0].strip(f"{separator} \r\n"):
                wider = True
                continue
            cells = next(csv.reader([line], delimiter=separator))
            if len(cells) < n_named:
                raise EmitterError(
                    f"row {row} of {path} has {len(cells)} cells and the header {n_columns}, as in a file that is cut "
                    "off: copy or write it again, or leave the row out"
                )
            if any(cell.strip() for cell in cells[n_columns:]):
                raise EmitterError(
                    f"row {row} of {path} has {len(cells)} cells and the header {n_columns}: write numbers with "
                    "decimal points instead of decimal commas, one cell for each column"
                )
            wider = wider or len(cells) > n_columns
    return wider


def _as_floats(path: Path, name: str, cells: pd.Series) -> np.ndarray:
    values = pd.to_numeric(cells.str.strip().replace("", None), errors="coerce").to_numpy(np.float64)
    wrong = np.isnan(values) & cells.notna().to_numpy() & (cells.str.strip() != "").to_numpy()
    if wrong.any():
        row = int(np.argmax(wrong))
        raise EmitterError(
            f"row {row + 1} of {path} has '{str(cells.iloc[row])[:40]}' in column {name}: "
            "every cell must be a number, with a decimal point"
        )
    return values
