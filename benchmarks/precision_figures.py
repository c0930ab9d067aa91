"""The figures of precision.py."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Row = dict[str, float]  # figures by name
_STROKES = (":", "--", "-.")  # of the bounds
_DEGREES_OF_FREEDOM = {"lateral": 2, "axial": 1}
_COLOURS = {"x": "C0", "y": "C1", "z": "C2"}


@dataclass(frozen=True)
class Group:
    """Emitters of equal light by the number of frames of a window that they are on in."""

    photons: str
    window: int
    rows: Mapping[int, Row]


def plot_on_frames(groups: Sequence[Group], windows: Sequence[int], n_frames: int, path: Path) -> None:
    """Error and bounds in nm against the number of on-frames, a column of panels for every group.

    Where no axial error is known, as of a 2D network, there is no row of panels for it.
    """
    rows = [row for group in groups for row in group.rows.values()]
    names = ["lateral", *(["axial"] if any(math.isfinite(row["axial"]) for row in rows) else [])]
    figure = Figure(figsize=(1.5 + 2.9 * len(groups), 1.2 + 2.7 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(names), len(groups), sharey="row", squeeze=False)
    for axes, name in zip(panels, names, strict=True):
        for axis, group in zip(axes, groups, strict=True):
            _draw_group(axis, group, windows, name)
        axes[0].set_ylabel(f"{name} error (nm)")
        axes[0].set_ylim(0, 1.05 * axes[0].get_ylim()[1])
    for axis, group in zip(panels[0], groups, strict=True):
        seen = "that the network sees" if group.window == n_frames else "around the predicted one"
        axis.set_title(f"{group.photons} photons,\n{group.window} frames {seen}", fontsize=10)
    for axis in panels[-1]:
        axis.set_xlabel("frames in which the emitter is on")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(len(groups), len(labels)), fontsize=9
    )
    figure.savefig(path, dpi=110)


def _draw_group(axis: Axes, group: Group, windows: Sequence[int], name: str) -> None:
    on = list(group.rows)
    rows = list(group.rows.values())
    axis.plot(on, [row[name] for row in rows], color="0.6", marker=".", label="RMSE, all emitters")
    error = [row[f"{name} apart"] for row in rows]
    bars = [
        row[f"{name} apart"] / math.sqrt(2 * _DEGREES_OF_FREEDOM[name] * max(row["apart"], 1)) for row in rows
    ]
    axis.errorbar(on, error, bars, color="C3", marker="o", capsize=3, label="RMSE, emitters apart")
    for window, stroke in zip(windows, _STROKES, strict=False):
        label = f"bound from {window} frame{'s' if window > 1 else ''}, emitters apart"
        bound = [row[f"{name} bound {window}"] for row in rows]
        axis.plot(on, bound, color="C0", linestyle=stroke, marker=".", markersize=4, label=label)
    axis.set(xticks=on, xlim=(on[0] - 0.4, on[-1] + 0.4))
    axis.grid(alpha=0.3)


def plot_alone(by: Mapping[str, Mapping[str, Row]], path: Path) -> None:
    """Error, bound and their ratio in every bin, a column of panels for what the bins are of."""
    figure = Figure(figsize=(3 + 5 * len(by), 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, len(by), sharey="row", sharex="col", squeeze=False)
    for (name, bins), (above, below) in zip(by.items(), panels.T, strict=True):
        _draw_errors(above, list(bins.values()))
        _draw_ratios(below, list(bins.values()))
        below.set_xticks(range(len(bins)), list(bins), fontsize=9)
        below.set(xlabel=name, xlim=(-0.5, len(bins) - 0.5))
    panels[0, 0].set_ylabel("error (nm)")
    panels[1, 0].set_ylabel("error / CRLB")
    for axis in panels[:, -1]:
        axis.set_ylim(0, 1.05 * axis.get_ylim()[1])
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)
    figure.suptitle("emitters alone in their frame", fontsize=11)
    figure.savefig(path, dpi=110)


def _draw_errors(axis: Axes, rows: Sequence[Row]) -> None:
    for name, colour in _COLOURS.items():
        if any(math.isfinite(row[f"bound {name}"]) for row in rows):
            axis.plot([row[f"rmse {name}"] for row in rows], "o-", color=colour, label=f"RMSE {name}")
            axis.plot([row[f"bound {name}"] for row in rows], "--", color=colour, label=f"CRLB {name}")
    axis.grid(alpha=0.3)


def _draw_ratios(axis: Axes, rows: Sequence[Row]) -> None:
    axis.axhline(1, color="0.4", linewidth=1)
    for name, colour in _COLOURS.items():
        ratio = [row[f"ratio {name}"] for row in rows]
        if any(map(math.isfinite, ratio)):
            bars = [row[f"ratio {name}"] / math.sqrt(2 * max(row["emitters"], 1)) for row in rows]
            label = f"RMSE / CRLB {name}"
            axis.errorbar(range(len(rows)), ratio, bars, fmt="o-", color=colour, capsize=3, label=label)
            robust = [row[f"robust {name}"] for row in rows]
            axis.plot(robust, "s:", color=colour, label=f"crlb_ratio_{name}")
    axis.grid(alpha=0.3)
