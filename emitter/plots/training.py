"""The course of a training run."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_PANELS = (
    (
        "efficiency",
        {"3D": "val/efficiency_3d", "lateral": "val/efficiency_lateral", "axial": "val/efficiency_axial"},
    ),
    ("detection", {"Jaccard index": "val/jaccard", "precision": "val/precision", "recall": "val/recall"}),
    ("RMSE (nm)", {"lateral": "val/rmse_lateral_nm", "axial": "val/rmse_axial_nm"}),
)
_CPU_SECONDS = "time/cpu_seconds"


def plot_training(log_path: Path, path: Path) -> None:
    """Validation figures and the training loss against CPU time, from a run's ``metrics.csv`` to a PNG."""
    log = pd.read_csv(log_path)
    figure = Figure(figsize=(11, 7), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2).flatten()
    for axis, (title, curves) in zip(axes, _PANELS, strict=False):
        for label, column in curves.items():
            if column in log and _CPU_SECONDS in log:
                known = log[[_CPU_SECONDS, column]].dropna()
                axis.plot(known[_CPU_SECONDS], known[column], "o-", markersize=3, label=label)
        axis.set(title=f"validation: {title}", xlabel="CPU time of the run (s)")
        if title != "RMSE (nm)":
            axis.set_ylim(0, 1)
        if axis.lines:
            axis.legend()
        axis.grid(alpha=0.3)
    if "train/loss" in log:  # a run of a few steps has none yet
        loss = log[["step", "train/loss"]].dropna()
        smooth = loss["train/loss"].rolling(10, min_periods=1).median()
        axes[3].plot(loss["step"], loss["train/loss"], alpha=0.3, color="gray")
        axes[3].plot(loss["step"], smooth, color="black")
    axes[3].set(title="training loss (one batch, and its running median)", xlabel="step", yscale="log")
    axes[3].grid(alpha=0.3)
    figure.savefig(path, dpi=110, format="png")
