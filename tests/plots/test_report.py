"""The report as a browser sees it."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from emitter.plots.localizations import plot_counts, plot_histograms, plot_residuals, time_edges
from emitter.plots.report import Picture, Section, page
from emitter.plots.scores import plot_reliability

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# run by the page itself, for the test only: what it finds is written where the dump of the page shows it
_PROBE = """<script>window.onload = () => {
const bad = [...document.images].filter(image => image.naturalWidth === 0).length;
const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
document.body.innerHTML = `<p id="probe">${document.images.length} ${bad} ${wide} ${performance.getEntriesByType(
"resource").filter(one => !one.name.startsWith("data:")).length}</p>`; };</script>"""


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
    browser = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip("there is no Chromium or Chrome here to open the report with")
    text = written(tmp_path / "report.html")
    (tmp_path / "probed.html").write_text(text.replace("</body>", _PROBE + "</body>"), encoding="utf-8")
    flags = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--window-size=1280,900",
        "--virtual-time-budget=5000",
    )
    shown = subprocess.run(
        [
            browser,
            *flags,
            f"--user-data-dir={tmp_path}/profile",
            "--dump-dom",
            f"file://{tmp_path}/probed.html",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    found = re.search(r'<p id="probe">(\d+) (\d+) (-?\d+) (\d+)</p>', shown)
    assert found is not None, shown[-500:]
    n_images, n_broken, too_wide_px, n_requests = map(int, found.groups())
    assert (n_images, n_broken, n_requests) == (4, 0, 0)
    assert too_wide_px <= 0
