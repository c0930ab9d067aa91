"""One look for all figures of the reports: sober, colour-blind safe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart by every kind of colour vision
BLUE, ORANGE, GREEN, RED, PINK, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#6B6B6B"
AXIS_COLOURS = {"x": BLUE, "y": ORANGE, "z": GREEN}
_WIDTH_IN = 11.0
_DPI = 110
_STYLE = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}


@contextmanager
def panels(path: Path, columns: int, rows: int = 1, height_in: float = 3.4) -> Iterator[np.ndarray]:
    """Axes (rows, columns) to draw on, in a figure that is written to ``path`` as a PNG."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH_IN, height_in * rows), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure.subplots(rows, columns, squeeze=False)
        figure.savefig(path, dpi=_DPI, format="png")


def histogram(
    axes: Axes, values: np.ndarray, label: str, bins: int = 60, central: float = 0.998, colour: str = BLUE
) -> None:
    """Of the finite values, from the lowest to the highest of their central share; the median as a line."""
    known = values[np.isfinite(values)]
    if not len(known):
        nothing(axes)
    else:
        low, high = np.quantile(known, ((1 - central) / 2, (1 + central) / 2))
        reach = (low, high) if high > low else (low - 0.5, high + 0.5)
        axes.hist(known, min(bins, 5 + len(known) // 10), range=reach, color=colour, alpha=0.85)
        middle = float(np.median(known))
        axes.axvline(middle, color="black", lw=1, ls="--")
        axes.set_title(f"median {middle:.4g}")
    axes.set(xlabel=label, ylabel="localizations")


def nothing(axes: Axes, why: str = "no values") -> None:
    """Say that there is nothing to draw."""
    axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", va="center", color=GREY)


def show_frame(
    axes: Axes, frame_HW: np.ndarray, label: str, limits: tuple[float, float], colours: str = "gray"
) -> None:
    """A frame in pixels from its outer corner, with its colour bar."""
    height, width = frame_HW.shape
    image = axes.imshow(
        frame_HW,
        cmap=colours,
        vmin=limits[0],
        vmax=limits[1],
        extent=(0, width, height, 0),
        interpolation="nearest",
    )
    axes.figure.colorbar(image, ax=axes, shrink=0.8, label=label)
    axes.grid(False)
    axes.set(xlabel="x (px)", ylabel="y (px)")


def brightness_limits(*frames_HW: np.ndarray) -> tuple[float, float]:
    """Grey values from nearly the darkest to nearly the brightest pixel."""
    pixels = np.concatenate([frame.ravel() for frame in frames_HW])
    low, high = np.nanpercentile(pixels, (0.5, 99.7))
    return float(low), float(max(high, low + 1e-6))
