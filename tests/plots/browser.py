"""A page as a real browser shows it."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

_PROBE = """<script>
const errors = [];
addEventListener('error', e => errors.push(e.message || (e.target && e.target.tagName) || 'error'), true);
addEventListener('load', () => {
  const out = document.createElement('pre'); out.id = 'probe';
  out.textContent = JSON.stringify({
    errors, width: innerWidth, overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    images: [...document.images].map(i => i.naturalWidth),
    shown: [...document.images].map(i => i.getBoundingClientRect().width),
    headings: [...document.querySelectorAll('h2')].map(h => h.textContent),
    requests: performance.getEntriesByType('resource').map(r => r.name).filter(n => !n.startsWith('data:')),
    font: getComputedStyle(document.body).fontSize,
  });
  document.body.append(out);
});
</script>"""


def shown_at_1280(page: Path, scratch: Path) -> dict[str, Any]:
    """What a script in the page measures; skips where there is no browser."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next((path for name in names if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"no browser: install one of {', '.join(names)}")
    probed = scratch / "probed.html"
    probed.write_text(
        page.read_text(encoding="utf-8").replace("<head>", f"<head>{_PROBE}", 1), encoding="utf-8"
    )
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,1000", "--dump-dom")
    profile = f"--user-data-dir={scratch / 'profile'}"
    command = [browser, *flags, profile, "--enable-logging=stderr", probed.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    found = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None, done.stderr
    return {**json.loads(unescape(found[1])), "console": said}


def assert_readable(page: Path, scratch: Path) -> dict[str, Any]:
    """No missing asset, no error, every picture loaded and nothing wider than the window."""
    seen = shown_at_1280(page, scratch)
    assert seen["width"] == 1280
    assert (seen["errors"], seen["console"], seen["requests"]) == ([], [], [])
    assert seen["images"] and min(seen["images"]) > 0
    assert max(seen["shown"]) <= 1280 and seen["overflow"] <= 0
    assert float(seen["font"].removesuffix("px")) >= 14
    return seen
