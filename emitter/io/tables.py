"""Tables of emitters: reading any known format, writing our own.

Known by their column names: ThunderSTORM csv (2D, 3D, older names), the SMLM challenge's csv, our own csv
(the columns of ``EmitterTable``), separated by commas, semicolons or tabs. Known by its first bytes:
Insight3 ``.bin``. Inside, frames count from 0 and positions are nm from the image's outer corner; each
format's own convention is converted here.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from emitter.core.errors import EmitterError
from emitter.core.table import PRECISION_COLUMNS, EmitterTable
from emitter.core.units import PixelSize
from emitter.io.files import replacing
from emitter.io.insight3 import is_insight3, read_insight3

__all__ = ["read_table", "write_table"]


@dataclass(frozen=True)
class _Format:
    """The file's columns for each of ours (the first that is there counts), and its first frame's number."""

    name: str
    first_frame: int
    columns: dict[str, tuple[str, ...]]

    @property
    def required(self) -> list[str]:
        return [self.columns[name][0] for name in ("frame", "x_nm", "y_nm")]


_OWN_NAMES = (
    "frame",
    "x_nm",
    "y_nm",
    "z_nm",
    "photons",
    "background",
    "probability",
    *PRECISION_COLUMNS,
    "n_frames",
)
_SEPARATORS = (",", ";", "\t")
_MAX_FRAME = 2**31 - 1  # what other programs hold, and far from where int64 overflows
_UNCERTAINTY = ("uncertainty_xy [nm]", "uncertainty [nm]")
_FORMATS = (
    _Format("emitter csv", 0, {name: (name,) for name in _OWN_NAMES}),
    _Format(
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
    _Format(
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


def read_table(path: str | Path, pixel_size: PixelSize | None = None) -> EmitterTable:
    """Read a table of emitters; what the file does not hold is NaN (probability 1).

    Args:
        path: the file; its format is found from its content.
        pixel_size: needed for formats in pixels (Insight3 ``.bin``).

    Raises:
        EmitterError: no such file, an unknown format (naming the columns found and expected), or a row that
            is not numbers. A table without rows is no error.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise EmitterError(f"table {path} does not exist: check the path")
    if is_insight3(path):
        return read_insight3(path, pixel_size)
    names, separator, table_format = _columns_of(path, _header(path))
    numbers = _read_numbers(path, names, separator)
    columns = {}
    for ours, candidates in table_format.columns.items():
        present = [name for name in candidates if name in numbers]
        if present:
            columns[ours] = (
                _finite(path, numbers, present[0]) if ours in _OWN_NAMES[:3] else numbers[present[0]]
            )
    frame = columns.pop("frame")
    bad = (frame != np.round(frame)) | (frame < table_format.first_frame) | (frame > _MAX_FRAME)
    if bad.any():
        raise EmitterError(
            f"row {int(np.argmax(bad)) + 1} of {path} has frame {frame[bad][0]:g}: the frames of a "
            f"{table_format.name} are whole numbers from {table_format.first_frame} to {_MAX_FRAME}"
        )
    return EmitterTable.of(frame.astype(np.int64) - table_format.first_frame, **columns)


def write_table(path: str | Path, table: EmitterTable) -> None:
    """Write our own csv: the columns of ``EmitterTable`` in full precision, whole or not at all."""
    with replacing(Path(path)) as temporary:
        pd.DataFrame(table.columns()).to_csv(temporary, index=False)


def _header(path: Path) -> str:
    """The first line."""
    with path.open("rb") as file:
        line = file.readline(100_000)
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise EmitterError(f"{path} is not a table of text: give {_known()} or Insight3 .bin")
    if not text.strip():
        raise EmitterError(f"table {path} is empty: give {_known()}")
    return text


def _known() -> str:
    return ", ".join(known.name for known in _FORMATS)


def _columns_of(path: Path, header: str) -> tuple[list[str], str, _Format]:
    """Names of the columns, separator and format that the first line tells."""
    for separator in _SEPARATORS:
        names = _names(header, separator)
        for table_format in _FORMATS:
            if set(table_format.required) <= set(names):
                twice = [name for name in names if names.count(name) > 1]
                if twice:
                    raise EmitterError(f"table {path} has the column '{twice[0]}' twice: leave one out")
                return names, separator, table_format
    expected = "; or ".join(f"{', '.join(known.required)} ({known.name})" for known in _FORMATS)
    found = ", ".join(_names(header, ","))[:200]
    raise EmitterError(f"table {path} has the columns {found}: expected {expected}")


def _names(header: str, separator: str) -> list[str]:
    """Column names, whatever their quoting, in lower case; a column without a name is called by its place."""
    names = [" ".join(name.split()).lower() for name in header.replace('"', "").split(separator)]
    return [name or f"column {place}" for place, name in enumerate(names, 1)]


def _read_numbers(path: Path, names: list[str], separator: str) -> dict[str, np.ndarray]:
    """All columns by name as float64; a blank cell is NaN."""
    # pandas refuses rows that are wider than the first and cuts them where the first is as wide
    wide = _has_wider_rows(path, len(names), separator)
    try:
        frame = pd.read_csv(
            path,
            sep=separator,
            header=None,
            skiprows=1,
            names=names,
            usecols=range(len(names)) if wide else None,
            index_col=False,
            skipinitialspace=True,
            dtype=str,
        )
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


def _finite(path: Path, numbers: dict[str, np.ndarray], name: str) -> np.ndarray:
    missing = ~np.isfinite(numbers[name])
    if missing.any():
        raise EmitterError(
            f"row {int(np.argmax(missing)) + 1} of {path} has no number in column {name}: fill it or leave "
            "the row out"
        )
    return numbers[name]
