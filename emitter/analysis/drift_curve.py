"""Fine drift: the curve over time under which localizations of different times lie upon each other best.

What is maximized is the overlap of all pairs, sum of exp(-r²/2) of their distance r without drift in units of a
kernel's width, as in drift at minimum entropy (Cnossen et al., Optics Express 29, 27961 (2021)). The curve is constant
in bins of time, with a penalty on its first or second differences (P-splines, Eilers & Marx, Statistical Science 11, 89
(1996)), but for those across jumps. Penalty and jumps are chosen by halves of the field: the drift that one half shows
must raise the overlap of the other's pairs.
Shape suffixes: N rows, P pairs, K bins of time, A axes, T tiles of the field, G tiles and parts of the time. Lengths
are in kernel's widths.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from emitter.analysis.drift_pairs import Pairs
from emitter.core.progress import Report

_MAX_STEPS = 8
_CONVERGED = 0.01
_RIDGE = 1e-10  # of the largest curvature: far from what pairs tell, enough for the inverse
_MIN_CURVATURE = 0.2  # of a pair's at distance 0: keeps Newton's steps short where many pairs lie far apart
_SURE = 2.5  # standard errors by which drift must do better than none
_SURE_JUMP = 3.5  # and jumps better than none: several are tried, at places that both halves chose
_MAX_JUMPS = 4
_STEADY = 30  # bins: a curve that is best smoothed over so many has no jump
_JUMP_BINS = 3  # at least, between jumps and before the ends


@dataclass(frozen=True)
class Penalty:
    """Against differences of an order, of a strength that smooths over about so many bins; none across jumps.

    A jump is the number of the first bin after it.
    """

    order: int
    length: float
    jumps: tuple[int, ...] = ()

    def matrix_KK(self, n_bins: int) -> np.ndarray:
        """Its second derivative, (K, K), for pairs whose curvature is 1 in each bin."""
        differences = np.diff(np.eye(n_bins), self.order, axis=0)
        for jump in self.jumps:
            differences[max(jump - self.order, 0) : jump] = 0
        return self.length ** (2 * self.order) * differences.T @ differences


_SMOOTH = tuple(Penalty(1, length) for length in (0.1, 0.3, 1, 3, 10, 30)) + tuple(
    Penalty(2, length) for length in (1, 3, 10, 30, 100)
)
_BETWEEN_JUMPS = (Penalty(2, 100), Penalty(2, 10))  # the smoothest first: the other must be surer


@dataclass(frozen=True)
class Curve:
    """Drift in each bin of time and its standard error, (K, A), and the first bins after jumps."""

    drift_KA: np.ndarray
    error_KA: np.ndarray
    jumps: tuple[int, ...] = ()


def best_curve(pairs: Pairs, start_KA: np.ndarray, report: Report, jumps: bool = False) -> Curve | None:
    """The curve that pairs show, found from ``start_KA``; None unless the field's halves confirm each other.

    Args:
        pairs: of the whole field.
        start_KA: a first estimate, to within about a kernel's width.
        report: is told the share of the work that is done.
        jumps: whether sudden steps are looked for, too.
    """
    search = _Search(pairs, start_KA)
    penalty = search.smooth(report) if search.unit > 0 else None  # 0: no pair is near
    if penalty is None:
        return None
    if jumps and penalty.length < _STEADY:
        penalty = search.with_jumps(penalty)
    matrix_KK = search.matrix_KK(penalty)
    drift_KA = _climbed(pairs, start_KA, matrix_KK)
    curve = Curve(drift_KA, _errors(pairs, drift_KA, matrix_KK), penalty.jumps)
    return curve if drift_KA.std(axis=0).max() > np.sqrt((curve.error_KA**2).mean()) else None


class _Search:
    """Penalties tried on halves of the field: what one half shows is scored on the other's pairs."""

    def __init__(self, pairs: Pairs, start_KA: np.ndarray) -> None:
        self.pairs, self.start_KA = pairs, start_KA
        self.halves = [pairs.select(np.flatnonzero(pairs.tile_P % 2 == half)) for half in (0, 1)]
        self.unit = float(pairs.kernel(start_KA)[0].sum()) / pairs.n_bins
        self.score_G = pairs.overlaps(np.zeros_like(start_KA))  # of the best so far

    def matrix_KK(self, penalty: Penalty) -> np.ndarray:
        return self.unit * penalty.matrix_KK(self.pairs.n_bins)

    def scored(self, penalty: Penalty, start_KA: np.ndarray) -> np.ndarray:
        """Overlap of either half's pairs under the curve of the other, (G,)."""
        matrix_KK = self.matrix_KK(penalty)
        one, other = self.halves
        return one.overlaps(_climbed(other, start_KA, matrix_KK)) + other.overlaps(
            _climbed(one, start_KA, matrix_KK)
        )

    def smooth(self, report: Report) -> Penalty | None:
        """The best of the penalties without jumps that are surely better than no drift."""
        best, best_G = None, self.score_G
        for tried, penalty in enumerate(_SMOOTH):
            report(tried / len(_SMOOTH))
            if penalty.length > self.pairs.n_bins:
                continue
            score_G = self.scored(penalty, self.start_KA)
            if score_G.sum() > best_G.sum() and _significance(score_G - self.score_G) > _SURE:
                best, best_G = penalty, score_G
        self.score_G = best_G
        return best

    def with_jumps(self, best: Penalty) -> Penalty:
        """The best penalty with jumps that is surely better than one without, or that one."""
        for penalty in _BETWEEN_JUMPS:
            if penalty.length > self.pairs.n_bins:
                continue
            drift_KA = self.start_KA
            while len(penalty.jumps) < _MAX_JUMPS:
                matrix_KK = self.matrix_KK(penalty)
                drift_KA = _climbed(self.pairs, drift_KA, matrix_KK)
                jump = _likeliest_jump(self.pairs, drift_KA, matrix_KK, penalty.jumps)
                if jump is None:
                    break
                penalty = Penalty(penalty.order, penalty.length, (*penalty.jumps, jump))
                score_G = self.scored(penalty, drift_KA)
                gain_G = score_G - self.score_G
                if gain_G.sum() > 0 and _significance(gain_G) > _SURE_JUMP:
                    best, self.score_G = penalty, score_G
        return best


