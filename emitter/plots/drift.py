"""The drift of a sample over its frames (F)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from emitter.plots.style import BLUE, GREEN, ORANGE, panels

_COLOURS = {"x_nm": BLUE, "y_nm": ORANGE, "z_nm": GREEN}
_LINES = {"x_nm": "-", "y_nm": "--", "z_nm": ":"}  # each leaves those below it to be seen


def plot_drift(
    frame_F: np.ndarray,
    drift_nm_F: Mapping[str, np.ndarray],
    error_nm_F: Mapping[str, np.ndarray],
    path: Path,
) -> None:
    """Write a PNG with the drift along ``x_nm``, ``y_nm`` and, where it is there, ``z_nm`` over frames.

    A band around each is its standard error.
    """
    with panels(path, 1, height_in=4.5) as axes:
        for name, nm_F in drift_nm_F.items():
            axes[0, 0].plot(
                frame_F, nm_F, color=_COLOURS[name], ls=_LINES[name], label=name.removesuffix("_nm")
            )
            low, high = nm_F - error_nm_F[name], nm_F + error_nm_F[name]
            axes[0, 0].fill_between(frame_F, low, high, color=_COLOURS[name], alpha=0.25, lw=0)
        axes[0, 0].set(xlabel="frame", ylabel="drift (nm)")
        axes[0, 0].legend()
