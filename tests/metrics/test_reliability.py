"""Reliability and z-scores against what they were made with."""

import numpy as np

from emitter.core.table import EmitterTable
from emitter.metrics.protocol import protocol_named
from emitter.metrics.uncertainty import reliability, uncertainty_scores


def test_reliability_of_honest_and_of_boasting_probabilities() -> None:
    rng = np.random.default_rng(1)
    probability = rng.uniform(0, 1, 200_000)
    true = rng.uniform(0, 1, len(probability)) < probability
    honest = reliability(probability, true)
    assert honest.error < 0.005
    assert honest.n.sum() == len(probability)
    np.testing.assert_allclose(honest.probability, np.arange(0.05, 1, 0.1), atol=0.01)
    np.testing.assert_allclose(honest.true_share, honest.probability, atol=0.01)
    # all say 0.9 and half are true
    assert abs(reliability(np.full(1000, 0.9), np.arange(1000) % 2 == 0).error - 0.4) < 1e-12
    unknown = reliability(np.array([np.nan, -0.1, 1.2]), np.array([True, False, True]))
    assert (unknown.n.tolist(), unknown.error) == ([1, 1], 0.0)
    assert reliability(np.empty(0), np.empty(0, dtype=bool)).error == 0


def test_scores_of_a_table_that_knows_its_errors() -> None:
    rng = np.random.default_rng(2)
    n = 4000
    truth = EmitterTable.of(
        np.arange(n),
        x_nm=np.full(n, 500.0),
        y_nm=np.full(n, 500.0),
        z_nm=np.zeros(n),
        photons=np.full(n, 900.0),
    )
    sigma = rng.uniform(5, 30, n)
    found = truth.with_columns(
        x_nm=truth.x_nm + rng.normal(0, sigma),
        y_nm=truth.y_nm + rng.normal(0, 2 * sigma),  # twice what it says
        photons=truth.photons + rng.normal(0, 50, n),
        precision_x_nm=sigma,
        precision_y_nm=sigma,
        precision_photons=np.full(n, 50.0),
        probability=np.full(n, 0.5),
    )
    ghosts = found.with_columns(x_nm=found.x_nm + 5000)
    scores = uncertainty_scores(EmitterTable.concatenate([found, ghosts]), truth, protocol_named("plain"))
    assert abs(scores["z_score_std_x"] - 1) < 0.05
    assert abs(scores["z_score_std_y"] - 2) < 0.1
    assert abs(scores["z_score_std_photons"] - 1) < 0.05
    assert "z_score_std_z" not in scores
    assert scores["calibration_error"] < 1e-12
