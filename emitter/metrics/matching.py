"""One-to-one pairing of predicted and true emitters within each frame.

Two emitters are candidates when they lie in the same frame, at most ``radius_lateral_nm`` apart in the plane
(a disk) and at most ``radius_axial_nm`` apart in z. Where either z is unknown (NaN) the axial condition does
not apply and the distance is the lateral one. All frames are worked on at once.

Shape suffixes: C candidate pairs, M matched pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from emitter.core.errors import EmitterError, nearest, require
from emitter.core.table import EmitterTable

_LARGEST_ASSIGNMENT = 100_000_000  # cells of a cost matrix: 0.8 GB


@dataclass(frozen=True)
class Matches:
    """Rows of the M matched pairs: ``predicted[i]`` is paired with ``truth[i]``; ordered by truth row."""

    predicted: np.ndarray
    truth: np.ndarray

    def __len__(self) -> int:
        return len(self.truth)


@dataclass(frozen=True)
class _Candidates:
    """Candidate pairs, (C,) each, by squared distance, truth row, predicted row: this breaks every tie."""

    predicted: np.ndarray
    truth: np.ndarray
    square: np.ndarray

    def select(self, keep: np.ndarray) -> _Candidates:
        return _Candidates(self.predicted[keep], self.truth[keep], self.square[keep])


def match(
    predicted: EmitterTable,
    truth: EmitterTable,
    method: str = "greedy",
    radius_lateral_nm: float = 250.0,
    radius_axial_nm: float = 500.0,
) -> Matches:
    """Pair predicted with true emitters, one to one, frame by frame.

    ``greedy`` takes the nearest candidate pair, removes both emitters and goes on (SMLM Challenge 2016); of
    equal distances the lower truth row, then the lower predicted row. ``optimal`` takes, of all pairings with
    the greatest possible number of pairs, one with the least sum of squared distances. Distances are in 3D,
    or lateral where a z is unknown. Emitters whose x or y is not finite are never paired.

    Returns:
        Row numbers of the pairs.

    Raises:
        SettingsError: on an unknown method.
        EmitterError: when ``optimal`` meets more than about 10,000 emitters that crowd in one frame.
    """
    hint = nearest(method, METHODS) or f": give one of {', '.join(METHODS)}"
    require(method in METHODS, f"matching is '{method}'{hint}")
    candidates = _candidates(predicted, truth, radius_lateral_nm, radius_axial_nm)
    chosen = METHODS[method](candidates, len(predicted), len(truth))
    order = np.argsort(chosen.truth)
    return Matches(chosen.predicted[order], chosen.truth[order])


def _candidates(
    predicted: EmitterTable, truth: EmitterTable, lateral_nm: float, axial_nm: float
) -> _Candidates:
    """All pairs within reach, sorted."""
    rows_p = np.flatnonzero(np.isfinite(predicted.x_nm) & np.isfinite(predicted.y_nm))
    rows_t = np.flatnonzero(np.isfinite(truth.x_nm) & np.isfinite(truth.y_nm))
    if not len(rows_p) or not len(rows_t):
        nothing = np.zeros(0, dtype=np.int64)
        return _Candidates(nothing, nothing, np.zeros(0))
    reach_nm = lateral_nm * (1 + 1e-6)  # the exact test follows
    # Frames are laid out along a third axis, too far apart to meet; numbered densely to keep full precision.
    frames, layer = np.unique(
        np.concatenate((predicted.frame[rows_p], truth.frame[rows_t])), return_inverse=True
    )
    layer_nm = layer * (4.0 * max(lateral_nm, 1.0))

    def tree(table: EmitterTable, rows: np.ndarray, depth_nm: np.ndarray) -> cKDTree:
        points = np.column_stack((depth_nm, table.x_nm[rows], table.y_nm[rows]))
        return cKDTree(points, balanced_tree=len(frames) == 1, compact_nodes=False)

    tree_p = tree(predicted, rows_p, layer_nm[: len(rows_p)])
    tree_t = tree(truth, rows_t, layer_nm[len(rows_p) :])
    pairs = tree_p.sparse_distance_matrix(tree_t, reach_nm, output_type="ndarray")
    row_p, row_t = rows_p[pairs["i"]], rows_t[pairs["j"]]
    lateral = (predicted.x_nm[row_p] - truth.x_nm[row_t]) ** 2 + (
        predicted.y_nm[row_p] - truth.y_nm[row_t]
    ) ** 2
    dz_nm = np.nan_to_num(np.abs(predicted.z_nm[row_p] - truth.z_nm[row_t]), nan=0.0)
    found = _Candidates(row_p, row_t, lateral + dz_nm**2)
    found = found.select((lateral <= lateral_nm**2) & (dz_nm <= axial_nm))
    return found.select(np.lexsort((found.predicted, found.truth, found.square)))


def _greedy(candidates: _Candidates, n_predicted: int, n_truth: int) -> _Candidates:
    """Nearest first, in passes: a pair that is first for both emitters is one that the rule takes."""
    taken = [candidates.select(np.zeros(0, dtype=np.int64))]
    used_p, used_t = np.zeros(n_predicted, dtype=bool), np.zeros(n_truth, dtype=bool)
    first_p, first_t = np.zeros(n_predicted, dtype=np.int64), np.zeros(n_truth, dtype=np.int64)
    while len(candidates.square):
        rank = np.arange(len(candidates.square))
        first_p[candidates.predicted[::-1]] = rank[::-1]  # the last write, the lowest rank, stays
        first_t[candidates.truth[::-1]] = rank[::-1]
        first = (first_p[candidates.predicted] == rank) & (first_t[candidates.truth] == rank)
        taken.append(candidates.select(first))
        used_p[taken[-1].predicted] = True
        used_t[taken[-1].truth] = True
        candidates = candidates.select(~(used_p[candidates.predicted] | used_t[candidates.truth]))
    return _joined(taken)


def _optimal(candidates: _Candidates, n_predicted: int, n_truth: int) -> _Candidates:
    """Most pairs, then least squared distance, solved for each connected component of the candidates by
    itself.

    Where all emitters of one side of a component have different nearest partners, those pairs are the
    solution: neither more pairs nor shorter ones exist. Only the other components need an assignment solver.
    """
    if not len(candidates.square):
        return candidates
    n = n_predicted + n_truth
    ones = np.ones(len(candidates.square), dtype=np.int8)
    graph = coo_array((ones, (candidates.predicted, n_predicted + candidates.truth)), shape=(n, n))
    _, component = connected_components(graph, directed=False)
    component_C = component[candidates.predicted]
    nearest_of_t, easy_t = _nearest_without_clash(candidates.truth, candidates.predicted, component_C)
    nearest_of_p, easy_p = _nearest_without_clash(candidates.predicted, candidates.truth, component_C)
    taken = [candidates.select(np.where(easy_t, nearest_of_t, easy_p & nearest_of_p))]
    rest = np.flatnonzero(~(easy_t | easy_p))
    rest = rest[np.argsort(component_C[rest], kind="stable")]
    for part in np.split(rest, np.flatnonzero(np.diff(component_C[rest])) + 1):
        if len(part):
            taken.append(candidates.select(part[_assign(candidates.select(part))]))
    return _joined(taken)


def _nearest_without_clash(
    own_C: np.ndarray, other_C: np.ndarray, component_C: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs that are the nearest of their own emitter; pairs in a component where no two of those clash."""
    nearest_C = np.zeros(len(own_C), dtype=bool)
    nearest_C[np.unique(own_C, return_index=True)[1]] = True  # the candidates are sorted by distance
    wanted_by = np.bincount(other_C[nearest_C], minlength=other_C.max() + 1)
    clash = np.zeros(component_C.max() + 1, dtype=bool)
    clash[component_C[nearest_C & (wanted_by[other_C] > 1)]] = True
    return nearest_C, ~clash[component_C]


