"""A report: one HTML file with its pictures inside, that any browser opens without a network."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from jinja2 import Environment
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_DPI = 100
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 1120px; margin: 2rem auto;
  padding: 0 1.5rem; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; margin-bottom: 0.2rem; }
h2 { font-size: 1.2rem; margin-top: 2.4rem; border-bottom: 1px solid #ccc; padding-bottom: 0.2rem; }
figure { margin: 1.2rem 0; }
img { max-width: 100%; height: auto; display: block; }
figcaption { color: #555; font-size: 0.92rem; margin-top: 0.3rem; }
table { border-collapse: collapse; margin: 1rem 0; }
td { padding: 0.2rem 1.2rem 0.2rem 0; border-bottom: 1px solid #eee; }
.text { white-space: pre-wrap; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
.warning { background: #fff4d6; border-left: 4px solid #d08a00; padding: 0.5rem 0.9rem; margin: 0.6rem 0; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% for section in sections %}
<section>
<h2>{{ section.heading }}</h2>
{% for warning in section.warnings %}<p class="warning">{{ warning }}</p>
{% endfor %}
{% if section.text %}<p class="text">{{ section.text }}</p>{% endif %}
{% if section.rows %}<table>
{% for name, value in section.rows %}<tr><td>{{ name }}</td><td class="number">{{ value }}</td></tr>
{% endfor %}</table>{% endif %}
{% for picture in section.pictures %}
<figure><img src="data:image/png;base64,{{ picture.base64 }}" alt="{{ picture.caption }}">
<figcaption>{{ picture.caption }}</figcaption></figure>
{% endfor %}
</section>
{% endfor %}
</body>
</html>
"""


@dataclass(frozen=True)
class Picture:
    """A PNG, the sentence below it, and the name of the file that it also makes; empty: none."""

    png: bytes
    caption: str
    name: str = ""

    @classmethod
    def of(cls, figure: Figure, caption: str, name: str = "") -> Picture:
        """Of a figure of matplotlib's."""
        FigureCanvasAgg(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=_DPI, format="png")
        return cls(buffer.getvalue(), caption, name)

    @property
    def base64(self) -> str:
        """As text for the page."""
        return base64.b64encode(self.png).decode("ascii")


@dataclass(frozen=True)
class Section:
    """A part of the report, in this order: warnings, text, a table of names and values, pictures."""

    heading: str
    text: str = ""
    rows: tuple[tuple[str, str], ...] = ()
    pictures: tuple[Picture, ...] = ()
    warnings: tuple[str, ...] = ()


def page(title: str, sections: list[Section]) -> str:
    """The HTML."""
    template = Environment(autoescape=True, trim_blocks=True).from_string(_PAGE)
    return template.render(title=title, sections=sections)
