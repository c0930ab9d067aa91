"""The figure of a movie's diagnosis: photon transfer, a frame with the spots found, what they are like, and the pixels.

Shape suffixes: H rows, W columns, L levels of the mean, N spots of the frame, M fitted spots, G groups of pixels.
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
class DiagnosisData:
    """Numbers to draw.

    ``mean_L``, ``variance_L``: of the camera's noise, photons and photons²; ``expected``: (intercept, slope) of the
    line that the camera's settings want. A frame in photons and the spots in it, pixels. Photons and widths (px) of the
    spots that stand alone. ``level_G``, ``observed_G``, ``modelled_G``: smoothed pixels, photons, and how many there
    are per photon, in the movie and in the model with the priors found.
    """

    mean_L: np.ndarray = field(repr=False)
    variance_L: np.ndarray = field(repr=False)
    expected: tuple[float, float]
    frame_HW: np.ndarray = field(repr=False)
    x_px_N: np.ndarray = field(repr=False)
    y_px_N: np.ndarray = field(repr=False)
    photons_M: np.ndarray = field(repr=False)
    sigma_x_px_M: np.ndarray = field(repr=False)
    sigma_y_px_M: np.ndarray = field(repr=False)
    level_G: np.ndarray = field(repr=False)
    observed_G: np.ndarray = field(repr=False)
    modelled_G: np.ndarray = field(repr=False)


def plot_diagnosis(data: DiagnosisData, path: Path) -> None:
    """Write the figure as a PNG."""
    figure = Figure(figsize=(14, 8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3).flatten()
    _draw_transfer(axes[0], data)
    _draw_frame(axes[1], data)
    _draw_pixels(axes[2], data)
    _draw_histogram(axes[3], data.photons_M, "photons of spots that stand alone")
    width = np.sqrt(data.sigma_x_px_M * data.sigma_y_px_M)
    _draw_histogram(axes[4], width, "width of spots that stand alone, √(σx σy) (px)")
    _draw_widths(axes[5], data)
    figure.savefig(path, dpi=90, format="png")


def _draw_transfer(axes: Axes, data: DiagnosisData) -> None:
    axes.plot(data.mean_L, data.variance_L, "o", markersize=4, label="movie")
    if len(data.mean_L):
        ends = np.array([min(data.mean_L.min(), 0.0), data.mean_L.max()])
        axes.plot(ends, data.expected[0] + data.expected[1] * ends, color="black", label="camera's settings")
    axes.set(title="noise against mean", xlabel="mean (photons)", ylabel="variance (photons²)")
    axes.legend()
    axes.grid(alpha=0.3)


def _draw_frame(axes: Axes, data: DiagnosisData) -> None:
    low, high = np.percentile(data.frame_HW, (1, 99.8))
    height, width = data.frame_HW.shape
    # the first pixel spans [0, 1)
    image = axes.imshow(data.frame_HW, vmin=low, vmax=high, cmap="gray", extent=(0, width, height, 0))
    axes.figure.colorbar(image, ax=axes, shrink=0.8, label="photons")
    axes.scatter(data.x_px_N, data.y_px_N, marker="o", s=50, facecolors="none", edgecolors="tab:red")
    axes.set(title="a frame and the spots found", xlabel="x (px)", ylabel="y (px)")


def _draw_pixels(axes: Axes, data: DiagnosisData) -> None:
    axes.plot(data.level_G, data.observed_G, "o", markersize=4, label="movie")
    axes.plot(data.level_G, data.modelled_G, color="black", label="priors found")
    axes.set(title="smoothed pixels", xlabel="photons per pixel", ylabel="pixels per photon", yscale="log")
    axes.legend()
    axes.grid(alpha=0.3)


def _draw_histogram(axes: Axes, values: np.ndarray, label: str) -> None:
    axes.hist(values[np.isfinite(values)], _BINS, color="tab:gray")
    axes.set(xlabel=label, ylabel="spots")
    axes.grid(alpha=0.3)


def _draw_widths(axes: Axes, data: DiagnosisData) -> None:
    axes.plot(data.sigma_x_px_M, data.sigma_y_px_M, ".", markersize=4, color="tab:gray")
    top = float(max(data.sigma_x_px_M.max(initial=1.0), data.sigma_y_px_M.max(initial=1.0)))
    axes.plot([0, top], [0, top], color="black", linestyle=":")
    axes.set(title="round spots lie on the line", xlabel="σx (px)", ylabel="σy (px)", aspect="equal")
    axes.grid(alpha=0.3)
