"""The figures of accuracy.py, with what others published or were measured to reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Points = Mapping[float, Sequence[float]]  # by where on the axis: efficiencies of the seeds

# Picasso's efficiencies, tuned for every density, and DECODE's of 720 CPU-seconds of training, both measured with the
# programs themselves under the conditions of this benchmark
PICASSO_2D = {0.1: 0.897, 0.5: 0.754, 1: 0.620, 2: 0.424, 5: 0.115}
PICASSO_3D = {0.1: 0.727, 0.5: 0.480, 1: 0.269, 2: 0.006, 5: -0.30}
DECODE_QUICKSTART = {720: 0.565}
DECODE_CHALLENGE = {1.2: 0.768, 12.7: 0.525}  # by emitters in a frame


@dataclass(frozen=True)
class Panel:
    """Efficiencies by density: of our networks by name, and of another program."""

    title: str
    xlabel: str
    ours: Mapping[str, Points]
    other: tuple[str, Mapping[float, float]]


def plot_budgets(models: Mapping[str, Points], path: Path) -> None:
    """E3D in the quick start's setting against the CPU-seconds of training: medians over seeds, every seed a dot."""
    figure = Figure(figsize=(6.5, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for place, (name, points) in enumerate(models.items()):
        _draw(axis, name, points, f"C{place}")
    axis.plot(*_ends(DECODE_QUICKSTART), "k*", markersize=10, label="DECODE, measured")
    axis.set(
        xscale="log",
        xlabel="training (CPU-seconds)",
        ylabel="E3D",
        title="The quick start's setting, 0.6 emitters/µm²",
    )
    axis.set_ylim(bottom=0.5)  # a network of few steps lies below, and would press the others together
    seconds = sorted({x for points in models.values() for x in points} | set(DECODE_QUICKSTART))
    axis.set_xticks(seconds, [f"{x:g}" for x in seconds])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(path, dpi=110)


def plot_densities(panels: Sequence[Panel], path: Path) -> None:
    """Efficiency against the density of emitters, a panel for each condition."""
    figure = Figure(figsize=(4.4 * len(panels), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    names = list(
        dict.fromkeys(name for panel in panels for name in panel.ours)
    )  # of one colour in every panel
    for axis, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name, points in panel.ours.items():
            _draw(axis, name, points, f"C{names.index(name)}")
        program, known = panel.other
        axis.plot(*_ends(known), "k*--", markersize=9, linewidth=1, label=program)
        axis.set(xscale="log", xlabel=panel.xlabel, title=panel.title)
        axis.set_xticks(sorted(known), [f"{x:g}" for x in sorted(known)])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.legend(fontsize=9)
    figure.axes[0].set_ylabel("efficiency")
    figure.savefig(path, dpi=110)


def _draw(axis: Axes, name: str, points: Points, colour: str) -> None:
    places = sorted(points)
    axis.plot(places, [median(points[x]) for x in places], marker="o", color=colour, label=name)
    for x in places:
        axis.plot([x] * len(points[x]), points[x], ".", color=colour, alpha=0.5, markersize=4)


def _ends(known: Mapping[float, float]) -> tuple[list[float], list[float]]:
    return list(known), list(known.values())
