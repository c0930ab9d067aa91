"""Tables as Parquet: the columns of ``EmitterTable``, with names, units and frames as inside."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from emitter.core.errors import EmitterError
from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize
from emitter.io.acquisition import Acquisition
from emitter.io.files import replacing
from emitter.io.parts import BLOCK_ROWS, Parts
from emitter.io.table_columns import NAMES, POSITIONS, checked_table

_MAGIC = b"PAR1"


def is_parquet(path: Path) -> bool:
    """Whether the file begins as a Parquet file does."""
    with path.open("rb") as file:
        return file.read(4) == _MAGIC


def read_parquet(path: Path, pixel_size: PixelSize | None) -> tuple[Parts, Acquisition]:
    """Read the columns that have our names; a missing value is NaN.

    Raises:
        EmitterError: a broken file, no frame, x_nm or y_nm, or a column that is not numbers.
    """
    return Parts(partial(_parts, path)), Acquisition(pixel_size)


def _parts(path: Path) -> Iterator[EmitterTable]:
    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            if not set(POSITIONS) <= set(schema.names):
                raise EmitterError(
                    f"table {path} has the columns {', '.join(schema.names)}: expected {', '.join(POSITIONS)}"
                )
            names = [name for name in NAMES if name in schema.names]
            n_rows = 0
            for part in chain([schema.empty_table()], file.iter_batches(BLOCK_ROWS, columns=names)):
                columns = {
                    name: part.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False)
                    for name in names
                }
                yield checked_table(path, "a Parquet table", 0, columns, n_rows)
                n_rows += part.num_rows
    except (pa.ArrowException, KeyError, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise EmitterError(f"table {path} cannot be read ({reason}): copy or write it again") from error


def write_parquet(path: Path, parts: Parts, acquisition: Acquisition) -> None:
    """Write every column in full precision, a row group for each block."""
    kinds = {name: pa.int64() if name == "frame" else pa.float64() for name in parts.survey.names}
    schema = pa.schema(kinds)
    with (
        replacing(path) as temporary,
        parquet.ParquetWriter(temporary, schema, compression="zstd") as writer,
    ):
        for block in parts.blocks():
            writer.write_table(pa.table(block.columns(), schema))
