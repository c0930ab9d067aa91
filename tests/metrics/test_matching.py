"""Matching against brute force."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emitter.core.errors import EmitterError, SettingsError
from emitter.core.table import EmitterTable
from emitter.metrics import matching
from emitter.metrics.matching import match

R_LATERAL, R_AXIAL = 250.0, 500.0

# A coarse lattice makes ties, duplicates and distances of exactly the radius (e.g. 150-200-250) frequent.
coordinate = st.one_of(st.sampled_from([0.0, 50.0, 150.0, 200.0, 250.0, 400.0]), st.floats(0, 600))
depth = st.one_of(st.sampled_from([-500.0, 0.0, 500.0]), st.floats(-700, 700), st.just(np.nan))
rows = st.lists(st.tuples(st.sampled_from([0, 1, 7]), coordinate, coordinate, depth), max_size=7)


def table_of(rows: list[tuple[int, float, float, float]]) -> EmitterTable:
    frame, x, y, z = zip(*rows, strict=True) if rows else ([], [], [], [])
    return EmitterTable.of(frame, x_nm=x, y_nm=y, z_nm=z)


def square(predicted: EmitterTable, truth: EmitterTable, i: int, j: int) -> float | None:
    """Squared distance of a pair, or None where it is not allowed."""
    if predicted.frame[i] != truth.frame[j]:
        return None
    lateral = (predicted.x_nm[i] - truth.x_nm[j]) ** 2 + (predicted.y_nm[i] - truth.y_nm[j]) ** 2
    dz = predicted.z_nm[i] - truth.z_nm[j]
    dz = 0.0 if np.isnan(dz) else abs(dz)
    return lateral + dz**2 if lateral <= R_LATERAL**2 and dz <= R_AXIAL else None


def greedy_one_by_one(predicted: EmitterTable, truth: EmitterTable) -> set[tuple[int, int]]:
    pairs = [(i, j) for i in range(len(predicted)) for j in range(len(truth))]
    allowed = [
        (square(predicted, truth, i, j), j, i) for i, j in pairs if square(predicted, truth, i, j) is not None
    ]
    taken: set[tuple[int, int]] = set()
    for _, j, i in sorted(allowed):
        if all(i != a and j != b for a, b in taken):
            taken.add((i, j))
    return taken


def best_by_enumeration(predicted: EmitterTable, truth: EmitterTable) -> tuple[int, float]:
    """Most pairs, then least sum of squared distances, over all ways to pair."""
    small, large = sorted((len(predicted), len(truth)))
    best = (0, 0.0)
    for order in permutations(range(large), small):
        pairs = enumerate(order) if len(predicted) == small else ((j, i) for i, j in enumerate(order))
        squares = [square(predicted, truth, i, j) for i, j in pairs]
        allowed = [value for value in squares if value is not None]
        best = min(best, (-len(allowed), sum(allowed)))
    return -best[0], best[1]


@given(rows, rows)
def test_greedy_takes_the_nearest_pair_first(rows_p: list, rows_t: list) -> None:
    predicted, truth = table_of(rows_p), table_of(rows_t)
    pairs = match(predicted, truth, "greedy", R_LATERAL, R_AXIAL)
    assert set(zip(pairs.predicted, pairs.truth, strict=True)) == greedy_one_by_one(predicted, truth)


@given(rows.filter(lambda r: len(r) <= 5), rows)
def test_optimal_has_most_pairs_then_least_squares(rows_p: list, rows_t: list) -> None:
    predicted, truth = table_of(rows_p), table_of(rows_t)
    pairs = match(predicted, truth, "optimal", R_LATERAL, R_AXIAL)
    squares = [square(predicted, truth, i, j) for i, j in zip(pairs.predicted, pairs.truth, strict=True)]
    assert None not in squares
    n_pairs, total = best_by_enumeration(predicted, truth)
    assert len(pairs) == n_pairs
    assert sum(squares) == pytest.approx(total)


@pytest.mark.parametrize("method", ["greedy", "optimal"])
@given(rows, rows)
def test_pairs_are_one_to_one(method: str, rows_p: list, rows_t: list) -> None:
    pairs = match(table_of(rows_p), table_of(rows_t), method, R_LATERAL, R_AXIAL)
    assert len(set(pairs.predicted)) == len(set(pairs.truth)) == len(pairs)


@pytest.mark.parametrize("method", ["greedy", "optimal"])
def test_many_frames_at_once_equal_frame_by_frame(method: str) -> None:
    rng = np.random.default_rng(1)
    n = 1500
    frame = rng.integers(0, 30, n) * 1_000_003  # far apart, to try the precision of the search
    truth = EmitterTable.of(
        frame, x_nm=rng.uniform(0, 3000, n), y_nm=rng.uniform(0, 3000, n), z_nm=np.zeros(n)
    )
    moved = {name: truth.columns()[name] + rng.normal(0, 80, n) for name in ("x_nm", "y_nm", "z_nm")}
    predicted = truth.with_columns(**moved).select(rng.permutation(n)[:1200])
    together = match(predicted, truth, method)
    apart = set()
    for f in np.unique(frame):
        rows_p, rows_t = np.flatnonzero(predicted.frame == f), np.flatnonzero(truth.frame == f)
        pairs = match(predicted.select(rows_p), truth.select(rows_t), method)
        apart |= set(zip(rows_p[pairs.predicted], rows_t[pairs.truth], strict=True))
    assert set(zip(together.predicted, together.truth, strict=True)) == apart


def test_optimal_finds_two_pairs_where_greedy_finds_one() -> None:
    truth = EmitterTable.of([0, 0], x_nm=[0, 240], y_nm=[0, 0])
    predicted = EmitterTable.of([0, 0], x_nm=[140, 480], y_nm=[0, 0])
    assert len(match(predicted, truth, "greedy")) == 1  # 140 is nearest to 240, and 480 cannot reach 0
    assert len(match(predicted, truth, "optimal")) == 2


def test_a_long_chain_is_resolved_one_pair_after_the_other() -> None:
    gaps = np.linspace(100, 240, 60)
    x = np.concatenate(([0.0], np.cumsum(gaps)))  # each emitter is nearer to the one before it
    truth = EmitterTable.of(np.zeros(31), x_nm=x[::2], y_nm=np.zeros(31))
    predicted = EmitterTable.of(np.zeros(30), x_nm=x[1::2], y_nm=np.zeros(30))
    pairs = match(predicted, truth, "greedy")
    assert set(zip(pairs.predicted, pairs.truth, strict=True)) == {(i, i) for i in range(30)}


def test_positions_that_are_not_finite_are_never_paired() -> None:
    truth = EmitterTable.of([0, 0], x_nm=[0, np.nan], y_nm=[0, 0])
    predicted = EmitterTable.of([0, 0], x_nm=[np.inf, 10], y_nm=[0, 0])
    pairs = match(predicted, truth, "optimal")
    assert (pairs.predicted.tolist(), pairs.truth.tolist()) == ([1], [0])


def test_an_unknown_method_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="did you mean 'greedy'"):
        match(EmitterTable.empty(), EmitterTable.empty(), "gredy")


def test_a_crowd_beyond_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "_LARGEST_ASSIGNMENT", 99)
    rng = np.random.default_rng(0)
    crowd = EmitterTable.of(np.zeros(10), x_nm=rng.uniform(0, 100, 10), y_nm=rng.uniform(0, 100, 10))
    with pytest.raises(EmitterError, match=r"10 predictions and 10 true emitters.*check the frame numbers"):
        match(crowd.with_columns(x_nm=crowd.x_nm + 50), crowd, "optimal")
    assert len(match(crowd, crowd, "greedy")) == 10
