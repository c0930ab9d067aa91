"""The constant offset is found though it makes neighbours be taken for one another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emitter.core.table import EmitterTable
from emitter.metrics.offset import estimate_offset, without_offset
from emitter.metrics.protocol import PROTOCOLS

FIELD_NM = (6400.0, 6400.0)


def crowd(n: int, n_frames: int) -> tuple[EmitterTable, EmitterTable]:
    """Predictions with errors of 20, 20 and 40 nm, 15 % missed and as many false ones, and their truth."""
    rng = np.random.default_rng(0)
    columns = {axis: rng.uniform(*limits, n) for axis, limits in AXES.items()}
    truth = EmitterTable.of(rng.integers(0, n_frames, n), **columns, photons=np.full(n, 1000.0))
    moved = {axis: columns[axis] + rng.normal(0, 40 if axis == "z_nm" else 20, n) for axis in AXES}
    false = rng.random(n) < 0.15
    moved = {axis: np.where(false, rng.permutation(columns[axis]), moved[axis]) for axis in AXES}
    return truth.with_columns(**moved), truth


AXES = {"x_nm": (0.0, 6400.0), "y_nm": (0.0, 6400.0), "z_nm": (-400.0, 400.0)}
PREDICTED, TRUTH = crowd(3000, 60)


@pytest.mark.parametrize("name", list(PROTOCOLS))
@given(st.floats(-80, 80), st.floats(-80, 80), st.floats(-100, 100))
def test_offset_is_found_in_a_crowd(name: str, x: float, y: float, z: float) -> None:
    shifted = without_offset(PREDICTED, (-x, -y, -z))
    found = estimate_offset(shifted, TRUTH, PROTOCOLS[name], FIELD_NM)
    assert found == pytest.approx((x, y, z), abs=6)


def test_median_withstands_wrong_pairs() -> None:
    n = 101
    truth = EmitterTable.of(np.arange(n), x_nm=np.full(n, 1000.0), y_nm=np.full(n, 1000.0), z_nm=np.zeros(n))
    x_nm = np.where(np.arange(n) < 30, 1200.0, 1010.0)
    found = estimate_offset(truth.with_columns(x_nm=x_nm), truth, PROTOCOLS["plain"], None)
    assert found == (10.0, 0.0, 0.0)


def test_unknown_z_and_no_pairs_give_no_offset() -> None:
    flat = TRUTH.with_columns(z_nm=np.full(len(TRUTH), np.nan))
    assert estimate_offset(flat, TRUTH, PROTOCOLS["plain"], None) == (0.0, 0.0, 0.0)
    assert estimate_offset(EmitterTable.empty(), TRUTH, PROTOCOLS["plain"], None) == (0.0, 0.0, 0.0)
