"""Tables as Parquet: the columns of ``EmitterTable``, with names, units and frames as inside."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from emitter.core.errors import EmitterError
from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize
from emitter.io.acquisition import Acquisition
from emitter.io.files import replacing
from emitter.io.table_columns import NAMES, POSITIONS, checked_table

_MAGIC = b"PAR1"


def is_parquet(path: Path) -> bool:
    """Whether the file begins as a Parquet file does."""
    with path.open("rb") as file:
        return file.read(4) == _MAGIC


def read_parquet(path: Path, pixel_size: PixelSize | None) -> tuple[EmitterTable, Acquisition]:
    """Read the columns that have our names; a missing value is NaN.

    Raises:
        EmitterError: a broken file, no frame, x_nm or y_nm, or a column that is not numbers.
    """
    try:
        names = parquet.read_schema(path).names
        if not set(POSITIONS) <= set(names):
            raise EmitterError(
                f"table {path} has the columns {', '.join(names)}: expected {', '.join(POSITIONS)}"
            )
        table = parquet.read_table(path, columns=[name for name in NAMES if name in names])
        columns = {name: table[name].cast(pa.float64()).to_numpy() for name in table.column_names}
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise EmitterError(f"table {path} cannot be read ({reason}): copy or write it again") from error
    return checked_table(path, "a Parquet table", 0, columns), Acquisition(pixel_size)


def write_parquet(path: Path, table: EmitterTable, acquisition: Acquisition) -> None:
    """Write every column in full precision."""
    with replacing(path) as temporary:
        parquet.write_table(pa.table(table.columns()), temporary, compression="zstd")
