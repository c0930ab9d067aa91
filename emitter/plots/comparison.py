"""The courses of several training runs over each other."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

_CPU_SECONDS = "time/cpu_seconds"
_PANELS = (
    ("validation: efficiency", "val/efficiency"),
    ("validation: Jaccard index", "val/jaccard"),
    ("validation: lateral RMSE (nm)", "val/rmse_lateral_nm"),
)
_LOSS = "train/loss"
_SMOOTHED = 10  # logged losses in a running median: one is of one batch
_COLOURS = [f"C{i}" for i in range(10)]
_STROKES = ["-", "--", ":", "-."]  # with the colours: 40 groups
_LEGEND_CHARACTERS = 44  # in a line


@dataclass(frozen=True)
class Course:
    """One run: ``group`` says what it is (runs of one group differ in the seed only), ``log`` is its ``metrics.csv``
    and ``remark`` what the legend adds, such as that it failed."""

    group: str
    log: pd.DataFrame
    remark: str = ""


def plot_comparison(courses: Sequence[Course], path: Path) -> None:
    """Efficiency, Jaccard index and lateral RMSE against CPU time and the training loss against the step, to a PNG.

    The runs of a group share a colour; of several, the median is drawn bold over them. Each vertical axis covers the
    second half of every run, where runs differ, not the first steps, where all are bad.
    """
    groups = {course.group: [one for one in courses if one.group == course.group] for course in courses}
    labels = [_label(group, members) for group, members in groups.items()]
    lines = sum(label.count("\n") + 1 for label in labels)
    figure = Figure(figsize=(15, max(8.0, 0.6 + 0.17 * lines)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2).flatten()
    for axis, (title, column) in zip(axes, _PANELS, strict=False):
        drawn = _draw(axis, list(groups.values()), _CPU_SECONDS, column)
        axis.set(title=title, xlabel="CPU time of the run (s)")
        _show_second_halves(axis, drawn)
    _draw(axes[3], list(groups.values()), "step", _LOSS)
    axes[3].set(title="training loss (running median)", xlabel="step", yscale="log")
    for axis in axes:
        axis.grid(alpha=0.3)
    handles = [
        Line2D([], [], color=colour, linestyle=stroke, linewidth=2.2)
        for colour, stroke in map(_style, range(len(groups)))
    ]
    figure.legend(handles, labels, loc="outside right upper", fontsize=8)
    figure.savefig(path, dpi=110, format="png")


def _style(i: int) -> tuple[str, str]:
    """Colour and stroke of the i-th group."""
    stroke, colour = divmod(i, len(_COLOURS))
    return _COLOURS[colour], _STROKES[stroke % len(_STROKES)]


def _label(group: str, members: Sequence[Course]) -> str:
    remarks = list(dict.fromkeys(one.remark for one in members if one.remark))
    count = [f"{len(members)} runs"] if len(members) > 1 else []
    beside = f" ({', '.join([*count, *remarks])})" if count or remarks else ""
    return textwrap.fill(group + beside, _LEGEND_CHARACTERS, subsequent_indent="  ")


def _draw(axis: Axes, groups: Sequence[Sequence[Course]], x: str, y: str) -> list[pd.DataFrame]:
    """Every run's curve, and over a group's several their median; the curves that there are."""
    drawn = []
    for i, members in enumerate(groups):
        colour, stroke = _style(i)
        curves = [curve for one in members if len(curve := _curve(one.log, x, y))]
        width, alpha = (1.6, 1.0) if len(curves) == 1 else (0.8, 0.4)
        for curve in curves:
            axis.plot(curve[x], curve[y], color=colour, linestyle=stroke, linewidth=width, alpha=alpha)
        if len(curves) > 1:
            median = _median(curves)
            axis.plot(median[x], median[y], color=colour, linestyle=stroke, linewidth=2.6)
        drawn += curves
    return drawn


def _curve(log: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """The rows where both are known; the loss smoothed."""
    if x not in log or y not in log:
        return pd.DataFrame({x: [], y: []})
    curve = log[[x, y]].dropna().reset_index(drop=True)
    if y == _LOSS:
        curve[y] = curve[y].rolling(_SMOOTHED, min_periods=1).median()
    return curve


def _median(curves: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Point by point: of the first points, of the second ones, … of the runs that came so far."""
    return pd.concat(curves).groupby(level=0).median()


def _show_second_halves(axis: Axes, curves: Sequence[pd.DataFrame]) -> None:
    late = pd.concat([curve.iloc[len(curve) // 2 :, 1] for curve in curves]) if curves else pd.Series([])
    if late.empty:
        axis.text(0.5, 0.5, "no validation found emitters yet", transform=axis.transAxes, ha="center")
        return
    low, high = float(late.min()), float(late.max())
    margin = 0.08 * (high - low) or 0.05 * abs(high) or 0.05
    if math.isfinite(low + high):
        axis.set_ylim(low - margin, high + margin)
