"""Observed frames beside their reconstruction from the predicted emitters, and the error between them.

Shape suffixes: B frames, H rows, W columns.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from emitter.core.emitters import Emitters

_MAX_FRAMES = 3
_ERROR_RANGE = 4.0  # standard deviations at the ends of the colour scale


def plot_reconstruction(
    observed_BHW: Tensor,
    expected_BHW: Tensor,
    variance_BHW: Tensor,
    truth: Emitters,
    found: Emitters,
    path: Path,
) -> None:
    """Write a PNG with a row for each of the first frames: observed, reconstructed, and the error.

    Frames are in photons, ``variance_BHW`` is the camera's noise in photons² where ``expected_BHW`` is expected. The
    error (observed − expected) / sqrt(variance) is noise of standard deviation 1 where the reconstruction is right:
    its mean square, the reduced chi-square, is then 1. Emitters outside the frame that light its edge are an error.
    """
    observed_BHW, expected_BHW, variance_BHW = (
        frames_BHW.detach().cpu() for frames_BHW in (observed_BHW, expected_BHW, variance_BHW)
    )
    error_BHW = (observed_BHW - expected_BHW) / variance_BHW.sqrt()
    n_frames = min(len(observed_BHW), _MAX_FRAMES)
    figure = Figure(figsize=(15, 4.8 * n_frames), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(n_frames, 3, squeeze=False)
    for b in range(n_frames):
        observed, expected, error = axes[b]
        low = min(float(observed_BHW[b].min()), float(expected_BHW[b].min()))
        high = max(float(observed_BHW[b].max()), float(expected_BHW[b].max()))
        _draw(observed, observed_BHW[b], (low, high), "photons", "viridis")
        true, seen = _positions(truth, b), _positions(found, b)
        observed.scatter(*true, s=60, marker="o", linewidths=1, facecolors="none", edgecolors="white")
        observed.scatter(*seen, s=22, marker="x", linewidths=1, color="red")
        observed.set_title(f"observed\n{len(true[0])} true (circles), {len(seen[0])} found (crosses)")
        _draw(expected, expected_BHW[b], (low, high), "photons", "viridis")
        expected.set_title("reconstructed")
        _draw(error, error_BHW[b], (-_ERROR_RANGE, _ERROR_RANGE), "standard deviations", "RdBu_r")
        chi2 = float((error_BHW[b] ** 2).mean())
        error.set_title(f"(observed − reconstructed) / noise\nreduced χ² = {chi2:.3g}")
    figure.savefig(path, dpi=90, format="png")


def _draw(axes: Axes, image_HW: Tensor, limits: tuple[float, float], unit: str, colours: str) -> None:
    """An image in pixels from its outer corner, as positions are counted, with its colour bar."""
    height, width = image_HW.shape
    shown = axes.imshow(
        image_HW.numpy(),
        vmin=limits[0],
        vmax=limits[1],
        cmap=colours,
        interpolation="nearest",
        extent=(0, width, height, 0),
    )
    axes.figure.colorbar(shown, ax=axes, shrink=0.8, label=unit)
    axes.set(xlabel="x (px)", ylabel="y (px)")


def _positions(emitters: Emitters, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the frame's emitters, px."""
    here = emitters.select(emitters.image_N == frame)
    return here.x_px_N.detach().cpu().numpy(), here.y_px_N.detach().cpu().numpy()
