"""A report as a headless Chromium or Chrome shows it in a window 1280 px wide."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# run by the page itself, for the test only: what it finds is written where the dump of the page shows it
_PROBE = """<script>window.onload = () => {
const images = [...document.images];
const bad = images.filter(image => image.naturalWidth === 0).length;
const scale = Math.min(...images.map(image => image.clientWidth / Math.min(image.naturalWidth, 1100)));
const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
document.body.innerHTML = `<p id="probe">${images.length} ${bad} ${wide} ${performance.getEntriesByType(
"resource").filter(one => !one.name.startsWith("data:")).length} ${scale}</p>`; };</script>"""


@dataclass(frozen=True)
class Shown:
    """Images, those of them that are not there, files that were loaded, by how many pixels the page is wider than the
    window, and how large the smallest image is over the size that it was drawn for (1100 px at most)."""

    n_images: int
    n_broken: int
    n_requests: int
    too_wide_px: int
    scale: float

    @property
    def is_whole(self) -> bool:
        """Every image is there, from within, and large enough for its words to be read; nothing is cut off."""
        return not (self.n_broken or self.n_requests or self.too_wide_px > 0) and self.scale > 0.95


def shown(page: Path, scratch: Path) -> Shown:
    """Open a page; the test is skipped where there is no browser."""
    browser = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip("there is no Chromium or Chrome here to open the report with")
    probed = scratch / "probed.html"
    probed.write_text(
        page.read_text(encoding="utf-8").replace("</body>", _PROBE + "</body>"), encoding="utf-8"
    )
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,900", "--dump-dom")
    waits = ("--virtual-time-budget=5000", f"--user-data-dir={scratch}/profile")
    dumped = subprocess.run(
        [browser, *flags, *waits, f"file://{probed}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    found = re.search(r'<p id="probe">(\d+) (\d+) (-?\d+) (\d+) ([\d.]+)</p>', dumped)
    assert found is not None, dumped[-500:]
    n_images, n_broken, too_wide_px, n_requests = map(int, found.groups()[:4])
    return Shown(n_images, n_broken, n_requests, too_wide_px, float(found.group(5)))
