"""What is kept of a long table, against the whole of it."""

from __future__ import annotations

import numpy as np
import pytest

from emitter.core.table import EmitterTable
from emitter.inference.digest import digest


def table(n_rows: int = 5000, n_frames: int = 400) -> EmitterTable:
    rng = np.random.default_rng(3)
    columns = {name: rng.uniform(0, 1000, n_rows) for name in ("x_nm", "y_nm", "photons")}
    return EmitterTable.of(np.sort(rng.integers(0, n_frames, n_rows)), **columns)


def parts(of: EmitterTable, n_parts: int) -> list[EmitterTable]:
    return [of.select(rows) for rows in np.array_split(np.arange(len(of)), n_parts)]


def same(one: EmitterTable, other: EmitterTable) -> bool:
    return all(
        np.array_equal(column, other.columns()[name], equal_nan=True)
        for name, column in one.columns().items()
    )


EDGES, CHOSEN = np.array([0, 7, 100, 400]), np.array([0, 13, 399])


@pytest.mark.parametrize("n_parts", [1, 7, 300])
def test_of_a_long_table_whole_frames_are_sampled_however_it_is_parted(n_parts: int) -> None:
    whole = table()
    found = digest(parts(whole, n_parts), EDGES, CHOSEN, most_rows=1000)
    assert found.n_rows == 5000
    bins = ((0, 7), (7, 100), (100, 401))
    assert found.n_K.tolist() == [np.sum((a <= whole.frame) & (whole.frame < b)) for a, b in bins]
    assert same(found.chosen, whole.select(np.isin(whole.frame, CHOSEN)))
    assert 950 < len(found.sample) <= 1000
    assert same(found.sample, whole.select(np.isin(whole.frame, found.sample.frame)))
    assert same(found.sample, digest([whole], EDGES, CHOSEN, most_rows=1000).sample)
    # frames of all the movie, and none preferred for its photons
    assert np.mean(found.sample.frame) == pytest.approx(200, abs=40)
    assert np.median(found.sample.photons) == pytest.approx(500, abs=50)


def test_a_short_table_is_its_own_sample_and_an_empty_one_has_none() -> None:
    whole = table(900)
    assert same(digest(parts(whole, 3), EDGES, CHOSEN, most_rows=1000).sample, whole)
    empty = digest([EmitterTable.empty()], EDGES, CHOSEN)
    assert (empty.n_rows, len(empty.sample), len(empty.chosen), empty.n_K.sum()) == (0, 0, 0, 0)


def test_one_frame_is_kept_even_where_it_is_too_long() -> None:
    found = digest(parts(table(5000, n_frames=2), 9), EDGES, CHOSEN, most_rows=1000)
    assert len(np.unique(found.sample.frame)) == 1 and 2300 < len(found.sample) < 2700
