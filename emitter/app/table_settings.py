"""What every program that works on a table asks for: the table, and where its result goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from emitter.core.errors import EmitterError
from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize
from emitter.io.acquisition import Acquisition
from emitter.io.files import require_apart
from emitter.io.parts import Parts
from emitter.io.tables import check_output, format_of, read_parts


@dataclass(frozen=True, kw_only=True)
class TableSettings:
    """A table and an output; the pixel size only for tables in pixels (Insight3)."""

    localizations: Path
    output: Path
    pixel_size_nm: float | tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _ = self.pixel_size  # checked by building it
        require_apart(self.outputs(), self.inputs())

    def inputs(self) -> tuple[Path, ...]:
        """Files that are read."""
        return (self.localizations,)

    def outputs(self) -> tuple[Path, ...]:
        """Files that are written."""
        return (self.output,)

    @property
    def pixel_size(self) -> PixelSize | None:
        """The pixel size, when it is given."""
        return None if self.pixel_size_nm is None else PixelSize.of(self.pixel_size_nm)

    def read(self) -> tuple[EmitterTable, Acquisition]:
        """The table's rows, and what it tells of its movie.

        Raises:
            EmitterError: it cannot be read, or has no rows.
        """
        parts, acquisition = self.read_parts()
        table = parts.table()
        self.require_rows(len(table))
        return table, acquisition

    def read_parts(self) -> tuple[Parts, Acquisition]:
        """As ``read``, for tables that need not fit into memory; whether there are rows is for who reads them to ask.

        Raises:
            EmitterError: it cannot be read.
        """
        return read_parts(self.localizations, self.pixel_size)

    def require_rows(self, n_rows: int) -> None:
        """Raise ``EmitterError`` for a table without rows."""
        if not n_rows:
            raise EmitterError(f"table {self.localizations} has no rows: give one with localizations")


@dataclass(frozen=True, kw_only=True)
class TableToTableSettings(TableSettings):
    """A table and an output that is a table too."""

    def __post_init__(self) -> None:
        super().__post_init__()
        format_of(self.output, csv="emitter")  # an ending that is not written is told before any work

    def read_parts(self) -> tuple[Parts, Acquisition]:
        """As that of any table; a format that needs what this one does not tell is refused before any work too."""
        parts, acquisition = super().read_parts()
        check_output(self.output, None, acquisition)
        return parts, acquisition
