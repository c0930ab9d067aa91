"""Scores in bins of what an emitter is like: its photons, its depth, how crowded it is around.

Shape suffixes: N true emitters, F found ones, M matched pairs, K bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from emitter.core.table import EmitterTable
from emitter.metrics.matching import Matches

AROUND_NM = 1000.0


@dataclass(frozen=True)
class Binned:
    """Of every bin (K,), between ``edges`` (K + 1,): true and found emitters and matched pairs, and what follows.

    A matched pair is in the bin of its true emitter; a found one without a pair in that of its own value. What a bin
    holds too little for is NaN.
    """

    edges: np.ndarray
    n_truth: np.ndarray
    n_false: np.ndarray
    n_matched: np.ndarray
    rmse_lateral_nm: np.ndarray
    rmse_axial_nm: np.ndarray

    @property
    def middle(self) -> np.ndarray:
        """Of every bin."""
        middle: np.ndarray = (self.edges[1:] + self.edges[:-1]) / 2
        return middle

    @property
    def jaccard(self) -> np.ndarray:
        """Matched over true, found or both."""
        return _over(self.n_matched, self.n_truth + self.n_false)

    @property
    def precision(self) -> np.ndarray:
        """Matched over found."""
        return _over(self.n_matched, self.n_matched + self.n_false)

    @property
    def recall(self) -> np.ndarray:
        """Matched over true."""
        return _over(self.n_matched, self.n_truth)


def binned(
    predicted: EmitterTable,
    truth: EmitterTable,
    pairs: Matches,
    value_F: np.ndarray,
    value_N: np.ndarray,
    edges: np.ndarray,
) -> Binned:
    """Scores in bins.

    Args:
        predicted, truth: the tables.
        pairs: their matched rows.
        value_F, value_N: of every found and of every true emitter, what it is binned by.
        edges: (K + 1,) ascending; what lies outside is left out.
    """
    false_F = np.ones(len(predicted), dtype=bool)
    false_F[pairs.predicted] = False
    found, true = predicted.select(pairs.predicted), truth.select(pairs.truth)
    lateral_M = (found.x_nm - true.x_nm) ** 2 + (found.y_nm - true.y_nm) ** 2
    axial_M = (found.z_nm - true.z_nm) ** 2
    value_M = value_N[pairs.truth]
    return Binned(
        edges,
        np.histogram(value_N, edges)[0],
        np.histogram(value_F[false_F], edges)[0],
        np.histogram(value_M, edges)[0],
        root_mean(lateral_M, value_M, edges),
        root_mean(axial_M, value_M, edges),
    )


def root_mean(square_M: np.ndarray, value_M: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(K,) root of the mean of squares in bins of a value; NaN in a bin that holds none."""
    n_K = np.histogram(value_M, edges)[0]
    root_K: np.ndarray = np.sqrt(_over(np.histogram(value_M, edges, weights=square_M)[0], n_K))
    return root_K


def density_around(table: EmitterTable, radius_nm: float = AROUND_NM) -> np.ndarray:
    """(N,) emitters per µm² in the disk around each, itself included, in its frame."""
    if not len(table):
        return np.zeros(0)
    apart_nm = 2 * radius_nm + np.ptp(table.x_nm) + np.ptp(table.y_nm)
    place_N3 = np.stack([table.x_nm, table.y_nm, table.frame * apart_nm], axis=1)
    counts_N = cKDTree(place_N3).query_ball_point(place_N3, radius_nm, return_length=True)
    density_N: np.ndarray = counts_N / (np.pi * (radius_nm * 1e-3) ** 2)
    return density_N


def _over(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    share: np.ndarray = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
    return share
