"""Figures of a score: over photons, depth and crowding, errors, and whether the table knows how sure it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from emitter.plots.style import BLUE, GREEN, GREY, ORANGE, nothing

_FEWEST = 5  # in a bin
_ERROR_PERCENTILE = 99.0


@dataclass(frozen=True)
class Curves:
    """Scores at K values of a quantity, (K,) each; NaN where there are none. ``bound_…``: the RMSE of errors
    at the Cramér-Rao bound, None where it is not known."""

    at: np.ndarray
    n_truth: np.ndarray
    jaccard: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    rmse_lateral_nm: np.ndarray
    rmse_axial_nm: np.ndarray
    bound_lateral_nm: np.ndarray | None = None
    bound_axial_nm: np.ndarray | None = None


def plot_binned(by: Mapping[str, Curves]) -> Figure:
    """Jaccard index, precision and recall above, RMSE below where there is some, against every quantity (its label)."""
    matched = any(
        np.isfinite(rmse[bins.n_truth >= _FEWEST]).any()
        for bins in by.values()
        for rmse in (bins.rmse_lateral_nm, bins.rmse_axial_nm)
    )
    figure = Figure(figsize=(11, 6 if matched else 3), layout="constrained")
    axes = figure.subplots(2 if matched else 1, len(by), squeeze=False)
    for column, (label, bins) in enumerate(by.items()):
        enough = bins.n_truth >= _FEWEST
        for name, values, style, colour in (
            ("Jaccard index", bins.jaccard, "o-", BLUE),
            ("precision", bins.precision, "o-", ORANGE),
            ("recall", bins.recall, "s:", GREEN),
        ):
            axes[0, column].plot(bins.at[enough], values[enough], style, ms=4, color=colour, label=name)
        axes[0, column].set(ylim=(0, 1.03), xlabel=label)
        if not matched:
            continue
        for name, values, bound, colour in (
            ("lateral", bins.rmse_lateral_nm, bins.bound_lateral_nm, BLUE),
            ("axial", bins.rmse_axial_nm, bins.bound_axial_nm, ORANGE),
        ):
            if not np.isfinite(values[enough]).any():
                continue
            axes[1, column].plot(bins.at[enough], values[enough], "o-", ms=4, color=colour, label=name)
            if bound is not None and np.isfinite(bound[enough]).any():
                axes[1, column].plot(
                    bins.at[enough], bound[enough], "--", color=colour, label=f"{name}, Cramér-Rao bound"
                )
        axes[1, column].set(xlabel=label, ylabel="RMSE (nm)")
        axes[1, column].set_ylim(bottom=0)
    for row in axes:
        if row[0].lines:
            row[0].legend(frameon=False, fontsize=9)
        for axis in row:
            axis.grid(alpha=0.3)
            axis.xaxis.set_major_locator(MaxNLocator(5))
    return figure


def plot_errors(
    errors: Mapping[str, np.ndarray], bounds: Mapping[str, np.ndarray], photon_ratio_M: np.ndarray
) -> Figure:
    """Histograms of the errors (nm) of matched pairs (M,) by axis; with the Cramér-Rao ``bounds`` (M,) by axis, where
    they are known, what errors of that size would look like; and of found over true photons."""
    errors = {axis: error for axis, error in errors.items() if np.isfinite(error).any()}
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    panels = figure.subplots(1, len(errors) + 1, squeeze=False)[0]
    _draw_photon_ratio(panels[-1], photon_ratio_M)
    for axes, (axis, error_M) in zip(panels, errors.items(), strict=False):
        error_M = error_M[np.isfinite(error_M)]
        far = max(float(np.percentile(np.abs(error_M), _ERROR_PERCENTILE)), 1.0)
        edges = np.linspace(-far, far, 61)
        counts, *_ = axes.hist(error_M, edges, color=BLUE, label="errors")
        if axis in bounds:
            _draw_bound(axes, bounds[axis], edges, float(np.sum(counts)))
        axes.axvline(0, color="black", lw=0.8)
        axes.set(xlabel=f"error in {axis} (nm)", yticks=[])
    if errors:
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    return figure


def _draw_photon_ratio(axes: Axes, ratio_M: np.ndarray) -> None:
    ratio_M = ratio_M[np.isfinite(ratio_M)]
    if not len(ratio_M):
        nothing(axes, "photons are not known")
    top = max(2.0, float(np.percentile(ratio_M, _ERROR_PERCENTILE))) if len(ratio_M) else 2.0
    axes.hist(ratio_M, np.linspace(0, top, 61).tolist(), color=BLUE)
    axes.axvline(1, color="black", lw=0.8)
    axes.set(xlabel="photons found / true", yticks=[])


def plot_pixel_bias(x_px_N: np.ndarray, y_px_N: np.ndarray) -> Figure:
    """Where positions (px) lie within their pixel, and how much that is by chance: a flat line, and two standard
    deviations of a bin around it."""
    figure = Figure(figsize=(11, 2.8), layout="constrained")
    n_bins = int(np.clip(len(x_px_N) // 50, 5, 40))
    edges = np.linspace(0, 1, n_bins + 1)
    flat = len(x_px_N) / n_bins
    for axes, axis, value_N in zip(figure.subplots(1, 2), "xy", (x_px_N, y_px_N), strict=True):
        axes.stairs(np.histogram(value_N % 1.0, edges)[0], edges, color=BLUE, fill=True, alpha=0.7)
        axes.axhspan(flat - 2 * math.sqrt(flat), flat + 2 * math.sqrt(flat), color=GREY, alpha=0.25, lw=0)
        axes.axhline(flat, color="black", lw=0.8)
        axes.set(xlabel=f"{axis} within the pixel (px)", ylabel="localizations", xlim=(0, 1))
    return figure


def _draw_bound(axes: Axes, bound_M: np.ndarray, edges: np.ndarray, n: float) -> None:
    """The density of Gaussian errors of these standard deviations, as counts in the bins."""
    bound_M = bound_M[np.isfinite(bound_M)]
    if len(bound_M) > 2000:
        bound_M = np.sort(bound_M)[:: math.ceil(len(bound_M) / 2000)]
    middle = (edges[1:] + edges[:-1]) / 2
    gauss = np.exp(-0.5 * (middle[:, None] / bound_M) ** 2) / (bound_M * math.sqrt(2 * math.pi))
    axes.plot(
        middle, gauss.mean(axis=1) * n * (edges[1] - edges[0]), color=ORANGE, lw=2, label="Cramér-Rao bound"
    )


def plot_reliability(
    n_K: np.ndarray, probability_K: np.ndarray, true_share_K: np.ndarray, z_scores: Mapping[str, np.ndarray]
) -> Figure:
    """The share of true emitters against the probability, in bins of n rows, and error over precision (z-scores, (M,)
    by axis) against the normal distribution."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color=GREY, lw=1)
    left.scatter(probability_K, true_share_K, s=12 + 150 * n_K / max(n_K.max(initial=1), 1), c=BLUE)
    left.set(xlabel="probability in the table", ylabel="share that is true", xlim=(0, 1.03), ylim=(0, 1.03))
    edges = np.linspace(-5, 5, 81)
    middle = (edges[1:] + edges[:-1]) / 2
    for (axis, z_M), colour in zip(z_scores.items(), (BLUE, ORANGE, GREEN, GREY), strict=False):
        z_M = z_M[np.isfinite(z_M)]
        if len(z_M):
            density = np.histogram(z_M, edges)[0] / (len(z_M) * (edges[1] - edges[0]))
            right.plot(middle, density, color=colour, label=f"{axis}: std {z_M.std():.2f}")
    right.plot(
        middle,
        np.exp(-0.5 * middle**2) / math.sqrt(2 * math.pi),
        color="black",
        lw=1,
        ls="--",
        label="normal",
    )
    right.set(xlabel="error / precision", yticks=[])
    right.legend(frameon=False, fontsize=9)
    return figure
