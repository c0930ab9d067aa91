"""Tables of emitters in every known format.

Inside, frames count from 0 and positions are nm from the image's outer corner; each format's own convention is
converted in its own file. A file is read by its content, whatever its name, and written by its ending.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from emitter.core.errors import EmitterError, require
from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize
from emitter.io import decode_h5, picasso
from emitter.io.acquisition import Acquisition
from emitter.io.csv_tables import read_csv, write_emitter_csv, write_thunderstorm
from emitter.io.files import writable
from emitter.io.hdf5_tables import is_hdf5, read_hdf5
from emitter.io.insight3 import is_insight3, read_insight3
from emitter.io.parquet import is_parquet, read_parquet, write_parquet
from emitter.io.parts import Parts
from emitter.io.smlm import is_smlm, read_smlm, write_smlm

__all__ = [
    "FORMATS",
    "FormatName",
    "check_output",
    "format_of",
    "read_parts",
    "read_table",
    "read_table_of",
    "write_parts",
    "write_table",
]

log = logging.getLogger(__name__)

FormatName = Literal["thunderstorm", "emitter", "picasso", "decode", "smlm", "parquet"]
Read = Callable[[Path, PixelSize | None], tuple[Parts, Acquisition]]
Write = Callable[[Path, Parts, Acquisition], None]


@dataclass(frozen=True)
class Format:
    """A format that is written: its ending, its writer, what can be checked before there is a table, and the columns
    that it has no place for."""

    suffix: str
    write: Write
    check: Callable[[Path, Acquisition], None] = lambda path, acquisition: None
    lacks: tuple[str, ...] = ()


FORMATS = {
    "emitter": Format(".csv", write_emitter_csv),
    "thunderstorm": Format(".csv", write_thunderstorm),
    "picasso": Format(".hdf5", picasso.write, picasso.check, lacks=("n_frames",)),
    "decode": Format(".h5", decode_h5.write, decode_h5.check, lacks=("n_frames",)),
    "smlm": Format(".smlm", write_smlm, lacks=("n_frames",)),
    "parquet": Format(".parquet", write_parquet),
}
# By content, in this order; what is none of them is read as text.
_READERS: tuple[tuple[Callable[[Path], bool], Read], ...] = (
    (is_insight3, read_insight3),
    (is_parquet, read_parquet),
    (is_hdf5, read_hdf5),
    (is_smlm, read_smlm),
)


def read_table(path: str | Path, pixel_size: PixelSize | None = None) -> EmitterTable:
    """Read a table of emitters; what the file does not hold is NaN (probability 1).

    Args:
        path: ThunderSTORM, challenge or emitter csv, Picasso hdf5, DECODE h5, SMLM 0.2, Parquet, SMAP mat (v7.3) or
            Insight3 bin, found from its content.
        pixel_size: for formats in pixels that do not tell it (Insight3; others when it is missing); where a file
            tells another, the given one counts.

    Raises:
        EmitterError: no such file, an unknown format, or a content that is not as its format has it. A table without
            rows is no error.
    """
    return read_table_of(path, pixel_size)[0]


def read_table_of(path: str | Path, pixel_size: PixelSize | None = None) -> tuple[EmitterTable, Acquisition]:
    """As ``read_table``, with what the file tells of its movie."""
    parts, acquisition = read_parts(path, pixel_size)
    return parts.table(), acquisition


def read_parts(path: str | Path, pixel_size: PixelSize | None = None) -> tuple[Parts, Acquisition]:
    """As ``read_table_of``, for tables that need not fit into memory.

    Csv whose rows are even, Parquet, Picasso's, DECODE's and SMLM files are read part by part, others at once. What is
    wrong with a row is told when its part is read.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise EmitterError(f"table {path} is a folder: give the name of a file in it")
    if not path.is_file():
        raise EmitterError(f"table {path} does not exist: check the path")
    read = next((read for is_of, read in _READERS if is_of(path)), read_csv)
    return read(path, pixel_size)


def write_table(
    path: str | Path,
    table: EmitterTable,
    format: str | None = None,  # noqa: A002
    acquisition: Acquisition | None = None,
) -> None:
    """Write a table that is in memory; see ``write_parts``."""
    write_parts(path, Parts.of(table), format, acquisition)


def write_parts(
    path: str | Path,
    parts: Parts,
    format: str | None = None,  # noqa: A002
    acquisition: Acquisition | None = None,
) -> None:
    """Write a table, whole or not at all, a block of rows in memory at a time.

    Args:
        path: its ending says the format, if ``format`` does not; ``.csv`` is our own csv then.
        parts: the emitters; columns of which nothing is known are left out where the format allows it.
        format: one of ``FORMATS``.
        acquisition: Picasso and DECODE need the pixel size; Picasso wants the movie's extent too.

    Raises:
        EmitterError: an ending or a format that is not written, something missing that the format needs, or a full
            disk.
    """
    path, acquisition = Path(path), acquisition or Acquisition()
    name = check_output(path, format, acquisition)
    for column in FORMATS[name].lacks:
        if column in parts.survey.known and parts.survey.n_rows:
            log.warning("%s has no place for the column %s, which is left out", path, column)
    with writable(path):
        FORMATS[name].write(path, parts, acquisition)


def check_output(path: Path, format: str | None, acquisition: Acquisition) -> str:  # noqa: A002
    """The name of the format in which ``write_parts`` would write; to be asked before the work on the table begins.

    Raises:
        EmitterError: it could not be written, as far as can be told without the table.
    """
    name = format or format_of(path, csv="emitter")
    require(name in FORMATS, f"format is '{name}': choose one of {', '.join(FORMATS)}")
    FORMATS[name].check(path, acquisition)
    return name


def format_of(path: Path, csv: str = "thunderstorm") -> str:
    """The name of the format that a file's ending says; ``csv`` is the one that ``.csv`` stands for.

    Raises:
        SettingsError: an ending that is not written.
    """
    names = {known.suffix: name for name, known in FORMATS.items()} | {".csv": csv}
    read_only = {".mat": "SMAP's tables are read only, ", ".bin": "Insight3's tables are read only, "}
    require(
        path.suffix in names,
        f"output is '{path}': {read_only.get(path.suffix, '')}give a name with the ending of a format that is "
        f"written, {', '.join(names)}",
    )
    return names[path.suffix]
