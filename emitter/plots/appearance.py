"""What simulated and real frames look like, one against the other.

Shape suffixes: H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from emitter.plots.style import GREY, ORANGE, nothing

_PERCENTILES = (0.2, 99.8)
_BRIGHTNESS = (1, 99.8)
_MOST_BINS = 50


def plot_side_by_side(simulated_HW: np.ndarray, real_HW: np.ndarray) -> Figure:
    """A simulated and a real frame in photons, on one scale of brightness and of size."""
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    axes = figure.subplots(1, 2)
    both = np.concatenate([simulated_HW.ravel(), real_HW.ravel()])
    low, high = np.percentile(both, _BRIGHTNESS)
    for axis, image_HW, title in (
        (axes[0], simulated_HW, "simulated"),
        (axes[1], real_HW, "the movie"),
    ):
        height, width = image_HW.shape
        drawn = axis.imshow(
            image_HW, vmin=low, vmax=max(high, low + 1), cmap="gray", extent=(0, width, height, 0)
        )
        axis.set_title(title, fontsize=10)
        axis.set(xlabel="x (px)", ylabel="y (px)")
    figure.colorbar(drawn, ax=list(axes), shrink=0.85, label="photons per pixel")
    return figure


def plot_distributions(pairs: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Histograms of every quantity (its label) in simulated and in real frames, as densities."""
    rows = -(-len(pairs) // 3)
    figure = Figure(figsize=(11, 2.9 * rows), layout="constrained")
    axes = figure.subplots(rows, 3, squeeze=False).flatten()
    for axis, (label, both) in zip(axes, pairs.items(), strict=False):
        known = [one[np.isfinite(one)] for one in both]
        everything = np.concatenate(known)
        axis.set(xlabel=label, yticks=[])
        if not len(everything):
            nothing(axis)
            continue
        low, high = (
            f(np.percentile(one, _PERCENTILES)[k] for one in known if len(one))
            for f, k in ((min, 0), (max, 1))
        )
        fewest = min(len(one) for one in known if len(one))
        n_bins = int(np.clip(2 * np.sqrt(fewest), 8, _MOST_BINS))  # of few values more would be a comb
        edges = np.linspace(low, max(high, low + 1e-6), n_bins + 1)
        for one, name, colour, fill in zip(
            known, ("simulated", "movie"), (GREY, ORANGE), (True, False), strict=True
        ):
            if len(one):
                density = np.histogram(one, edges)[0] / len(one)
                axis.stairs(
                    density, edges, color=colour, label=name, fill=fill, alpha=0.45 if fill else 1, lw=1.8
                )
    axes[0].legend(frameon=False, fontsize=9)
    for axis in axes[len(pairs) :]:
        axis.set_axis_off()
    return figure
