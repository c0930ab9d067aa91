"""Where a report goes: one HTML file, and a folder for its pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from emitter.io.files import prepare_output, replacing
from emitter.plots.report import Report, Section


@dataclass(frozen=True)
class ReportFiles:
    """``page``: the HTML file; ``pictures``: the folder of its PNGs."""

    page: Path
    pictures: Path

    def draw(self, section: Section, name: str, caption: str, plot: Callable[[Path], object]) -> None:
        """Draw ``name``.png and put it into a section."""
        path = prepare_output(self.pictures / f"{name}.png")
        with replacing(path) as temporary:
            plot(temporary)
        section.figure(path, caption)

    def write(self, report: Report) -> Path:
        """Write the page, whole or not at all."""
        with replacing(prepare_output(self.page)) as temporary:
            temporary.write_text(report.html(), encoding="utf-8")
        return self.page
