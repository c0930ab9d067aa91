"""A table of emitters in parts, for tables that need not fit into memory.

What a format must know of the whole before its first row is written (the number of rows, the columns of which anything
is known, the last frame) comes from a first pass over the parts; the rows follow in a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from emitter.core.table import EmitterTable
from emitter.io.table_columns import POSITIONS

BLOCK_ROWS = 1 << 17  # in memory at a time: 12 MB of eleven columns
_SAMPLED = 1 << 18  # values from which a median is taken


@dataclass(frozen=True)
class Survey:
    """What one pass over a table tells of the whole.

    Args:
        n_rows: of all parts.
        names: the columns that every part with rows has, in their standard order.
        known: those of them that hold at least one number, besides frame, x_nm and y_nm; in a table without rows all.
        largest: the largest finite frame, x_nm and y_nm; 0 where nothing is larger.
    """

    n_rows: int
    names: tuple[str, ...]
    known: tuple[str, ...]
    largest: dict[str, float]


class Parts:
    """A table as several, in order; it can be gone through as often as needed.

    Args:
        again: begins anew with the first part. Columns of which nothing is known may lack in a part without rows.
        unread: the file's columns that a table of emitters has no place for, as far as its reader tells them.
    """

    def __init__(self, again: Callable[[], Iterable[EmitterTable]], unread: Iterable[str] = ()) -> None:
        self._again = again
        self.unread = tuple(unread)

    @classmethod
    def of(cls, *tables: EmitterTable) -> Parts:
        """Of tables that are in memory."""
        return cls(lambda: tables)

    def __iter__(self) -> Iterator[EmitterTable]:
        return iter(self._again())

    def table(self) -> EmitterTable:
        """All rows at once."""
        parts = list(self)
        if not any(map(len, parts)):
            return parts[0] if parts else EmitterTable.empty()
        return parts[0] if len(parts) == 1 else EmitterTable.concatenate(parts)

    @cached_property
    def survey(self) -> Survey:
        """From a pass over all parts, the first time that it is asked for."""
        n_rows, names = 0, list[str]()
        known: set[str] = set()
        largest = dict.fromkeys(POSITIONS, 0.0)
        for part in self:
            columns = part.columns()
            if not names or (n_rows == 0 and len(part)):
                names = list(columns)
            elif len(part):
                names = [name for name in names if name in columns]
            n_rows += len(part)
            known |= {name for name in columns.keys() - known if not np.isnan(columns[name]).all()}
            for name in POSITIONS if len(part) else ():
                finite = columns[name][np.isfinite(columns[name])]
                largest[name] = float(finite.max(initial=largest[name]))
        names = names or list(EmitterTable.empty().columns())
        kept = (name for name in names if n_rows == 0 or name in known or name in POSITIONS)
        return Survey(n_rows, tuple(names), tuple(kept), largest)

    def blocks(self) -> Iterator[EmitterTable]:
        """The rows in blocks of ``BLOCK_ROWS``, the last of which may be shorter, with the columns of ``survey.names``:
        the same blocks however the table is parted."""
        names = self.survey.names
        parts = (part.columns() for part in self if len(part))
        yield from in_blocks(
            (EmitterTable(**{name: part[name] for name in names}) for part in parts), BLOCK_ROWS
        )


def in_blocks(parts: Iterable[EmitterTable], block_rows: int) -> Iterator[EmitterTable]:
    """The rows of all parts in blocks of so many, the last of which may be shorter."""
    block: list[EmitterTable] = []
    n_rows = 0
    for part in parts:
        start = 0
        while start < len(part):
            block.append(part.select(slice(start, start + block_rows - n_rows)))
            n_rows += len(block[-1])
            start += len(block[-1])
            if n_rows == block_rows:
                yield EmitterTable.concatenate(block)
                block, n_rows = [], 0
    if block:
        yield EmitterTable.concatenate(block)


def row_blocks(n_rows: int) -> Iterator[slice]:
    """Rows that are read at a time; one block without rows where there are none."""
    for start in range(0, max(1, n_rows), BLOCK_ROWS):
        yield slice(start, min(start + BLOCK_ROWS, n_rows))


class Sample:
    """Every value of a long column, or every second, fourth, …: few enough to keep, and the same however the column is
    parted."""

    def __init__(self) -> None:
        self._kept: np.ndarray = np.empty(0)
        self._every, self._seen = 1, 0

    def add(self, values: np.ndarray) -> None:
        """The column's next values."""
        first = -self._seen % self._every
        self._seen += len(values)
        self._kept = np.concatenate([self._kept, values[first :: self._every]])
        while len(self._kept) > _SAMPLED:
            self._kept = self._kept[::2].copy()
            self._every *= 2

    def median(self) -> float:
        """Of what was kept; NaN of nothing."""
        return float(np.median(self._kept)) if len(self._kept) else np.nan

    def percentiles(self, *percents: float) -> tuple[float, ...]:
        """Of what was kept; NaN of nothing."""
        kept = self._kept if len(self._kept) else np.full(1, np.nan)
        return tuple(np.percentile(kept, percents).tolist())
