"""Tables as text: ThunderSTORM csv (2D, 3D, older names), the SMLM challenge's csv, and our own csv.

Separated by commas, semicolons or tabs; known by their column names, whatever the quoting. ThunderSTORM's and the
challenge's frames count from 1, ours from 0; all have their origin at the image's outer corner.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from emitter.core.errors import EmitterError
from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize
from emitter.io.acquisition import Acquisition
from emitter.io.files import replacing
from emitter.io.table_columns import NAMES, checked_table, known_columns, pick

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
_SEPARATORS = (",", ";", "\t")
_NULLS = ["", "nan", "NaN", "NAN", "null", "NULL", "NA", "N/A", "#N/A", "None"]
_DECIMALS = 4  # 0.1 pm, 0.0001 photons: as localize.py writes them


def read_csv(path: Path, pixel_size: PixelSize | None = None) -> tuple[EmitterTable, Acquisition]:
    """Read a csv of any of the known layouts; a blank cell is NaN.

    Raises:
        EmitterError: an unknown layout (naming the columns found and expected), or a row that is not numbers.
    """
    names, separator, layout = _columns_of(path, _header(path))
    columns = pick(_read_numbers(path, names, separator), layout.columns)
    return checked_table(path, layout.name, layout.first_frame, columns), Acquisition(pixel_size)


def write_emitter_csv(path: Path, table: EmitterTable, acquisition: Acquisition) -> None:
    """Our own csv: the columns of ``EmitterTable`` in full precision, unknown ones as blank cells."""
    columns = table.columns()
    arrays = [
        pa.array(column, from_pandas=True) for column in columns.values()
    ]  # NaN becomes null, a blank cell
    _write(path, ",".join(columns), arrays)


def write_thunderstorm(path: Path, table: EmitterTable, acquisition: Acquisition) -> None:
    """ThunderSTORM's columns, as far as they are known; what it has no column for follows after the last.

    Its one lateral uncertainty is the root mean square of x's and y's.
    """
    known = known_columns(table)
    columns: dict[str, np.ndarray] = {"id": np.arange(1, len(table) + 1), "frame": table.frame + 1}
    columns |= {"x [nm]": table.x_nm, "y [nm]": table.y_nm}
    for ours, theirs in (
        ("z_nm", "z [nm]"),
        ("photons", "intensity [photon]"),
        ("background", "offset [photon]"),
    ):
        if ours in known:
            columns[theirs] = known[ours]
    if {"precision_x_nm", "precision_y_nm"} <= known.keys():
        columns["uncertainty_xy [nm]"] = np.hypot(known["precision_x_nm"], known["precision_y_nm"]) / np.sqrt(
            2
        )
    if "precision_z_nm" in known:
        columns["uncertainty_z [nm]"] = known["precision_z_nm"]
    columns["probability"] = table.probability
    for name in ("precision_x_nm", "precision_y_nm", "precision_photons"):
        if name in known:
            columns[name] = known[name]
    _write(path, ",".join(f'"{name}"' for name in columns), [_cells(column) for column in columns.values()])


def _cells(column: np.ndarray) -> pa.Array:
    """Rounded; an unknown value is the word NaN, since other readers refuse or misread blank cells."""
    if column.dtype.kind == "i":
        return pa.array(column)
    cells = pa.array(np.round(column, _DECIMALS))
    if not np.isnan(column).any():
        return cells
    return pc.if_else(pa.array(np.isnan(column)), "NaN", pc.cast(cells, pa.string()))


def _write(path: Path, header: str, arrays: list[pa.Array]) -> None:
    options = arrow_csv.WriteOptions(include_header=False, quoting_style="none")
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(f"{header}\n".encode())
        arrow_csv.write_csv(pa.table(arrays, names=[str(i) for i in range(len(arrays))]), file, options)


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


def _read_numbers(path: Path, names: list[str], separator: str) -> Mapping[str, np.ndarray]:
    """All columns by name as float64; a blank cell is NaN."""
    try:
        return _read_even(path, names, separator)
    except (
        pa.ArrowInvalid
    ):  # rows of unequal width, or a cell that is no number: the slower reader says which
        return _read_uneven(path, names, separator)


def _read_even(path: Path, names: list[str], separator: str) -> Mapping[str, np.ndarray]:
    """The columns of a file whose rows all have the header's cells, in blocks on all cores."""
    table = arrow_csv.read_csv(
        path,
        arrow_csv.ReadOptions(skip_rows=1, column_names=names),
        arrow_csv.ParseOptions(delimiter=separator),
        arrow_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.float64()), null_values=_NULLS),
    )
    return {name: table[name].to_numpy() for name in names}


def _read_uneven(path: Path, names: list[str], separator: str) -> Mapping[str, np.ndarray]:
    """The columns of a file with rows that are shorter, or longer by blank cells, or have blanks around numbers.

    Raises:
        EmitterError: a cell that is not a number.
    """
    # pandas refuses rows that are wider than the first and cuts them where the first is as wide
    wide = _has_wider_rows(path, len(names), separator)

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
            dtype=dtype,
        )

    try:
        try:
            frame = parse(float)
            return {name: frame[name].to_numpy() for name in names}
        except ValueError:  # as words, much slower: which cell is it?
            frame = parse(str)
    except pd.errors.EmptyDataError:
        return {name: np.empty(0) for name in names}
    except (pd.errors.ParserError, UnicodeDecodeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise EmitterError(f"table {path} cannot be read ({reason}): write it again") from error
    return {name: _as_floats(path, name, frame[name]) for name in names}


def _has_wider_rows(path: Path, n_columns: int, separator: str) -> bool:
    """Whether there are rows with blank cells beyond the header's columns.

    Raises:
        EmitterError: cells there that are not blank, as decimal commas make them.
    """
    wider = False
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        for row, line in enumerate(line for line in file if line.strip()):
            if row == 0 or line.count(separator) < n_columns:
                continue
            beyond = line.split(separator, n_columns)[n_columns]
            if '"' not in line and not beyond.strip(f"{separator} \r\n"):
                wider = True
                continue
            cells = next(csv.reader([line], delimiter=separator))
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
