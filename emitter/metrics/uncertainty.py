"""Whether a table knows how sure it is: z-scores of the errors, reliability of the probability.

Shape suffixes: N rows of a table, M matched pairs, K bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emitter.core.table import PRECISION_COLUMNS, EmitterTable
from emitter.metrics.matching import Matches, match
from emitter.metrics.protocol import Protocol

_AXES = {"x": "x_nm", "y": "y_nm", "z": "z_nm", "photons": "photons"}
_N_BINS = 10


@dataclass(frozen=True)
class Reliability:
    """Of the rows in every bin of the probability (K,): how many, their mean probability, and how many of them are true
    as a share. ``error``: the expected calibration error, the mean distance of the two over all rows (Guo et al., ICML
    2017)."""

    n: np.ndarray
    probability: np.ndarray
    true_share: np.ndarray
    error: float


def reliability(probability_N: np.ndarray, true_N: np.ndarray, n_bins: int = _N_BINS) -> Reliability:
    """Probabilities against what came true, in bins of equal width.

    Args:
        probability_N: in [0, 1]; rows where it is unknown do not count, what lies outside is taken as 0 or 1.
        true_N: whether it was so.
    """
    known_N = np.isfinite(probability_N)
    probability_N, true_N = probability_N[known_N].clip(0, 1), true_N[known_N]
    bin_N = np.minimum((probability_N * n_bins).astype(int), n_bins - 1)
    n_K, sum_K, hits_K = (
        np.bincount(bin_N, weights, n_bins) for weights in (None, probability_N, true_N.astype(float))
    )
    filled_K = n_K > 0
    n_K, mean_K = n_K[filled_K], sum_K[filled_K] / n_K[filled_K]
    share_K = hits_K[filled_K] / n_K
    error = float((n_K * np.abs(mean_K - share_K)).sum() / max(n_K.sum(), 1))
    return Reliability(n_K, mean_K, share_K, error)


def z_scores(predicted: EmitterTable, truth: EmitterTable, pairs: Matches) -> dict[str, np.ndarray]:
    """(M,) by axis (x, y, z, photons): error over precision of matched pairs; of the axes whose precision is known."""
    found = predicted.columns()
    scores = {}
    for (axis, name), precision in zip(_AXES.items(), PRECISION_COLUMNS, strict=True):
        if precision in found:
            error_M = found[name][pairs.predicted] - truth.columns()[name][pairs.truth]
            scores[axis] = error_M / found[precision][pairs.predicted]
    return scores


def uncertainty_scores(predicted: EmitterTable, truth: EmitterTable, protocol: Protocol) -> dict[str, float]:
    """``z_score_std_x``, ``_y``, ``_z`` and ``_photons``, 1 for precisions that are the errors' standard deviation, and
    ``calibration_error`` of the probability. All rows count, whatever the protocol leaves out; a row is true when a
    true emitter lies within the protocol's radius."""
    if not protocol.axial:
        predicted = predicted.with_columns(z_nm=np.full(len(predicted), np.nan))
    pairs = match(predicted, truth, "optimal", protocol.radius_lateral_nm, protocol.radius_axial_nm)
    scores = {
        f"z_score_std_{axis}": float(z_M.std()) if len(z_M) else np.nan
        for axis, z_M in z_scores(predicted, truth, pairs).items()
    }
    true_N = np.isin(np.arange(len(predicted)), pairs.predicted)
    return {**scores, "calibration_error": reliability(predicted.probability, true_N).error}
