"""A report on the disk: the page, and its pictures as PNGs in a folder of the page's name."""

from __future__ import annotations

from pathlib import Path

from emitter.io.files import prepare_output, writing
from emitter.plots.report import Section, page


def write_page(path: Path, title: str, sections: list[Section]) -> Path:
    """Write ``NAME.html``, which holds everything, and ``NAME/*.png`` for slides and papers.

    Raises:
        EmitterError: when they cannot be written.
    """
    for section in sections:
        for picture in section.pictures:
            if picture.name:
                with writing(prepare_output(path.with_suffix("") / f"{picture.name}.png")) as temporary:
                    temporary.write_bytes(picture.png)
    with writing(path) as temporary:
        temporary.write_text(page(title, sections), encoding="utf-8")
    return path
