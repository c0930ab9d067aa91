"""The drift of a sample over its frames (F)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def plot_drift(frame_F: np.ndarray, x_nm_F: np.ndarray, y_nm_F: np.ndarray, path: Path) -> None:
    """Write a PNG with x and y (nm) over frames."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot(frame_F, x_nm_F, label="x")
    axes.plot(frame_F, y_nm_F, label="y")
    axes.set(xlabel="frame", ylabel="drift (nm)")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110, format="png")
