"""How far a piece of work is, told by the functions that do it to whoever shows it."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[float], None]  # is told the share of the work that is done, 0 to 1


def untold(share: float) -> None:
    """Nobody is told."""


def part(report: Report, number: int, of: int) -> Report:
    """What one of so many equal parts of the work reports to; ``number`` counts from 0."""
    return lambda share: report((number + share) / of)
