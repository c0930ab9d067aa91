"""Scores in bins against counting by hand."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from emitter.core.table import EmitterTable
from emitter.metrics.binned import binned, density_around
from emitter.metrics.matching import match


def table(seed: int, n: int) -> EmitterTable:
    rng = np.random.default_rng(seed)
    place = rng.uniform(0, 3000, (2, n))
    return EmitterTable.of(
        rng.integers(0, 3, n),
        x_nm=place[0],
        y_nm=place[1],
        z_nm=rng.uniform(-300, 300, n),
        photons=rng.uniform(100, 900, n),
    )


@given(st.integers(0, 10_000), st.integers(0, 40), st.integers(0, 40))
def test_bins_are_what_a_loop_counts(seed: int, n: int, m: int) -> None:
    truth, found = table(seed, n), table(seed + 1, m)
    pairs = match(found, truth, "optimal")
    edges = np.array([100.0, 300.0, 500.0, 900.1])
    bins = binned(found, truth, pairs, found.photons, truth.photons, edges)
    partner = dict(zip(pairs.truth.tolist(), pairs.predicted.tolist(), strict=True))
    for k in range(3):
        true = [i for i in range(n) if edges[k] <= truth.photons[i] < edges[k + 1]]
        matched = [i for i in true if i in partner]
        false = [
            j for j in range(m) if j not in partner.values() and edges[k] <= found.photons[j] < edges[k + 1]
        ]
        assert (bins.n_truth[k], bins.n_matched[k], bins.n_false[k]) == (len(true), len(matched), len(false))
        if matched:
            square = [
                (truth.x_nm[i] - found.x_nm[partner[i]]) ** 2 + (truth.y_nm[i] - found.y_nm[partner[i]]) ** 2
                for i in matched
            ]
            np.testing.assert_allclose(bins.rmse_lateral_nm[k], np.sqrt(np.mean(square)))
        if true or false:
            np.testing.assert_allclose(bins.jaccard[k], len(matched) / (len(true) + len(false)))
        if true:
            np.testing.assert_allclose(bins.recall[k], len(matched) / len(true))


@given(st.integers(0, 10_000), st.integers(0, 60))
def test_density_around_is_what_a_loop_counts(seed: int, n: int) -> None:
    one = table(seed, n)
    density = density_around(one, 500.0)
    for i in range(n):
        near = np.hypot(one.x_nm - one.x_nm[i], one.y_nm - one.y_nm[i]) <= 500
        expected = (near & (one.frame == one.frame[i])).sum() / (np.pi * 0.25)
        np.testing.assert_allclose(density[i], expected)
