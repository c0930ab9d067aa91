"""link.py: the localizations of one blink, frame after frame, merged into one row."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from emitter.analysis.linking import LinkSettings, linked
from emitter.app.progress import progress
from emitter.app.table_settings import TableToTableSettings
from emitter.core.table import EmitterTable
from emitter.io.files import prepare_output
from emitter.io.tables import write_table

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Settings(TableToTableSettings):
    """What conf/link.yaml says; its comments explain every key."""

    max_distance_nm: float = 50.0
    max_axial_nm: float = 150.0
    max_dark_frames: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.link  # checked by building it

    @property
    def link(self) -> LinkSettings:
        """What counts as the same emitter."""
        return LinkSettings(self.max_distance_nm, self.max_axial_nm, self.max_dark_frames)


def run(settings: Settings) -> EmitterTable:
    """Write the merged table, which is returned too; of a table without rows one without rows.

    Raises:
        EmitterError: a table that cannot be read, far too many neighbours, or an output that cannot be written.
    """
    path = prepare_output(settings.output)
    parts, acquisition = settings.read_parts()
    table = parts.table()
    with progress("link"):
        merged = linked(table, settings.link)
    write_table(path, merged, acquisition=acquisition)
    log.info(
        "%d localizations became %d rows, %.3g each",
        len(table),
        len(merged),
        len(table) / max(len(merged), 1),
    )
    log.info("wrote %s", path)
    return merged
