"""The report as a browser sees it."""

from __future__ import annotations

import html
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from browser import shown

from emitter.plots.localizations import plot_counts, plot_histograms, plot_residuals, time_edges
from emitter.plots.report import Picture, Section, page
from emitter.plots.scores import plot_reliability


class Assets(HTMLParser):
    """Everything that a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attributes if name in ("src", "href")]


def written(path: Path) -> str:
    rng = np.random.default_rng(0)
    frame = rng.normal(50, 5, (20, 30))
    pictures = (
        Picture.of(plot_counts(rng.integers(1, 9, 200), time_edges(1, 500)), "Emitters in a frame."),
        Picture.of(
            plot_histograms({"photons": rng.normal(900, 50, 500)}, {"photons": (500, 1200)}), "Photons."
        ),
        Picture.of(plot_residuals(frame, frame, frame / 50, 7), "Residuals."),
        Picture.of(plot_reliability(np.array([5, 9]), np.array([0.2, 0.9]), np.array([0.3, 0.8]), {}), "p."),
    )
    long = "a_file_name_without_a_blank_" * 12
    rows = (("movie", long), ("a < b & c", "1.5"))
    text = page("Title with <angle>", [Section("Part", "Text.", rows, pictures, ("Careful.",))])
    path.write_text(text, encoding="utf-8")
    return text


def test_everything_is_inside_and_escaped(tmp_path: Path) -> None:
    text = written(tmp_path / "report.html")
    assets = Assets()
    assets.feed(text)
    assert len(assets.sources) == 4
    assert all(source.startswith("data:image/png;base64,iVBOR") for source in assets.sources)
    assert "<h1>Title with &lt;angle&gt;</h1>" in text and html.escape("a < b & c") in text
    assert "<script" not in text
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_browser_shows_every_picture_and_nothing_is_too_wide(tmp_path: Path) -> None:
    written(tmp_path / "report.html")
    found = shown(tmp_path / "report.html", tmp_path)
    assert found.n_images == 4
    assert found.is_whole, found
