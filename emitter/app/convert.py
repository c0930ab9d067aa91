"""convert.py: a table of emitters in one format → the same in another."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emitter.core.units import PixelSize
from emitter.io.acquisition import Acquisition
from emitter.io.files import prepare_output, require_apart
from emitter.io.tables import FormatName, check_output, format_of, read_parts, write_parts

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What conf/convert.yaml says; its comments explain every key."""

    table: Path
    output: Path
    format: FormatName | None = None
    pixel_size_nm: float | tuple[float, float] | None = None
    frame_size_px: tuple[int, int] | None = None
    n_frames: int | None = None

    def __post_init__(self) -> None:
        require_apart([self.output], [self.table])
        self.format_name()
        self.acquisition()

    def format_name(self) -> str:
        """The output's format, from its ending unless it is given."""
        return self.format or format_of(self.output)

    def acquisition(self) -> Acquisition:
        """What the user tells of the movie."""
        size = None if self.pixel_size_nm is None else PixelSize.of(self.pixel_size_nm)
        return Acquisition(size, self.frame_size_px, self.n_frames)


def run(settings: Settings) -> dict[str, Any]:
    """Read the table part by part, as far as its format allows, and write it in the output's format.

    Returns:
        The path ``output`` and ``n_emitters``.

    Raises:
        EmitterError: a table that cannot be read, an output that cannot be written, or something missing that its
            format needs; no output is left then.
    """
    output = prepare_output(settings.output)
    given = settings.acquisition()
    parts, of_file = read_parts(settings.table, given.pixel_size)
    acquisition = given.filled_from(of_file)
    check_output(output, settings.format_name(), acquisition)  # the table may be long
    n_emitters = parts.survey.n_rows
    log.info("%d emitters in %s", n_emitters, settings.table)
    write_parts(output, parts, settings.format_name(), acquisition)
    log.info("wrote %s", output)
    return {"output": output, "n_emitters": n_emitters}
