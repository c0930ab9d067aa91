"""Sums over matched emitters, and the scores that follow from them.

Everything that is kept is a sum, so that batches and ranks add up exactly to one evaluation of all the data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from emitter.core.table import EmitterTable
from emitter.metrics.protocol import Counted

ALPHA_LATERAL_PER_NM = 1.0  # weights of the RMSE against the Jaccard index in % (SMLM Challenge 2016)
ALPHA_AXIAL_PER_NM = 0.5

# A median is no sum, but a histogram is: log(photon ratio) in steps of 0.2 %, from 1/100 to 100.
RATIO_STEP = 0.002
RATIO_BINS = 2 * math.ceil(math.log(100.0) / RATIO_STEP) + 1  # the middle bin is centred on a ratio of 1


@dataclass(frozen=True)
class Sums:
    """Sums over true positives of predicted − true, in nm; ``n_axial`` pairs have a known z in both."""

    n_truth: float
    n_predicted: float
    n_matched: float
    n_axial: float
    dx: float
    dy: float
    dz: float
    dx_squared: float
    dy_squared: float
    dz_squared: float
    photon_ratio: np.ndarray  # (RATIO_BINS,) histogram of log(predicted / true photons)

    def __add__(self, other: Sums) -> Sums:
        return Sums(**{name: value + getattr(other, name) for name, value in vars(self).items()})


def sums(predicted: EmitterTable, truth: EmitterTable, counted: Counted, axial: bool = True) -> Sums:
    """The sums of the pairs that a protocol counted (``emitter.metrics.protocol.count``)."""
    p, t = predicted.select(counted.predicted_rows), truth.select(counted.truth_rows)
    dx, dy = p.x_nm - t.x_nm, p.y_nm - t.y_nm
    dz = p.z_nm - t.z_nm
    dz = dz[np.isfinite(dz)] if axial else dz[:0]
    return Sums(
        n_truth=float(counted.n_truth),
        n_predicted=float(counted.n_predicted),
        n_matched=float(len(dx)),
        n_axial=float(len(dz)),
        dx=float(dx.sum()),
        dy=float(dy.sum()),
        dz=float(dz.sum()),
        dx_squared=float((dx**2).sum()),
        dy_squared=float((dy**2).sum()),
        dz_squared=float((dz**2).sum()),
        photon_ratio=_ratio_histogram(p.photons, t.photons),
    )


def scores(total: Sums) -> dict[str, float]:
    """The figures of ``metrics.json`` from sums; NaN where one is undefined (no pair, or no z).

    Jaccard index, precision, recall, F1 and efficiencies are fractions (1 is perfect, an efficiency may be
    negative): E = 1 − sqrt((1 − JI)² + (α · RMSE / 100)²), α = 1/nm lateral and 0.5/nm axial;
    ``efficiency_3d`` is their mean, and NaN as the axial one is when z is unknown. RMSE lateral is sqrt(Σ(dx²
    + dy²) / TP), axial sqrt(Σdz² / TP). ``photon_ratio_median`` (predicted over true) is read from a
    histogram and good to 0.1 % between 1/100 and 100.
    """
    matched, n_truth, n_predicted = total.n_matched, total.n_truth, total.n_predicted
    jaccard = _ratio(matched, n_truth + n_predicted - matched)
    lateral_nm = math.sqrt(_ratio(total.dx_squared + total.dy_squared, matched))
    axial_nm = math.sqrt(_ratio(total.dz_squared, total.n_axial))
    efficiency_lateral = efficiency(jaccard, lateral_nm, ALPHA_LATERAL_PER_NM)
    efficiency_axial = efficiency(jaccard, axial_nm, ALPHA_AXIAL_PER_NM)
    return {
        "jaccard": jaccard,
        "precision": _ratio(matched, n_predicted),
        "recall": _ratio(matched, n_truth),
        "f1": _ratio(2 * matched, n_truth + n_predicted),
        "efficiency_lateral": efficiency_lateral,
        "efficiency_axial": efficiency_axial,
        "efficiency_3d": (efficiency_lateral + efficiency_axial) / 2,
        "rmse_lateral_nm": lateral_nm,
        "rmse_axial_nm": axial_nm,
        "rmse_volume_nm": math.hypot(lateral_nm, axial_nm),
        "bias_x_nm": _ratio(total.dx, matched),
        "bias_y_nm": _ratio(total.dy, matched),
        "bias_z_nm": _ratio(total.dz, total.n_axial),
        "photon_ratio_median": _median_ratio(total.photon_ratio),
        "n_truth": int(n_truth),
        "n_predicted": int(n_predicted),
        "n_matched": int(matched),
    }


def efficiency(jaccard: float, rmse_nm: float, alpha_per_nm: float) -> float:
    """Challenge efficiency as a fraction: 1 − sqrt((1 − JI)² + (α·RMSE/100)²), JI a fraction, α·RMSE in %."""
    return 1.0 - math.hypot(1.0 - jaccard, alpha_per_nm * rmse_nm / 100.0)


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else math.nan


def _ratio_histogram(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Histogram of log(predicted / true), its ends open; pairs with unknown photons are left out."""
    known = np.isfinite(predicted) & (true > 0) & np.isfinite(true)
    ratio = np.clip(predicted[known] / true[known], 1e-9, 1e9)
    index = np.rint(np.log(ratio) / RATIO_STEP).astype(np.int64) + RATIO_BINS // 2
    return np.bincount(np.clip(index, 0, RATIO_BINS - 1), minlength=RATIO_BINS).astype(np.float64)


def _median_ratio(histogram: np.ndarray) -> float:
    """Median from the histogram, at the bins' centres; the mean of both middle ones for an even number."""
    n = histogram.sum()
    if n == 0:
        return math.nan
    cumulative = np.cumsum(histogram)
    middle = np.searchsorted(cumulative, [(n - 1) // 2, n // 2], side="right")
    return float(np.exp((middle - RATIO_BINS // 2) * RATIO_STEP).mean())
