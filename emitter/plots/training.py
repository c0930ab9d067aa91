"""The course of a training run."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from emitter.plots.style import BLUE, GREEN, GREY, ORANGE, PINK, nothing, panels

_PANELS = (
    (
        "efficiency",
        {"3D": "val/efficiency_3d", "lateral": "val/efficiency_lateral", "axial": "val/efficiency_axial"},
    ),
    ("detection", {"Jaccard index": "val/jaccard", "precision": "val/precision", "recall": "val/recall"}),
    ("RMSE (nm)", {"lateral": "val/rmse_lateral_nm", "axial": "val/rmse_axial_nm"}),
)
_CPU_SECONDS = "time/cpu_seconds"


_PROBE = (("probability", "p_logit"), ("photons", "photons"), ("x", "x"), ("y", "y"), ("z", "z"))
_COLOURS = (BLUE, ORANGE, GREEN, GREY, PINK)


def plot_training(log_path: Path, path: Path) -> None:
    """Validation figures against CPU time, then the probe's parts and the training loss, from a run's ``metrics.csv``
    to a PNG.

    The validation comes first: it is what a run is judged by. The loss that is minimised rises with the warm-up of its
    parts and hardly falls afterwards (docs/losses.md).
    """
    log = pd.read_csv(log_path)
    with panels(path, 3, 2) as axes:
        for axis, (title, curves) in zip(axes[0], _PANELS, strict=True):
            _draw_validation(axis, log, title, curves)
        _draw_probe(axes[1, 0], log)
        _draw_loss(axes[1, 1], log)
        _draw_steps(axes[1, 2], log, "learning rate", "train/learning_rate")


def _draw_validation(axis: Axes, log: pd.DataFrame, title: str, curves: dict[str, str]) -> None:
    for (label, column), colour in zip(curves.items(), _COLOURS, strict=False):
        if column in log and _CPU_SECONDS in log:
            known = log[[_CPU_SECONDS, column]].dropna()
            axis.plot(known[_CPU_SECONDS], known[column], "o-", ms=3, color=colour, label=label)
    axis.set(title=f"validation: {title}", xlabel="CPU time of the run (s)")
    axis.set_ylim(bottom=0, top=None if title == "RMSE (nm)" else 1)
    if axis.lines:
        axis.legend()
    else:
        validated = "val/recall" in log and log["val/recall"].notna().any()
        nothing(axis, "nothing found yet" if validated else "no validation yet")


def _draw_probe(axis: Axes, log: pd.DataFrame) -> None:
    """Of the first value of each part: fixed samples, fixed weights, a function of the network alone."""
    for (label, name), colour in zip(_PROBE, _COLOURS, strict=True):
        column = f"diagnosis/probe_{name}"
        known = log[["step", column]].dropna() if column in log else log.iloc[:0]
        if len(known) and known[column].iloc[0] > 0:
            axis.plot(known["step"], known[column] / known[column].iloc[0], color=colour, label=label)
    axis.set(title="loss of fixed samples,\nparts over their first value", xlabel="step")
    axis.set_ylim(bottom=0)
    if axis.lines:
        axis.legend(fontsize=8)
    else:
        nothing(axis, "not logged yet")


def _draw_loss(axis: Axes, log: pd.DataFrame) -> None:
    if "train/loss" in log:  # a run of a few steps has none yet
        loss = log[["step", "train/loss"]].dropna()
        smooth = loss["train/loss"].rolling(10, min_periods=1).median()
        axis.plot(loss["step"], loss["train/loss"], alpha=0.4, lw=0.8, color=GREY)
        axis.plot(loss["step"], smooth, color="black")
    axis.set(
        title="training loss (not to judge by):\none batch, and running median", xlabel="step", yscale="log"
    )


def _draw_steps(axis: Axes, log: pd.DataFrame, title: str, column: str) -> None:
    if column in log:
        known = log[["step", column]].dropna()
        axis.plot(known["step"], known[column], color=BLUE)
    else:
        nothing(axis, "not logged yet")
    axis.set(title=title, xlabel="step")
