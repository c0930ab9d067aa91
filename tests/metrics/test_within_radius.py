"""Cut errors against drawn ones and against their limits."""

import numpy as np
import pytest

from emitter.metrics.within_radius import axial_mean_square, lateral_mean_square


@pytest.mark.parametrize("std", [20.0, 100.0, 250.0, 2000.0])
def test_against_errors_drawn_and_thrown_away(std: float) -> None:
    x, y = np.random.default_rng(0).normal(0, std, (2, 400_000))
    near = np.hypot(x, y) < 250
    expected = np.mean(x[near] ** 2 + y[near] ** 2)
    assert lateral_mean_square(np.array([std]), 250)[0] == pytest.approx(expected, rel=0.02)
    expected = np.mean(x[np.abs(x) < 250] ** 2)
    assert axial_mean_square(np.array([std]), 250)[0] == pytest.approx(expected, rel=0.02)


def test_limits_and_no_jump_between_the_ways_of_computing() -> None:
    std = np.array([0.0, 1.0, 1e9, np.inf, np.nan])
    assert lateral_mean_square(std, 250) == pytest.approx([0, 2, 250**2 / 2, 250**2 / 2, np.nan], nan_ok=True)
    assert axial_mean_square(std, 500) == pytest.approx([0, 1, 500**2 / 3, 500**2 / 3, np.nan], nan_ok=True)
    fine = np.geomspace(1, 1e5, 20_000)
    for mean in (lateral_mean_square(fine, 250), axial_mean_square(fine, 250)):
        step = np.diff(mean) / mean[1:]
        assert step.min() > -1e-9 and step.max() < 2e-3
