"""What every program that works on a table asks for: the table, and where its result goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from emitter.core.errors import EmitterError
from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize
from emitter.io.tables import read_table


@dataclass(frozen=True, kw_only=True)
class TableSettings:
    """A table and an output; the pixel size only for tables in pixels (Insight3)."""

    localizations: Path
    output: Path
    pixel_size_nm: float | tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _ = self.pixel_size  # checked by building it

    @property
    def pixel_size(self) -> PixelSize | None:
        """The pixel size, when it is given."""
        return None if self.pixel_size_nm is None else PixelSize.of(self.pixel_size_nm)

    def read(self) -> EmitterTable:
        """The table's rows.

        Raises:
            EmitterError: it cannot be read, or has no rows.
        """
        table = read_table(self.localizations, self.pixel_size)
        if not len(table):
            raise EmitterError(f"table {self.localizations} has no rows: give one with localizations")
        return table
