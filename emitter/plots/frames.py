"""Frames with what is in them and what was found.

Shape suffixes: H rows, W columns; positions are (N, 2) as x, y in pixels from the frame's outer corner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from emitter.plots.style import ORANGE

_MATCHED, _FALSE = "#56B4E9", "#E0409A"  # seen on grey, and told apart by every kind of colour vision
_SIDE_PX = 64  # of a frame shown: of larger ones the part where most happens
_PERCENTILES = (1, 99.8)


@dataclass(frozen=True)
class ExampleFrame:
    """A frame and the emitters in it: true ones that were found, the localizations of these, true ones that were
    missed, and localizations of nothing."""

    title: str
    frame_HW: np.ndarray
    true_xy: np.ndarray
    found_xy: np.ndarray
    missed_xy: np.ndarray
    false_xy: np.ndarray


def plot_examples(examples: Sequence[ExampleFrame], unit: str) -> Figure:
    """Frames in pairs below each other, brightness in ``unit``."""
    rows = -(-len(examples) // 2)
    figure = Figure(figsize=(11, 5.0 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, 2, squeeze=False).flatten()
    for axis, example in zip(axes, examples, strict=False):
        _draw(axis, example, unit)
    for axis in axes[len(examples) :]:
        axis.set_axis_off()
    figure.legend(handles=_legend(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def _draw(axes: Axes, example: ExampleFrame, unit: str) -> None:
    rows, columns = _part(example)
    part_HW = example.frame_HW[rows, columns]
    extent = (columns.start, columns.stop, rows.stop, rows.start)  # the first pixel spans [0, 1)
    low, high = np.percentile(part_HW, _PERCENTILES)
    shown = axes.imshow(part_HW, vmin=low, vmax=max(high, low + 1), cmap="gray", extent=extent)
    axes.figure.colorbar(shown, ax=axes, shrink=0.85, label=unit)
    size = 0.45 * (300.0 / max(part_HW.shape)) ** 2
    for xy, marker, colour, scale in (
        (example.true_xy, "o", _MATCHED, 1.0),
        (example.missed_xy, "o", ORANGE, 1.0),
        (example.found_xy, "x", _MATCHED, 0.5),
        (example.false_xy, "x", _FALSE, 0.5),
    ):
        fill: dict[str, Any] = (
            {"facecolors": "none", "edgecolors": colour} if marker == "o" else {"color": colour}
        )
        area = float(np.clip(scale * size, 10, 120))
        axes.scatter(xy[:, 0], xy[:, 1], s=area, marker=marker, lw=1.4, **fill)
    axes.set(xlim=extent[:2], ylim=extent[2:], xlabel="x (px)", ylabel="y (px)")
    axes.set_title(example.title, fontsize=10)


def _part(example: ExampleFrame) -> tuple[slice, slice]:
    """Rows and columns that are shown: those around the errors, or around the emitters where there are none."""
    errors = np.concatenate([example.missed_xy, example.false_xy])
    around = errors if len(errors) else example.true_xy
    sides = []
    for axis, length in ((1, example.frame_HW.shape[0]), (0, example.frame_HW.shape[1])):
        shown = min(length, _SIDE_PX)
        middle = float(np.median(around[:, axis])) if len(around) else length / 2
        start = int(np.clip(round(middle - shown / 2), 0, length - shown))
        sides.append(slice(start, start + shown))
    return sides[0], sides[1]


def _legend() -> list[Line2D]:
    ring: dict[str, Any] = {"marker": "o", "ls": "", "ms": 9, "mew": 1.4, "mfc": "none"}
    cross: dict[str, Any] = {"marker": "x", "ls": "", "ms": 7, "mew": 1.4}
    return [
        Line2D([], [], color=_MATCHED, label="true, found", **ring),
        Line2D([], [], color=_MATCHED, label="its localization", **cross),
        Line2D([], [], color=ORANGE, label="true, missed", **ring),
        Line2D([], [], color=_FALSE, label="false", **cross),
    ]