def _significance(gain_G: np.ndarray) -> float:
    """Standard errors by which gains are above 0. Of their roots, so that a bead's place alone does not say all."""
    root_G = np.sign(gain_G) * np.sqrt(np.abs(gain_G))
    return float(root_G.sum()) / max(math.sqrt((root_G**2).sum()), 1e-30)


def _likeliest_jump(
    pairs: Pairs, drift_KA: np.ndarray, penalty_KK: np.ndarray, jumps: tuple[int, ...]
) -> int | None:
    """The first bin after the jump that would raise overlap less penalty most; None where there is no room for one.

    To second order about the curve, all else free: gradient² / curvature along a step, of which the smooth curve takes
    on what it can.
    """
    kernel_P, left_AP = pairs.kernel(drift_KA)
    penalized_KK = _curvature(pairs, kernel_P, left_AP, penalty_KK)
    curvature_KK = penalized_KK - penalty_KK
    left_KK = curvature_KK - curvature_KK @ linalg.solve(penalized_KK, curvature_KK, assume_a="pos")
    back = slice(None, None, -1)  # a step moves all bins from its own to the last
    gradient_KA = pairs.gradient(kernel_P, left_AP)[back].cumsum(axis=0)[back]
    stiffness_K = left_KK[back, back].cumsum(axis=0).cumsum(axis=1).diagonal()[back]
    gain_K = (gradient_KA**2).sum(axis=1) / np.maximum(stiffness_K, _RIDGE * curvature_KK.max())
    for taken in (0, *jumps, len(gain_K)):
        gain_K[max(taken - _JUMP_BINS + 1, 0) : taken + _JUMP_BINS] = 0
    return int(gain_K.argmax()) if gain_K.any() else None


def _climbed(pairs: Pairs, drift_KA: np.ndarray, penalty_KK: np.ndarray) -> np.ndarray:
    """The highest overlap less penalty from a start on, by Newton's steps with the curvature of the mean pair."""
    for _ in range(_MAX_STEPS):
        kernel_P, left_AP = pairs.kernel(drift_KA)
        gradient_KA = pairs.gradient(kernel_P, left_AP) - penalty_KK @ drift_KA
        factor = linalg.cho_factor(_curvature(pairs, kernel_P, left_AP, penalty_KK))
        step_KA = linalg.cho_solve(factor, gradient_KA)
        drift_KA = drift_KA + step_KA
        if np.sqrt((step_KA**2).mean()) < _CONVERGED:
            break
    return drift_KA


def _curvature(pairs: Pairs, kernel_P: np.ndarray, left_AP: np.ndarray, penalty_KK: np.ndarray) -> np.ndarray:
    """The negative second derivative of overlap less penalty, (K, K), positive definite."""
    total = max(float(kernel_P.sum(dtype=np.float64)), 1e-9)
    mean = 1 - float((kernel_P * left_AP**2).sum(dtype=np.float64)) / total / len(left_AP)
    curvature_KK = max(mean, _MIN_CURVATURE) * pairs.laplacian(kernel_P) + penalty_KK
    # a common shift of all bins changes nothing, and bins without pairs may leave more open: held where they are
    return curvature_KK + total / pairs.n_bins**2 + _RIDGE * curvature_KK.max() * np.eye(pairs.n_bins)


def _errors(pairs: Pairs, drift_KA: np.ndarray, penalty_KK: np.ndarray) -> np.ndarray:
    """Standard errors, (K, A), from how much the gradients of the field's tiles differ (sandwich estimator)."""
    kernel_P, left_AP = pairs.kernel(drift_KA)
    tiles = np.unique(pairs.tile_P)
    gradients = []
    for tile in tiles:
        chosen_P = np.flatnonzero(pairs.tile_P == tile)
        gradients.append(pairs.select(chosen_P).gradient(kernel_P[chosen_P], left_AP[:, chosen_P]))
    if len(tiles) < 2:
        return np.full_like(drift_KA, np.inf)
    gradient_TKA = np.stack(gradients) - np.mean(gradients, axis=0)
    factor = linalg.cho_factor(_curvature(pairs, kernel_P, left_AP, penalty_KK))
    moved_TKA = np.stack([linalg.cho_solve(factor, gradient_KA) for gradient_KA in gradient_TKA])
    moved_TKA -= moved_TKA.mean(axis=1, keepdims=True)  # a common shift is no drift
    return np.sqrt((moved_TKA**2).sum(axis=0) * len(tiles) / (len(tiles) - 1))
