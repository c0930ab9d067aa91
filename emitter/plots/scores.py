"""Figures of an evaluation: scores and errors in bins, the reliability of probabilities, places within the pixel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from emitter.plots.style import AXIS_COLOURS, BLUE, GREEN, GREY, ORANGE, nothing, panels

_SCORES = (
    ("jaccard", "Jaccard index", BLUE),
    ("precision", "precision", ORANGE),
    ("recall", "recall", GREEN),
)


def plot_binned_scores(tables: Mapping[str, pd.DataFrame], path: Path) -> None:
    """Jaccard index, precision and recall against quantities: for each, by its label, ``binned_scores``' columns."""
    with panels(path, len(tables)) as axes:
        for axis, (label, table) in zip(axes[0], tables.items(), strict=True):
            middle = (table["low"] + table["high"]) / 2
            for column, name, colour in _SCORES:
                axis.plot(middle, table[column], "o-", ms=4, color=colour, label=name)
            axis.set(xlabel=label, ylim=(0, 1.03))
        axes[0, 0].set(ylabel="score")
        axes[0, 0].legend(loc="lower right")


def plot_errors_and_bound(table: pd.DataFrame, label: str, path: Path) -> None:
    """RMSE against a quantity, and the Cramér-Rao bound where it is known.

    ``table``: ``low``, ``high``, ``error_x``, ``error_y``, ``error_z`` and ``bound_x`` … in nm; columns that are not
    there are left out.
    """
    with panels(path, 2) as axes:
        middle = (table["low"] + table["high"]) / 2
        for axis, names in zip(axes[0], (("x", "y"), ("z",)), strict=True):
            for name in names:
                if f"error_{name}" in table:
                    colour = AXIS_COLOURS[name]
                    axis.plot(middle, table[f"error_{name}"], "o-", ms=4, color=colour, label=f"RMSE {name}")
                if f"bound_{name}" in table:
                    axis.plot(
                        middle, table[f"bound_{name}"], "--", color=AXIS_COLOURS[name], label=f"CRLB {name}"
                    )
            axis.set(xlabel=label, ylabel="nm", title=" and ".join(names))
            axis.set_ylim(bottom=0)
            if axis.lines:
                axis.legend()
            else:
                nothing(axis, "z is not scored")


def plot_error_histograms(errors_nm: Mapping[str, np.ndarray], photon_ratio: np.ndarray, path: Path) -> None:
    """Histograms of predicted − true of every axis in nm, and of predicted over true photons."""
    with panels(path, len(errors_nm) + 1, height_in=3.0) as axes:
        for axis, (name, error_nm) in zip(axes[0], errors_nm.items(), strict=False):
            _error_histogram(axis, error_nm[np.isfinite(error_nm)], name)
        known = photon_ratio[np.isfinite(photon_ratio)]
        last = axes[0, -1]
        if len(known):
            last.hist(known, 50, range=(0, max(2.0, float(np.quantile(known, 0.99)))), color=GREY)
            last.axvline(np.median(known), color="black", ls="--", lw=1)
            last.set(title=f"photons: median ratio\n{np.median(known):.3f}")
        else:
            nothing(last, "photons are not known")
        last.set(xlabel="photons, predicted / true")
        axes[0, 0].set(ylabel="pairs")


def _error_histogram(axis: Axes, error_nm: np.ndarray, name: str) -> None:
    if len(error_nm):
        reach = float(np.quantile(np.abs(error_nm), 0.99)) or 1.0
        axis.hist(error_nm, 50, range=(-reach, reach), color=AXIS_COLOURS[name], alpha=0.85)
        axis.axvline(0, color="black", lw=1)
        axis.set(title=f"{name}: mean {error_nm.mean():+.1f} nm\nstandard deviation {error_nm.std():.1f} nm")
    else:
        nothing(axis, "no pair knows it")
    axis.set(xlabel=f"{name}, predicted − true (nm)")


def plot_reliability(table: pd.DataFrame, path: Path) -> None:
    """The share of right localizations against the stated probability (``probability_reliability``)."""
    with panels(path, 2) as axes:
        curve, counts = axes[0]
        known = table[table["n"] > 0]
        share = known["right"].to_numpy()
        spread = np.sqrt(np.maximum(share * (1 - share), 1e-12) / known["n"].to_numpy())
        curve.plot([0, 1], [0, 1], color=GREY, lw=1, label="calibrated")
        curve.errorbar(known["stated"], share, spread, fmt="o-", ms=4, color=BLUE, label="this table")
        curve.set(xlabel="stated probability", ylabel="share that is matched", xlim=(0, 1), ylim=(0, 1.03))
        curve.legend(loc="upper left")
        counts.bar(
            table["low"], table["n"], table["high"] - table["low"], align="edge", color=BLUE, alpha=0.85
        )
        counts.set(xlabel="stated probability", ylabel="localizations")


def plot_pixel_bias(within_x_N: np.ndarray, within_y_N: np.ndarray, path: Path) -> None:
    """Histograms of the places within a pixel, each 0 to 1, with what chance alone allows."""
    with panels(path, 2, height_in=3.0) as axes:
        for axis, name, within in zip(axes[0], "xy", (within_x_N, within_y_N), strict=True):
            n_bins = 20
            axis.hist(within, n_bins, range=(0, 1), color=AXIS_COLOURS[name], alpha=0.85)
            mean = len(within) / n_bins
            axis.axhspan(mean - 2 * mean**0.5, mean + 2 * mean**0.5, color=GREY, alpha=0.25, label="±2 √n")
            axis.axhline(mean, color="black", lw=1)
            axis.set(xlabel=f"{name} within its pixel (px)", ylabel="localizations")
            axis.legend(loc="lower right")
