"""Figures of a table of localizations: how many over time, and how its columns are distributed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from emitter.plots.style import BLUE, histogram, panels

_POINTS = 400  # on the time axis


def plot_counts(frame_N: np.ndarray, first: int, last: int, path: Path) -> None:
    """Localizations per frame over time, as means of blocks of frames where there are many."""
    block = max(1, -(-(last - first + 1) // _POINTS))
    edges = np.arange(first, last + 1 + block, block)
    counts = np.histogram(frame_N, edges)[0]
    frames = np.minimum(edges[1:], last + 1) - edges[:-1]
    with panels(path, 1, height_in=3.0) as axes:
        axes[0, 0].step(edges[:-1], counts / frames, where="post", color=BLUE)
        over = f" (mean of {block} frames)" if block > 1 else ""
        axes[0, 0].set(xlabel="frame (from 0)", ylabel=f"localizations\nper frame{over}")
        axes[0, 0].set_ylim(bottom=0)


def plot_columns(columns: Mapping[str, np.ndarray], path: Path) -> None:
    """A histogram of every column, by its label."""
    n_rows = -(-len(columns) // 3)
    with panels(path, 3, n_rows, height_in=2.8) as axes:
        for axis, (label, values) in zip(axes.flat, columns.items(), strict=False):
            histogram(axis, values, label)
        for axis in axes.flat[len(columns) :]:
            axis.set_axis_off()
