"""A report: one HTML file that needs nothing else, its pictures inside."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment

_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{{ report.title }}</title>
<style>
body { margin: 0; background: #fff; color: #1c1c1c; font: 16px/1.5 system-ui, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 24px 32px 64px; overflow-wrap: anywhere; }
h1 { font-size: 27px; font-weight: 600; margin: 12px 0 4px; }
h2 { font-size: 20px; font-weight: 600; margin: 44px 0 10px; padding-top: 12px; border-top: 1px solid #d8d8d8; }
p { max-width: 80ch; margin: 8px 0; }
p.lead { color: #555; max-width: none; }
p.warning::first-letter { text-transform: uppercase; }
p.warning { max-width: none; border-left: 4px solid #d55e00; background: #fdf2ea; padding: 8px 14px; }
p.fine { border-left: 4px solid #009e73; background: #eef8f4; padding: 8px 14px; max-width: none; }
nav { font-size: 14px; margin: 12px 0; }
nav a { color: #0072b2; margin-right: 14px; text-decoration: none; white-space: nowrap; }
figure { margin: 16px 0 28px; }
img { max-width: 100%; height: auto; display: block; margin: 0 auto; }
figcaption { color: #444; font-size: 14px; margin-top: 6px; max-width: 110ch; }
table { border-collapse: collapse; font-size: 14px; margin: 12px 0; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 18px 4px 0; border-bottom: 1px solid #e6e6e6; text-align: left; vertical-align: top; }
th { font-weight: 600; }
td.number { text-align: right; }
pre { background: #f6f6f6; padding: 10px 14px; font-size: 13px; white-space: pre-wrap; }
</style>
</head>
<body>
<main>
<h1>{{ report.title }}</h1>
<p class="lead">{{ report.lead }}</p>
<nav>{% for section in report.sections %}<a href="#s{{ loop.index }}">{{ section.title }}</a>{% endfor %}</nav>
{% for section in report.sections %}
<section id="s{{ loop.index }}">
<h2>{{ section.title }}</h2>
{% for part in section.parts %}
{% if part.kind == "table" %}
<table>
{% if part.header %}<tr>{% for cell in part.header %}<th>{{ cell }}</th>{% endfor %}</tr>{% endif %}
{% for row in part.rows %}<tr>{% for cell in row %}<td{% if not loop.first %} class="number"{% endif %}>{{ cell }}</td>
{% endfor %}</tr>{% endfor %}
</table>
{% elif part.kind == "figure" %}
<figure><img alt="{{ part.text }}" src="data:image/png;base64,{{ part.data }}">
<figcaption>{{ part.text }}</figcaption></figure>
{% elif part.kind == "listing" %}
<pre>{{ part.text }}</pre>
{% else %}
<p class="{{ part.kind }}">{{ part.text }}</p>
{% endif %}
{% endfor %}
</section>
{% endfor %}
</main>
</body>
</html>
"""


@dataclass(frozen=True)
class _Part:
    """``kind``: text, warning, fine, listing, table or figure."""

    kind: str
    text: str = ""
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    data: str = field(default="", repr=False)  # a PNG in base64


@dataclass
class Section:
    """A heading and what stands under it, in the order in which it is added."""

    title: str
    parts: list[_Part] = field(default_factory=list)

    def text(self, text: str) -> None:
        """A paragraph."""
        self.parts.append(_Part("text", text))

    def warning(self, text: str) -> None:
        """A paragraph that is seen first."""
        self.parts.append(_Part("warning", text))

    def fine(self, text: str) -> None:
        """That all is well."""
        self.parts.append(_Part("fine", text))

    def listing(self, text: str) -> None:
        """Lines as they are."""
        self.parts.append(_Part("listing", text))

    def table(self, rows: Sequence[Sequence[str]], header: Sequence[str] = ()) -> None:
        """Cells of text; the first column names the rows."""
        self.parts.append(_Part("table", header=tuple(header), rows=tuple(tuple(row) for row in rows)))

    def figure(self, png: Path, caption: str) -> None:
        """A PNG file, whose bytes are taken in at once."""
        data = base64.b64encode(png.read_bytes()).decode()
        self.parts.append(_Part("figure", caption, data=data))


@dataclass
class Report:
    """A title, a sentence on what was reported of, and sections."""

    title: str
    lead: str = ""
    sections: list[Section] = field(default_factory=list)

    def section(self, title: str) -> Section:
        """A new section at the end."""
        self.sections.append(Section(title))
        return self.sections[-1]

    def html(self) -> str:
        """The page. Text from names and files is escaped."""
        environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        return environment.from_string(_TEMPLATE).render(report=self)
