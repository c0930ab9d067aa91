"""filter.py: the rows of a table for which an expression of its columns is true."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from emitter.analysis.filtering import filtered
from emitter.app.table_settings import TableToTableSettings
from emitter.core.errors import require
from emitter.core.table import EmitterTable
from emitter.io.files import prepare_output
from emitter.io.parts import Parts
from emitter.io.tables import write_parts

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Settings(TableToTableSettings):
    """What conf/filter.yaml says; its comments explain every key."""

    where: str

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            bool(self.where.strip()), "where is empty: give an expression of columns, as in 'photons > 500'"
        )


@dataclass
class _Filter:
    """The rows that fulfil an expression, part by part, and how many there were before."""

    parts: Parts
    where: str
    n_rows: int = 0

    def kept(self) -> Iterator[EmitterTable]:
        """Begins anew with the first part."""
        self.n_rows = 0
        for part in self.parts:
            self.n_rows += len(part)
            yield filtered(part, self.where, self.parts.unread) if len(part) else part


def run(settings: Settings) -> dict[str, Any]:
    """Write the rows that fulfil ``where``, a part of the table in memory at a time.

    Returns:
        The path ``output``, and ``n_emitters``, the rows that are left.

    Raises:
        EmitterError: a table that cannot be read, an expression that is not one, or an output that cannot be written.
    """
    path = prepare_output(settings.output)
    parts, acquisition = settings.read_parts()
    rows = _Filter(parts, settings.where)
    kept = Parts(rows.kept)
    n_kept = kept.survey.n_rows
    settings.require_rows(rows.n_rows)
    write_parts(path, kept, acquisition=acquisition)
    if not n_kept:
        _say_what_holds_nothing(parts, settings.where)
    log.info("%d of %d localizations fulfil %s", n_kept, rows.n_rows, settings.where)
    log.info("wrote %s", path)
    return {"output": path, "n_emitters": n_kept}


def _say_what_holds_nothing(parts: Parts, where: str) -> None:
    unknown = [name for name in parts.survey.names if name in where and name not in parts.survey.known]
    if unknown:
        log.warning(
            "no row is left: %s holds no values, and a comparison with nothing is false", ", ".join(unknown)
        )
