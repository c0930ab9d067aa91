"""The page: its sections and cells, escaped; in a real browser."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import browser
import numpy as np
import pytest

from emitter.plots.report import Report
from emitter.plots.style import panels


class Reader(HTMLParser):
    """Tags that are open, and the text of headings and cells."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.sources: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.sources.append(dict(attrs)["src"])
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and data.strip():
            self.texts.setdefault(self.open[-1], []).append(data)


def report_at(folder: Path) -> Report:
    with panels(folder / "line.png", 3) as axes:
        axes[0, 0].plot(np.arange(5))
    report = Report("Localizations of <movie> & more", "a sentence")
    first, second = report.section("First"), report.section("A & B")
    first.table([("photons", "1 < 2")], ("", "value"))
    first.warning("Look here")
    second.figure(folder / "line.png", "A line (nm)")
    second.listing("a" * 400)
    return report


def test_page_holds_what_was_put_into_it(tmp_path):
    reader = Reader()
    reader.feed(report_at(tmp_path).html())
    assert reader.open == []
    assert reader.texts["h1"] == ["Localizations of <movie> & more"]
    assert reader.texts["h2"] == ["First", "A & B"]
    assert {"photons", "1 < 2"} <= set(reader.texts["td"])
    assert "Look here" in reader.texts["p"] and reader.texts["figcaption"] == ["A line (nm)"]
    (source,) = reader.sources
    assert source.startswith("data:image/png;base64,")


def test_page_in_a_browser(tmp_path):
    (tmp_path / "page.html").write_text(report_at(tmp_path).html(), encoding="utf-8")
    assert browser.assert_readable(tmp_path / "page.html", tmp_path)["headings"] == ["First", "A & B"]


def test_the_browser_test_sees_what_is_broken(tmp_path):
    html = (
        report_at(tmp_path)
        .html()
        .replace("<h2>", '<img src="missing.png"><div style="width:3000px;height:9px"></div><h2>')
    )
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    seen = browser.shown_at_1280(tmp_path / "page.html", tmp_path)
    assert 0 in seen["images"] and seen["overflow"] > 0 and seen["errors"]
    with pytest.raises(AssertionError):
        browser.assert_readable(tmp_path / "page.html", tmp_path)
