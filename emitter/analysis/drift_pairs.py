"""Fine drift: the curve over time under which localizations of different times lie upon each other best.

What is maximized is the overlap of all pairs, sum of exp(-r²/2) of their distance r without drift in units of a
kernel's width, as in drift at minimum entropy (Cnossen et al., Optics Express 29, 27961 (2021)). The curve is constant
in bins of time, with a penalty on its first or second differences (P-splines, Eilers & Marx, Statistical Science 11, 89
(1996)), chosen by halves of the field: the drift that one half shows must raise the overlap of the other's pairs.
Shape suffixes: N rows, P pairs, K bins of time, A axes, T tiles of the field, G tiles and parts of the
time. Lengths are in kernel's widths.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import linalg
from scipy.spatial import cKDTree

from emitter.analysis.field import field_of
from emitter.core.progress import Report

REACH = 3.0  # kernel's widths: pairs farther apart are not looked at
_TILES = 8  # along each side of the field
_TIMES = 4  # parts of the time: two beads alone can then tell that they agree
# order of the differences, and over about how many bins it smooths
_PENALTIES = (
    (1, 0.1),
    (1, 0.3),
    (1, 1),
    (1, 3),
    (1, 10),
    (1, 30),
    (2, 1),
    (2, 3),
    (2, 10),
    (2, 30),
    (2, 100),
)

_MAX_STEPS = 8
_CONVERGED = 0.01
_RIDGE = 1e-10  # of the largest curvature: far from what pairs tell, enough for the inverse
_MIN_CURVATURE = 0.2  # of a pair's at distance 0: keeps Newton's steps short where many pairs lie far apart
_SURE = 2.5  # standard errors by which drift must do better than none


@dataclass(frozen=True)
class Curve:
    """Drift in each bin of time and its standard error, (K, A)."""

    drift_KA: np.ndarray
    error_KA: np.ndarray


class Pairs:
    """Pairs of rows: their bins, their difference along the axes, a weight of each, and the tile that they lie in.

    Args:
        n_bins: of time, K.
        bins_2P: of the earlier and of the later row.
        difference_AP: later less earlier.
        weight_P: how much each counts.
        tile_P: where it lies.
    """

    def __init__(
        self,
        n_bins: int,
        bins_2P: np.ndarray,
        difference_AP: np.ndarray,
        weight_P: np.ndarray,
        tile_P: np.ndarray,
    ) -> None:
        self.n_bins = n_bins
        self.bins_2P, self.difference_AP, self.weight_P, self.tile_P = (
            bins_2P,
            difference_AP,
            weight_P,
            tile_P,
        )
        self._cell_P = bins_2P[0] * n_bins + bins_2P[1]

    def select(self, chosen_P: np.ndarray) -> Pairs:
        """Some of the pairs."""
        columns = (self.bins_2P, self.difference_AP, self.weight_P, self.tile_P)
        return Pairs(self.n_bins, *(column[..., chosen_P] for column in columns))

    def kernel(self, drift_KA: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What each pair adds to the overlap, (P,), and its difference without drift, (A, P)."""
        early_P, late_P = self.bins_2P
        left_AP = self.difference_AP - (drift_KA[late_P] - drift_KA[early_P]).T
        return self.weight_P * np.exp(-0.5 * np.einsum("ap,ap->p", left_AP, left_AP)), left_AP

    def overlaps(self, drift_KA: np.ndarray) -> np.ndarray:
        """Sum of the kernel over the pairs of each tile and part of the time, (tiles × parts,)."""
        part_P = self.bins_2P[1] * _TIMES // self.n_bins
        return np.bincount(self.tile_P * _TIMES + part_P, self.kernel(drift_KA)[0], _TILES**2 * _TIMES)

    def laplacian(self, kernel_P: np.ndarray) -> np.ndarray:
        """Of the graph of bins joined by their pairs' kernels, (K, K): the curvature, but for a factor."""
        joined_KK = np.bincount(self._cell_P, kernel_P, self.n_bins**2).reshape(self.n_bins, self.n_bins)
        joined_KK = joined_KK + joined_KK.T
        return np.diag(joined_KK.sum(axis=0)) - joined_KK

    def gradient(self, kernel_P: np.ndarray, left_AP: np.ndarray) -> np.ndarray:
        """Of the overlap, (K, A)."""
        early, late = (
            [np.bincount(bin_P, kernel_P * left_P, self.n_bins) for left_P in left_AP]
            for bin_P in self.bins_2P
        )
        return np.column_stack(late) - np.column_stack(early)


