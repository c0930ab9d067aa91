"""Figures of a table of localizations: counts over time, what they are like, and the movie against its reconstruction.

Shape suffixes: F frames, H rows, W columns, K bins of time.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from emitter.plots.style import BLUE, GREY

_MOST_BINS_OF_TIME = 200
_PERCENTILES = (0.5, 99.5)


def time_edges(first: int, last: int) -> np.ndarray:
    """(K + 1,) frame numbers that part a movie's frames ``first`` to ``last``, both included, into bins."""
    n_bins = min(last - first + 1, _MOST_BINS_OF_TIME)
    edges: np.ndarray = np.unique(np.linspace(first, last + 1, n_bins + 1).round().astype(np.int64))
    return edges


def plot_counts(n_K: np.ndarray, edges: np.ndarray) -> Figure:
    """Emitters per frame over the movie, from their numbers between ``edges`` (K + 1,), see ``time_edges``."""
    figure = Figure(figsize=(11, 2.8), layout="constrained")
    axes = figure.subplots()
    around = edges - 0.5  # a frame's step is around its number
    axes.stairs(n_K / np.diff(edges), around, color=BLUE)
    axes.set(xlabel="frame", ylabel="emitters per frame", xlim=(around[0], around[-1]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    return figure


def plot_histograms(values: Mapping[str, np.ndarray], trained: Mapping[str, tuple[float, float]]) -> Figure:
    """A histogram of every quantity (its label), with the range that the network was ``trained`` on in grey."""
    shown = {label: one[np.isfinite(one)] for label, one in values.items()}
    shown = {label: one for label, one in shown.items() if len(one)}
    rows = -(-len(shown) // 3)
    figure = Figure(figsize=(11, 2.6 * max(rows, 1)), layout="constrained")
    if not shown:
        return figure
    for axes, (label, one) in zip(figure.subplots(rows, 3, squeeze=False).flat, shown.items(), strict=False):
        edges = _bins(one)
        if label in trained:
            axes.axvspan(*trained[label], color=GREY, alpha=0.2, lw=0, zorder=0)
        axes.hist(one, edges.tolist(), color=BLUE)
        axes.set(xlabel=label, yticks=[], xlim=(edges[0], edges[-1]))
        axes.xaxis.set_major_locator(MaxNLocator(5))
    for axes in figure.axes[len(shown) :]:
        axes.set_axis_off()
    return figure


def _bins(values: np.ndarray) -> np.ndarray:
    """Edges: few for few values, and some room around values that are all the same."""
    low, high = np.percentile(values, _PERCENTILES)
    if high - low < 1e-3 * max(abs(low), abs(high), 1e-3):
        room = 0.1 * max(abs(low), abs(high), 1e-3)
        low, high = low - room, high + room
    edges: np.ndarray = np.linspace(low, high, int(np.clip(3 * np.sqrt(len(values)), 9, 60)) + 1)
    return edges


def plot_residuals(frame_HW: np.ndarray, expected_HW: np.ndarray, chi2_HW: np.ndarray, number: int) -> Figure:
    """A frame and its reconstruction in photons, and the reduced χ² of every pixel over the sampled frames."""
    figure = Figure(figsize=(11, 3.9), layout="constrained")
    axes = figure.subplots(1, 3)
    low, high = np.percentile(frame_HW, (1, 99.8))
    for axis, image_HW, title in (
        (axes[0], frame_HW, f"frame {number} (photons)"),
        (axes[1], expected_HW, "reconstructed from the table"),
    ):
        drawn = axis.imshow(image_HW, vmin=low, vmax=max(high, low + 1), cmap="gray")
        axis.set_title(title, fontsize=10)
    figure.colorbar(drawn, ax=list(axes[:2]), shrink=0.8)
    drawn = axes[2].imshow(chi2_HW, vmin=0, vmax=max(3, np.percentile(chi2_HW, 98)), cmap="cividis")
    axes[2].set_title("reduced χ² of every pixel", fontsize=10)
    figure.colorbar(drawn, ax=axes[2], shrink=0.8)
    for axis in axes:
        axis.set(xticks=[], yticks=[])
    return figure