def _assign(part: _Candidates) -> np.ndarray:
    """Indices of the chosen pairs of one component."""
    predicted, i = np.unique(part.predicted, return_inverse=True)
    truth, j = np.unique(part.truth, return_inverse=True)
    if len(predicted) * len(truth) > _LARGEST_ASSIGNMENT:
        raise EmitterError(
            f"one frame has {len(predicted)} predictions and {len(truth)} true emitters too crowded for the optimal "
            "matching: check the frame numbers, or match greedily (protocol=challenge2016)"
        )
    k = min(len(predicted), len(truth))
    # Dearer than any rearrangement of all the true pairs: one pair more always wins.
    forbidden = (k + 1) * (part.square.max() + 1.0)
    cost = np.full((len(predicted), len(truth)), forbidden)
    cost[i, j] = part.square
    index = np.full(cost.shape, -1)
    index[i, j] = np.arange(len(i))
    chosen = index[linear_sum_assignment(cost)]
    return chosen[chosen >= 0]


def _joined(parts: list[_Candidates]) -> _Candidates:
    return _Candidates(
        np.concatenate([part.predicted for part in parts]),
        np.concatenate([part.truth for part in parts]),
        np.concatenate([part.square for part in parts]),
    )


METHODS: dict[str, Callable[[_Candidates, int, int], _Candidates]] = {"greedy": _greedy, "optimal": _optimal}
