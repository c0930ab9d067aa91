"""Pairs of localizations of different times that lie near each other, for ``drift_curve``.

Shape suffixes: N rows, P pairs, K bins of time, A axes, C cells of the field, T tiles of the field, G tiles and parts
of the time. Lengths are in kernel's widths.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial import cKDTree

from emitter.analysis.field import field_of

REACH = 3.0  # kernel's widths: pairs farther apart are not looked at
_PART = 8 * REACH  # side of the parts of the field in which rows are counted
_CROWDED = 10.0  # times the rows that the part of the median row has
# a row has the neighbours of about π cells of REACH in 2D, and each pair has two rows
_PAIRS_OF_SQUARES = 1.5
_TILES = 8  # along each side of the field
_TIMES = 4  # parts of the time: two beads alone can then tell that they agree


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
        drift_AK = np.ascontiguousarray(drift_KA.T, self.difference_AP.dtype)
        left_AP = self.difference_AP - drift_AK.take(late_P, axis=1) + drift_AK.take(early_P, axis=1)
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
    """Rows, in random order, each kept by a chance of its own where all would make too many pairs.

    The chance is the same everywhere, but lower where it is much more crowded than usual, as on a bead. A fixed number
    of rows for every small place would take pairs away at short distance alone, and any drift that mixes them would
    seem right; as many rows of what is diffuse as of the structures would drown these.
    """
    rows = rng.permutation(len(place_NA))
    near_N, near_C = _places(place_NA[rows], REACH)
    if _PAIRS_OF_SQUARES * float((near_C.astype(float) ** 2).sum()) <= most_pairs:
        return rows
    part_N, part_C = _places(place_NA[rows], _PART)
    crowd_N = part_C[part_N]
    even_N = np.minimum(_CROWDED * np.median(crowd_N) / crowd_N, 1.0)
    n_pairs = _PAIRS_OF_SQUARES * float((np.bincount(near_N, even_N) ** 2).sum())
    chance_N = even_N * min(math.sqrt(most_pairs / n_pairs), 1.0)
    return rows[rng.random(len(rows)) < chance_N]


def _places(place_NA: np.ndarray, side: float) -> tuple[np.ndarray, np.ndarray]:
    """The cell of this side that each row lies in, (N,) from 0 on, and the rows of each, (C,)."""
    cell_NA = np.floor(place_NA / side).astype(np.int64)
    by_cell = np.lexsort(cell_NA.T)
    differs_N = np.any(np.diff(cell_NA[by_cell], axis=0), axis=1)
    cell_N = np.empty(len(cell_NA), np.int64)
    cell_N[by_cell] = np.concatenate(([0], np.cumsum(differs_N)))
    count_C = np.bincount(cell_N)
    return cell_N, count_C


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
