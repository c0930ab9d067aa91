"""filter.py: the rows of a table for which an expression of its columns is true."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from emitter.analysis.filtering import filtered
from emitter.app.table_settings import TableToTableSettings
from emitter.core.errors import require
from emitter.core.table import EmitterTable
from emitter.io.files import prepare_output
from emitter.io.tables import write_table

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


def run(settings: Settings) -> EmitterTable:
    """Write the rows that fulfil ``where``, which are returned too.

    Raises:
        EmitterError: a table that cannot be read, an expression that is not one, or an output that cannot be written.
    """
    path = prepare_output(settings.output)
    table, acquisition = settings.read()
    kept = filtered(table, settings.where)
    write_table(path, kept, acquisition=acquisition)
    unknown = [
        name for name, column in table.columns().items() if name in settings.where and np.isnan(column).all()
    ]
    if not len(kept) and unknown:
        log.warning(
            "no row is left: %s holds no values, and a comparison with nothing is false", ", ".join(unknown)
        )
    log.info("%d of %d localizations fulfil %s", len(kept), len(table), settings.where)
    log.info("wrote %s", path)
    return kept
