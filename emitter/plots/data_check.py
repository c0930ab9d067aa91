"""The figure of the data check: what the simulated frames look like, against a real movie where there is one.

Shape suffixes: N emitters, B samples, H rows, W columns, P pixels picked from all frames.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_BINS = 40


@dataclass(frozen=True)
class SimulatedData:
    """What was simulated, in numbers to draw.

    The middle frame with most emitters in photons and its emitters in pixels; every emitter's photons and the
    signal-to-noise ratio of its brightest pixel; the number of emitters of every sample; the expected background of
    some pixels; the photons that the camera shows in some pixels.
    """

    example_HW: np.ndarray = field(repr=False, compare=False)
    example_x_px: np.ndarray = field(repr=False, compare=False)
    example_y_px: np.ndarray = field(repr=False, compare=False)
    photons_N: np.ndarray = field(repr=False, compare=False)
    peak_snr_N: np.ndarray = field(repr=False, compare=False)
    emitters_B: np.ndarray = field(repr=False, compare=False)
    background_P: np.ndarray = field(repr=False, compare=False)
    pixels_P: np.ndarray = field(repr=False, compare=False)


def plot_data_check(data: SimulatedData, path: Path, movie_pixels_P: np.ndarray | None = None) -> None:
    """Write the figure as a PNG. ``movie_pixels_P``: photons in pixels of a real movie, drawn beside the simulated."""
    figure = Figure(figsize=(14, 8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3).flatten()
    _draw_example(axes[0], data)
    _draw_pixels(axes[1], data.pixels_P, movie_pixels_P)
    _draw_counts(axes[2], data.emitters_B)
    _draw_histogram(axes[3], data.photons_N, "photons per emitter and frame", "emitters")
    _draw_histogram(axes[4], data.background_P, "expected background (photons per pixel)", "pixels")
    _draw_histogram(axes[5], data.peak_snr_N, "signal to noise in an emitter's brightest pixel", "emitters")
    axes[5].axvline(1.0, color="black", linestyle=":")
    figure.savefig(path, dpi=90, format="png")


def _draw_example(axes: Axes, data: SimulatedData) -> None:
    finite = data.example_HW[np.isfinite(data.example_HW)]
    low, high = np.percentile(finite, (1, 99.8)) if finite.size else (0.0, 1.0)
    height, width = data.example_HW.shape
    # the first pixel spans [0, 1)
    image = axes.imshow(data.example_HW, vmin=low, vmax=high, cmap="gray", extent=(0, width, height, 0))
    axes.figure.colorbar(image, ax=axes, shrink=0.8, label="photons")
    axes.scatter(
        data.example_x_px, data.example_y_px, marker="o", s=60, facecolors="none", edgecolors="tab:red"
    )
    axes.set(title="a simulated frame and its emitters", xlabel="x (px)", ylabel="y (px)")


def _draw_pixels(axes: Axes, simulated_P: np.ndarray, movie_P: np.ndarray | None) -> None:
    """Both as densities, on bins from the lowest to the brightest, evenly in the square root."""
    shown = {"simulated": simulated_P, **({} if movie_P is None else {"movie": movie_P})}
    shown = {label: pixels[np.isfinite(pixels)] for label, pixels in shown.items()}
    everything = np.concatenate(list(shown.values()))
    low, high = (everything.min(), everything.max()) if everything.size else (0.0, 1.0)
    # faint pixels are many and bright ones few
    edges = low + max(high - low, 1.0) * np.linspace(0, 1, 2 * _BINS + 1) ** 2
    for label, pixels in shown.items():
        if pixels.size:
            axes.hist(pixels, edges.tolist(), density=True, histtype="step", linewidth=1.5, label=label)
    axes.set(title="pixels", xlabel="photons per pixel", ylabel="density", yscale="log")
    if axes.patches:
        axes.legend()
    axes.grid(alpha=0.3)


def _draw_counts(axes: Axes, emitters_B: np.ndarray) -> None:
    top = int(emitters_B.max(initial=0))
    bins = (np.arange(top + 2) - 0.5).tolist() if top < _BINS else _BINS
    axes.hist(emitters_B, bins, color="tab:gray")
    axes.set(title="emitters per frame", xlabel="emitters", ylabel="frames")
    axes.grid(alpha=0.3)


def _draw_histogram(axes: Axes, values: np.ndarray, label: str, ylabel: str) -> None:
    axes.hist(values[np.isfinite(values)], _BINS // 2, color="tab:gray")
    axes.set(xlabel=label, ylabel=ylabel)
    axes.grid(alpha=0.3)
