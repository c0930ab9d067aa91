"""Drift that is known, on simulated filaments."""

from __future__ import annotations

import numpy as np
import pytest

from emitter.analysis.drift import DriftSettings, estimate_drift
from emitter.core.errors import EmitterError
from emitter.core.table import EmitterTable


def drifting(n: int = 20_000, frames: int = 5000) -> tuple[EmitterTable, np.ndarray, np.ndarray]:
    """Filaments; the drift of every frame in x and in y, of mean 0 over the localizations."""
    rng = np.random.default_rng(4)
    line, along = rng.integers(0, 15, n), rng.uniform(0, 6000, n)
    start, angle = rng.uniform(0, 6000, (15, 2)), rng.uniform(0, np.pi, 15)
    x = start[line, 0] + along * np.cos(angle[line]) + rng.normal(0, 12, n)
    y = start[line, 1] + along * np.sin(angle[line]) + rng.normal(0, 12, n)
    frame = rng.integers(0, frames, n)
    time = np.arange(frames) / frames
    dx, dy = 180 * time**2, 60 * np.sin(4 * time)
    table = EmitterTable.of(frame, x_nm=x + dx[frame], y_nm=y + dy[frame])
    return table, dx - dx[frame].mean(), dy - dy[frame].mean()


def test_drift_is_recovered_and_taken_off() -> None:
    table, dx, dy = drifting()
    drift = estimate_drift(table, DriftSettings())
    inner = slice(250, -250)  # beyond the middles of the outer segments it is held
    for found, true in ((drift.x_nm_F, dx), (drift.y_nm_F, dy)):
        assert np.sqrt(np.mean((found - true)[inner] ** 2)) < 4
        assert np.abs(found - true).max() < 25
    corrected = drift.corrected(table)
    np.testing.assert_allclose(table.x_nm - corrected.x_nm, drift.x_nm_F[table.frame])


def test_too_few_localizations_are_refused() -> None:
    table, _, _ = drifting(300)
    with pytest.raises(EmitterError, match="fewer segments"):
        estimate_drift(table, DriftSettings())


def test_a_table_without_structure_is_refused() -> None:
    rng = np.random.default_rng(8)
    n = 4000
    table = EmitterTable.of(
        np.sort(rng.integers(0, 400, n)), x_nm=rng.uniform(0, 4e3, n), y_nm=rng.uniform(0, 4e3, n)
    )
    with pytest.raises(EmitterError, match="pairs of segments disagree about the drift"):
        estimate_drift(table, DriftSettings())