def find_pairs(
    place_NA: np.ndarray, bin_N: np.ndarray, most: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rows (earlier, later) of different bins within ``REACH``, (P,) each.

    Of crowded places only some rows are taken, by chance, so that there are about ``most`` pairs at most. Neighbouring
    bins are not paired: the frames of one blink would tie them together.
    """
    rows = _thinned(place_NA, most, rng)
    pairs_P2 = rows[cKDTree(place_NA[rows]).query_pairs(REACH, output_type="ndarray")]
    gap_P = bin_N[pairs_P2[:, 1]] - bin_N[pairs_P2[:, 0]]
    pairs_P2 = np.where((gap_P < 0)[:, None], pairs_P2[:, ::-1], pairs_P2)[np.abs(gap_P) > 1]
    return pairs_P2[:, 0], pairs_P2[:, 1]


def _thinned(place_NA: np.ndarray, most_pairs: int, rng: np.random.Generator) -> np.ndarray:
    """Rows, in random order, of which no cell of the kernel's reach holds too many."""
    rows = rng.permutation(len(place_NA))
    cell_NA = np.floor(place_NA[rows] / REACH).astype(np.int64)
    _, cell_N, count_C = np.unique(cell_NA, axis=0, return_inverse=True, return_counts=True)
    by_cell = np.argsort(cell_N.reshape(-1), kind="stable")
    rank_N = np.empty(len(rows), np.int64)
    rank_N[by_cell] = np.arange(len(rows)) - np.repeat(np.cumsum(count_C) - count_C, count_C)
    most = int(count_C.max())
    # a row has the neighbours of about π cells in 2D, and each pair has two rows
    while most > 2 and 1.5 * float((np.minimum(count_C, most).astype(float) ** 2).sum()) > most_pairs:
        most = math.ceil(0.9 * most) - 1
    return rows[rank_N < most]


def even_weights(early_P: np.ndarray, late_P: np.ndarray) -> np.ndarray:
    """Weights of pairs, (P,), by which crowded places, such as a bead, count by their rows and not by their pairs.

    What n rows at one place tell of drift grows with n, and their pairs with n².
    """
    partners_N = np.bincount(np.concatenate((early_P, late_P)))
    typical = float(np.median(partners_N[partners_N > 0])) if len(early_P) else 1.0
    return typical / np.maximum(typical, np.sqrt(partners_N[early_P] * partners_N[late_P]))


def tiles_of(place_N2: np.ndarray) -> np.ndarray:
    """The tile of the field that each row lies in, (N,), numbered so that even ones and odd ones hold as many rows."""
    low_2, high_2 = field_of(place_N2)
    extent = max(float((high_2 - low_2).max()), 1e-9)
    column_N, row_N = np.clip((place_N2 - low_2) / extent * _TILES, 0, _TILES - 1).astype(np.int64).T
    tile_N = row_N * _TILES + column_N
    count_T = np.bincount(tile_N, minlength=_TILES**2)
    place_T = np.argsort(np.argsort(-count_T, kind="stable"))
    swapped = (place_T // 2) % 2 == 1  # the larger of two goes to either half in turn
    return np.where(swapped, place_T ^ 1, place_T)[tile_N]


def best_curve(pairs: Pairs, start_KA: np.ndarray, report: Report) -> Curve | None:
    """The curve that pairs show, found from ``start_KA``; None unless the field's halves confirm each other.

    Args:
        pairs: of the whole field.
        start_KA: a first estimate, to within about a kernel's width.
        report: is told the share of the work that is done.
    """
    halves = [pairs.select(np.flatnonzero(pairs.tile_P % 2 == half)) for half in (0, 1)]
    still_G = pairs.overlaps(np.zeros_like(start_KA))
    unit = float(pairs.kernel(start_KA)[0].sum()) / pairs.n_bins
    best_KK, best_gain = None, 0.0
    for tried, (order, length) in enumerate(_PENALTIES):
        report(tried / len(_PENALTIES))
        if length > pairs.n_bins:
            continue
        penalty_KK = unit * _penalty(pairs.n_bins, order, length)
        curves = [_climbed(half, start_KA, penalty_KK) for half in halves]
        gain_G = halves[1].overlaps(curves[0]) + halves[0].overlaps(curves[1]) - still_G
        if gain_G.sum() > best_gain and _significance(gain_G) > _SURE:
            best_KK, best_gain = penalty_KK, float(gain_G.sum())
    if best_KK is None:
        return None
    drift_KA = _climbed(pairs, start_KA, best_KK)
    curve = Curve(drift_KA, _errors(pairs, drift_KA, best_KK))
    return curve if drift_KA.std(axis=0).max() > np.sqrt((curve.error_KA**2).mean()) else None


def _significance(gain_G: np.ndarray) -> float:
    """Standard errors by which gains are above 0. Of their roots, so that a bead's place alone does not say all."""
    root_G = np.sign(gain_G) * np.sqrt(np.abs(gain_G))
    return float(root_G.sum()) / max(math.sqrt((root_G**2).sum()), 1e-30)


def _penalty(knots: int, order: int, length: float) -> np.ndarray:
    """Against differences of an order, of such a strength that it smooths over about so many bins, (K, K)."""
    differences = np.diff(np.eye(knots), order, axis=0)
    return length ** (2 * order) * differences.T @ differences


def _climbed(pairs: Pairs, drift_KA: np.ndarray, penalty_KK: np.ndarray) -> np.ndarray:
    """The highest overlap less penalty from a start on, by Newton's steps with the curvature of the mean pair."""
    for _ in range(_MAX_STEPS):
        kernel_P, left_AP = pairs.kernel(drift_KA)
        gradient_KA = pairs.gradient(kernel_P, left_AP) - penalty_KK @ drift_KA
        step_KA = linalg.cho_solve(_curvature(pairs, kernel_P, left_AP, penalty_KK), gradient_KA)
        drift_KA = drift_KA + step_KA
        if np.sqrt((step_KA**2).mean()) < _CONVERGED:
            break
    return drift_KA


def _curvature(pairs: Pairs, kernel_P: np.ndarray, left_AP: np.ndarray, penalty_KK: np.ndarray) -> tuple:
    """Cholesky factor of the negative second derivative, for ``cho_solve``."""
    total = max(float(kernel_P.sum()), 1e-9)
    mean = 1 - float((kernel_P * left_AP**2).sum()) / total / len(left_AP)
    curvature_KK = max(mean, _MIN_CURVATURE) * pairs.laplacian(kernel_P) + penalty_KK
    # a common shift of all bins changes nothing, and bins without pairs may leave more open: held where they are
    held_KK = total / pairs.n_bins**2 + _RIDGE * curvature_KK.max() * np.eye(pairs.n_bins)
    return linalg.cho_factor(curvature_KK + held_KK)


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
    factor = _curvature(pairs, kernel_P, left_AP, penalty_KK)
    moved_TKA = np.stack([linalg.cho_solve(factor, gradient_KA) for gradient_KA in gradient_TKA])
    moved_TKA -= moved_TKA.mean(axis=1, keepdims=True)  # a common shift is no drift
    return np.sqrt((moved_TKA**2).sum(axis=0) * len(tiles) / (len(tiles) - 1))
