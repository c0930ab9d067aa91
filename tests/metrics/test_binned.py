"""Scores in bins against counting one by one; the reliability against a table of known chances."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emitter.core.table import EmitterTable
from emitter.metrics.binned import (
    binned_rms,
    binned_scores,
    density_per_um2,
    probability_reliability,
    quantile_edges,
)
from emitter.metrics.protocol import PROTOCOLS, Counted, count

VALUES = st.lists(st.floats(-5, 5), max_size=30).map(np.array)


@given(VALUES, VALUES, VALUES)
def test_binned_scores_are_what_counting_one_by_one_gives(matched, missed, false):
    edges = np.array([-4.0, -1.0, 0.0, 2.5, 4.0])
    table = binned_scores(matched, missed, false, edges)
    for k, row in table.iterrows():
        low, high = edges[k], edges[k + 1]
        tp, fn, fp = (sum(1 for v in values if low <= v < high) for values in (matched, missed, false))
        assert (row["matched"], row["missed"], row["false"], row["n"]) == (tp, fn, fp, tp + fn)
        for name, total in (("jaccard", tp + fn + fp), ("precision", tp + fp), ("recall", tp + fn)):
            assert row[name] == pytest.approx(tp / total) if total else np.isnan(row[name])


@given(VALUES)
def test_quantile_edges_hold_every_value(values):
    edges = quantile_edges(np.append(values, np.nan), 6)
    assert (np.diff(edges) > 0).all() and len(edges) <= 7
    if len(values):
        assert edges[0] == values.min() and edges[-1] > values.max()


def test_rms_in_bins_leaves_out_what_is_unknown():
    table = binned_rms(
        np.array([1.0, 1.5, 1.7, 3.0]), np.array([1.0, 2.0, 4.0, 5.0]), error=np.array([3.0, 4.0, np.nan, -2])
    )
    assert table["n"].tolist() == [3, 1, 0]
    assert table["error"].tolist()[:2] == pytest.approx([np.sqrt(12.5), 2.0]) and np.isnan(table["error"][2])


def test_density_is_that_of_the_rows_own_frame():
    truth = EmitterTable.of([0, 0, 0, 5], x_nm=np.zeros(4), y_nm=np.zeros(4))
    asked = EmitterTable.of([5, 0, 3, 9], x_nm=np.zeros(4), y_nm=np.zeros(4))
    assert density_per_um2(asked, truth, area_um2=2.0).tolist() == [0.5, 1.5, 0, 0]


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda protocol: protocol.name)
def test_rows_of_a_count_add_up(protocol):
    rng = np.random.default_rng(0)
    truth = EmitterTable.of(
        rng.integers(0, 20, 400),
        x_nm=rng.uniform(0, 6400, 400),
        y_nm=rng.uniform(0, 6400, 400),
        z_nm=rng.uniform(-300, 300, 400),
        photons=rng.uniform(100, 5000, 400),
    )
    found = truth.select(rng.random(400) < 0.7).with_columns()
    found = EmitterTable.concatenate(
        [found, found.select(np.arange(40)).with_columns(x_nm=np.full(40, 900.0))]
    )
    counted = count(found, truth, protocol, (6400.0, 6400.0), 1000.0)
    assert not set(counted.predicted_rows) & set(counted.false_rows)
    assert not set(counted.truth_rows) & set(counted.missed_rows)
    assert (truth.photons[counted.missed_rows] >= 1000).all()
    assert counted.n_truth == len(counted.truth_rows) + len(counted.missed_rows)


def test_reliability_of_probabilities_that_are_right_and_of_boasts():
    rng = np.random.default_rng(1)
    probability = rng.uniform(0.3, 1, 20_000)
    right = rng.random(20_000) < probability
    predicted = EmitterTable.of(np.arange(20_000), probability=probability)
    rows = np.arange(20_000)
    counted = Counted(rows[right], rows[right], rows[~right], rows[:0])
    table, error = probability_reliability(predicted, counted)
    assert error < 0.02 and table["n"].sum() == 20_000
    _, boast = probability_reliability(predicted.with_columns(probability=np.ones(20_000)), counted)
    assert boast == pytest.approx(1 - right.mean())
