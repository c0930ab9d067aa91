"""Linking against going through all pairs one after the other; merging against the formulas row by row."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emitter.analysis.linking import LinkSettings, linked, tracks
from emitter.core.table import EmitterTable


def scene(seed: int, n: int, with_z: bool) -> EmitterTable:
    rng = np.random.default_rng(seed)
    return EmitterTable.of(
        rng.integers(0, 12, n),
        x_nm=rng.uniform(0, 200, n),
        y_nm=rng.uniform(0, 200, n),
        z_nm=rng.uniform(-200, 200, n) if with_z else np.full(n, np.nan),
        photons=rng.uniform(100, 1000, n),
        background=rng.uniform(1, 9, n),
        probability=rng.uniform(0, 1, n),
        precision_x_nm=rng.uniform(3, 20, n),
    )


def brute_force(t: EmitterTable, how: LinkSettings) -> list[list[int]]:
    found = []
    for i, j in itertools.permutations(range(len(t)), 2):
        gap, d = t.frame[j] - t.frame[i], np.hypot(t.x_nm[i] - t.x_nm[j], t.y_nm[i] - t.y_nm[j])
        far = abs(t.z_nm[i] - t.z_nm[j]) > how.max_axial_nm
        if 1 <= gap <= how.max_dark_frames + 1 and d <= how.max_distance_nm and not far:
            found.append((gap, d, i, j))
    following: dict[int, int] = {}
    for _, _, i, j in sorted(found):
        if i not in following and j not in following.values():
            following[i] = j
    chains = []
    for start in set(range(len(t))) - set(following.values()):
        chain = [start]
        while chain[-1] in following:
            chain.append(following[chain[-1]])
        chains.append(sorted(chain))
    return sorted(chains)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 60), dark=st.integers(0, 3), with_z=st.booleans())
def test_tracks_are_those_of_brute_force(seed: int, n: int, dark: int, with_z: bool) -> None:
    t, how = scene(seed, n, with_z), LinkSettings(40, 150, dark)
    track = tracks(t, how)
    assert sorted(np.flatnonzero(track == k).tolist() for k in range(track.max() + 1)) == brute_force(t, how)


@pytest.mark.parametrize("with_z", [True, False])
def test_merged_rows_follow_the_formulas(with_z: bool) -> None:
    t, how = scene(7, 80, with_z), LinkSettings(60, 200, 1)
    rows = linked(t, how)
    chains = brute_force(t, how)
    assert len(rows) == len(chains) < 80
    assert rows.n_frames is not None and rows.precision_x_nm is not None and t.precision_x_nm is not None
    for chain in chains:
        k = int(np.argmin(np.abs(rows.photons - t.photons[chain].sum())))
        weight = t.precision_x_nm[chain] ** -2
        assert rows.frame[k] == t.frame[chain].min() and rows.n_frames[k] == len(chain)
        assert rows.photons[k] == pytest.approx(t.photons[chain].sum())
        assert rows.x_nm[k] == pytest.approx(np.average(t.x_nm[chain], weights=weight))
        assert rows.y_nm[k] == pytest.approx(np.average(t.y_nm[chain], weights=t.photons[chain]))
        assert rows.precision_x_nm[k] == pytest.approx(weight.sum() ** -0.5)
        assert rows.background[k] == pytest.approx(t.background[chain].mean())
        assert rows.probability[k] == t.probability[chain].max()
        assert np.isnan(rows.z_nm[k]) != with_z


def test_a_blink_keeps_the_z_that_some_of_its_rows_know() -> None:
    nan, at = np.nan, {"x_nm": [5.0, 6, 7, 900], "y_nm": np.zeros(4), "photons": np.full(4, 100.0)}
    sure = {"precision_z_nm": [10.0, nan, 20, nan]}
    one = linked(EmitterTable.of([0, 1, 2, 0], z_nm=[100.0, nan, 50, nan], **at, **sure), LinkSettings())
    assert one.precision_z_nm is not None and len(one) == 2
    np.testing.assert_allclose(one.z_nm, [(100 / 100 + 50 / 400) / (1 / 100 + 1 / 400), nan])
    np.testing.assert_allclose(one.precision_z_nm, [(1 / 100 + 1 / 400) ** -0.5, nan])
    assert one.x_nm[0] == pytest.approx(6)


def test_linking_what_is_linked_keeps_the_count() -> None:
    t = scene(3, 60, True)
    once = linked(t, LinkSettings(30, 100, 0))
    twice = linked(once, LinkSettings(60, 200, 3))
    assert twice.n_frames is not None and twice.n_frames.sum() == 60
    assert len(linked(EmitterTable.empty(), LinkSettings())) == 0
