"""Localizations of one blink in successive frames, linked and merged into one row.

Shape suffixes: N rows, P pairs of rows, T tracks (rows of the merged table).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from emitter.core.errors import EmitterError, require
from emitter.core.table import EmitterTable

_MAX_PAIRS = 100_000_000  # some 5 GB
_AXES = (("x_nm", "precision_x_nm"), ("y_nm", "precision_y_nm"), ("z_nm", "precision_z_nm"))


@dataclass(frozen=True)
class LinkSettings:
    """What counts as the same emitter in a later frame: distances (nm), and frames missing in between."""

    max_distance_nm: float = 50.0
    max_axial_nm: float = 150.0
    max_dark_frames: int = 1

    def __post_init__(self) -> None:
        for name in ("max_distance_nm", "max_axial_nm"):
            value = getattr(self, name)
            require(math.isfinite(value) and value > 0, f"{name} is {value}: give a distance in nm, above 0")
        require(
            self.max_dark_frames >= 0, f"max_dark_frames is {self.max_dark_frames}: give 0 or more frames"
        )


def linked(table: EmitterTable, settings: LinkSettings) -> EmitterTable:
    """One row for each blink, sorted: first frame, position weighted by 1/variance, photons summed, ``n_frames``.

    Where a row of a blink has no precision, its position is weighted by photons, and equally without these. Background
    is the mean, probability the highest, precision that of the weighted mean. Rows that do not know their z do
    not count for the blink's.

    Raises:
        EmitterError: so many neighbours that the pairs would not fit in the memory.
    """
    return merged(table, tracks(table, settings))


def tracks(table: EmitterTable, settings: LinkSettings) -> np.ndarray:
    """Which track every row belongs to, (N,) whole numbers from 0; a track has one row a frame at most.

    A row has one successor at most and one predecessor. Of all pairs near enough in space and time, those with the
    fewest dark frames are linked first, among them the nearest laterally.
    """
    early_P, late_P = _pairs(table, settings)
    gap_P = table.frame[late_P] - table.frame[early_P]
    distance_P = np.hypot(table.x_nm[late_P] - table.x_nm[early_P], table.y_nm[late_P] - table.y_nm[early_P])
    order = np.lexsort((late_P, early_P, distance_P, gap_P))
    early_P, late_P = early_P[order], late_P[order]
    previous_N = np.arange(len(table))
    while len(early_P):  # pairs that are first for both their rows are what going through the list would link
        rank_P = np.arange(len(early_P))
        first_early_N, first_late_N = (np.full(len(table), len(early_P)) for _ in range(2))
        np.minimum.at(first_early_N, early_P, rank_P)
        np.minimum.at(first_late_N, late_P, rank_P)
        taken = (first_early_N[early_P] == rank_P) & (first_late_N[late_P] == rank_P)
        previous_N[late_P[taken]] = early_P[taken]
        has_next, has_previous = (np.zeros(len(table), bool) for _ in range(2))
        has_next[early_P[taken]], has_previous[late_P[taken]] = True, True
        left = ~has_next[early_P] & ~has_previous[late_P]
        early_P, late_P = early_P[left], late_P[left]
    while not np.array_equal(first := previous_N[previous_N], previous_N):  # doubles its stride each time
        previous_N = first
    return np.unique(previous_N, return_inverse=True)[1]


def _pairs(table: EmitterTable, settings: LinkSettings) -> tuple[np.ndarray, np.ndarray]:
    """Rows (earlier, later) near enough in space and time, (P,) each."""
    reach = settings.max_dark_frames + 1
    radius = settings.max_distance_nm
    # frames as a third length: the ball of radius √2 · max_distance_nm holds every pair that is near enough
    place_N3 = np.column_stack((table.x_nm, table.y_nm, table.frame * (radius / reach)))
    tree = cKDTree(place_N3)
    ball = radius * math.sqrt(2) * (1 + 1e-9)
    n_pairs = (int(tree.count_neighbors(tree, ball)) - len(table)) // 2
    if n_pairs > _MAX_PAIRS:
        raise EmitterError(
            f"{n_pairs} pairs of localizations are near enough to be looked at, more than {_MAX_PAIRS}: "
            "give a smaller max_distance_nm or max_dark_frames"
        )
    pairs_P2 = tree.query_pairs(ball, output_type="ndarray")
    swap = table.frame[pairs_P2[:, 0]] > table.frame[pairs_P2[:, 1]]
    early_P = np.where(swap, pairs_P2[:, 1], pairs_P2[:, 0])
    late_P = np.where(swap, pairs_P2[:, 0], pairs_P2[:, 1])
    gap_P = table.frame[late_P] - table.frame[early_P]
    lateral_P = np.hypot(table.x_nm[late_P] - table.x_nm[early_P], table.y_nm[late_P] - table.y_nm[early_P])
    axial_P = np.abs(table.z_nm[late_P] - table.z_nm[early_P])
    near = (gap_P >= 1) & (gap_P <= reach) & (lateral_P <= radius)
    near &= ~(axial_P > settings.max_axial_nm)  # unknown z keeps no one apart
    return early_P[near], late_P[near]


def merged(table: EmitterTable, track_N: np.ndarray) -> EmitterTable:
    """The rows of each track as one, sorted; see ``linked``."""
    columns, n_tracks = table.columns(), int(track_N.max(initial=-1)) + 1

    def summed(values_N: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        return np.bincount(track_N[rows], values_N, n_tracks)

    count_T = summed(np.ones(len(table)))
    first_T = np.full(n_tracks, np.iinfo(np.int64).max)
    np.minimum.at(first_T, track_N, table.frame)
    highest_T = np.full(n_tracks, -np.inf)
    np.maximum.at(highest_T, track_N, table.probability)
    new = {
        "photons": summed(table.photons),
        "background": summed(table.background) / count_T,
        "probability": highest_T,
        "n_frames": summed(columns.get("n_frames", np.ones(len(table)))),
    }
    for position, precision in _AXES:
        known = np.flatnonzero(np.isfinite(columns[position]))  # z may be unknown in some rows of a blink
        precision_N = columns.get(precision, np.full(len(table), np.nan))[known]
        weight_N = _weights(precision_N, table.photons[known], track_N[known], n_tracks)
        with np.errstate(divide="ignore", invalid="ignore"):  # NaN where no row knows it
            new[position] = summed(weight_N * columns[position][known], known) / summed(weight_N, known)
            if precision in columns:
                spread_T = 1 / np.sqrt(summed(1 / precision_N**2, known))
                new[precision] = np.where(np.isnan(new[position]), np.nan, spread_T)
    if table.precision_photons is not None:
        new["precision_photons"] = np.sqrt(summed(table.precision_photons**2))
    return EmitterTable.of(first_T, **new).sorted()


def _weights(
    precision_N: np.ndarray, photons_N: np.ndarray, track_N: np.ndarray, n_tracks: int
) -> np.ndarray:
    """1/variance in tracks where it is known of every row, else photons, else 1."""
    weight_N = np.ones(len(track_N))
    with np.errstate(divide="ignore"):
        for better_N in (photons_N, 1 / precision_N**2):
            usable = np.isfinite(better_N) & (better_N > 0)
            everywhere = np.bincount(track_N, ~usable, n_tracks) == 0
            weight_N = np.where(everywhere[track_N], better_N, weight_N)
    return weight_N
