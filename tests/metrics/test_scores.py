"""Scores against hand counts and direct formulas; batches and ranks against one evaluation."""

from __future__ import annotations

import math
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emitter.core.errors import EmitterError
from emitter.core.table import EmitterTable
from emitter.metrics.figures import efficiency, scores
from emitter.metrics.protocol import PROTOCOLS, Protocol, photon_threshold
from emitter.metrics.scores import EmitterMetrics

FIELD_NM = (4000.0, 4000.0)
KEYS = {
    *("jaccard", "precision", "recall", "f1", "efficiency_lateral", "efficiency_axial", "efficiency_3d"),
    *("rmse_lateral_nm", "rmse_axial_nm", "rmse_volume_nm", "bias_x_nm", "bias_y_nm", "bias_z_nm"),
    *("photon_ratio_median", "n_truth", "n_predicted", "n_matched"),
}


def simulated(seed: int, n: int = 400, n_frames: int = 20) -> tuple[EmitterTable, EmitterTable]:
    """Predictions with misses, false ones, errors and a bias, and their truth."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, 4000, (2, n))
    columns = {"x_nm": x, "y_nm": y, "z_nm": rng.uniform(-500, 500, n), "photons": rng.lognormal(7, 1, n)}
    truth = EmitterTable.of(rng.integers(0, n_frames, n), **columns)
    moved = {
        "x_nm": x + rng.normal(5, 20, n),
        "y_nm": y + rng.normal(0, 20, n),
        "photons": truth.photons * 1.2,
    }
    z_nm = truth.z_nm + rng.normal(-10, 40, n)
    predicted = truth.with_columns(**moved, z_nm=z_nm).select(rng.random(n) < 0.8)
    wrong = predicted.with_columns(x_nm=4000 - predicted.x_nm).select(rng.random(len(predicted)) < 0.1)
    return EmitterTable.concatenate([predicted, wrong]), truth


def scored(predicted: EmitterTable, truth: EmitterTable, protocol: Protocol) -> dict[str, float]:
    metrics = EmitterMetrics(protocol, FIELD_NM)
    metrics.update(predicted, truth)
    return metrics.compute()


def in_halves(
    predicted: EmitterTable, truth: EmitterTable, protocol: Protocol
) -> tuple[EmitterMetrics, EmitterMetrics]:
    """Two metrics, each with one half of the frames, under one photon threshold."""
    threshold = photon_threshold(truth, protocol, FIELD_NM)
    halves = EmitterMetrics(protocol, FIELD_NM, threshold), EmitterMetrics(protocol, FIELD_NM, threshold)
    for half, metrics in enumerate(halves):
        metrics.update(predicted.select(predicted.frame % 2 == half), truth.select(truth.frame % 2 == half))
    return halves


def test_figures_of_a_case_counted_by_hand() -> None:
    truth = EmitterTable.of(
        [0, 0, 1], x_nm=[1000, 2000, 1000], y_nm=[1000, 1000, 1000], z_nm=[0, 100, 0], photons=[100, 200, 300]
    )
    predicted = EmitterTable.of(
        [0, 0, 0], x_nm=[1030, 1990, 3000], y_nm=[1040, 1000, 3000], z_nm=[20, 80, 0], photons=[110, 260, 50]
    )
    result = scored(predicted, truth, PROTOCOLS["plain"])
    lateral, axial = math.sqrt((30**2 + 40**2 + 10**2) / 2), math.sqrt((20**2 + 20**2) / 2)
    expected = {
        "jaccard": 2 / 4,
        "precision": 2 / 3,
        "recall": 2 / 3,
        "f1": 2 / 3,
        "rmse_lateral_nm": lateral,
        "rmse_axial_nm": axial,
        "rmse_volume_nm": math.hypot(lateral, axial),
        "bias_x_nm": 10,
        "bias_y_nm": 20,
        "bias_z_nm": 0,
        "n_truth": 3,
        "n_predicted": 3,
        "n_matched": 2,
        "efficiency_lateral": (100 - math.sqrt(50**2 + lateral**2)) / 100,
        "efficiency_axial": (100 - math.sqrt(50**2 + 0.25 * axial**2)) / 100,
    }
    expected["efficiency_3d"] = (expected["efficiency_lateral"] + expected["efficiency_axial"]) / 2
    assert {key: result[key] for key in expected} == pytest.approx(expected)
    assert result["photon_ratio_median"] == pytest.approx((1.1 + 1.3) / 2, rel=2e-3)
    assert set(result) == KEYS


def test_efficiency_of_the_published_accuracy_floor() -> None:
    """Challenge astigmatic PSF, one frame, isolated emitters: 25.5 and 27.1 nm, hence E3D 0.80 at JI 1."""
    mean = (efficiency(1.0, 25.5, 1.0) + efficiency(1.0, 27.1, 0.5)) / 2
    assert mean == pytest.approx(0.80, abs=0.006)
    assert efficiency(0.4, 80.0, 1.0) == pytest.approx(0.0)  # a 3-4-5 triangle


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS.keys())
def test_a_table_scores_perfectly_against_itself(protocol: Protocol) -> None:
    _, truth = simulated(0)
    result = scored(truth, truth, protocol)
    assert all(result[key] == 1.0 for key in ("jaccard", "f1", "efficiency_3d", "photon_ratio_median"))
    assert all(result[key] == 0.0 for key in ("rmse_volume_nm", "bias_x_nm", "bias_y_nm", "bias_z_nm"))


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS.keys())
@given(st.integers(0, 10_000))
def test_batches_add_up_in_any_order(protocol: Protocol, seed: int) -> None:
    predicted, truth = simulated(seed, n=120)
    rng = np.random.default_rng(seed)
    predicted = predicted.select(rng.permutation(len(predicted)))
    first, second = in_halves(predicted, truth.select(rng.permutation(len(truth))), protocol)
    whole = scored(predicted, truth, protocol)
    assert scores(first.totals() + second.totals()) == pytest.approx(whole, nan_ok=True)


def _rank(rank: int, store: str, results: str) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=timedelta(seconds=30)
    )
    metrics = in_halves(*simulated(3), PROTOCOLS["challenge2016"])[rank]
    torch.save(metrics.compute(), f"{results}.{rank}")
    torch.distributed.destroy_process_group()


def test_two_ranks_equal_one(tmp_path: Path) -> None:
    arguments = (str(tmp_path / "store"), str(tmp_path / "result"))
    torch.multiprocessing.start_processes(_rank, args=arguments, nprocs=2, start_method="fork")
    whole = scored(*simulated(3), PROTOCOLS["challenge2016"])
    for rank in (0, 1):
        assert torch.load(f"{arguments[1]}.{rank}", weights_only=True) == pytest.approx(whole)


def test_photon_threshold_of_each_batch_is_refused() -> None:
    predicted, truth = simulated(0)
    metrics = EmitterMetrics(PROTOCOLS["challenge2016"], FIELD_NM)
    metrics.update(predicted, truth)
    metrics.update(predicted, truth)
    with pytest.raises(EmitterError, match="threshold must come from the whole truth"):
        metrics.compute()


def test_nothing_found_is_a_valid_result() -> None:
    _, truth = simulated(0)
    result = scored(EmitterTable.empty(), truth, PROTOCOLS["plain"])
    assert (result["jaccard"], result["recall"], result["f1"]) == (0, 0, 0)
    assert (result["n_predicted"], result["n_matched"], result["n_truth"]) == (0, 0, len(truth))
    undefined = {key for key, value in result.items() if math.isnan(value)}
    always = {"jaccard", "recall", "f1", "n_truth", "n_predicted", "n_matched"}
    assert undefined == KEYS - always


@pytest.mark.parametrize("unknown", ["predicted", "truth", "protocol"])
def test_axial_figures_are_unknown_in_2d(unknown: str) -> None:
    predicted, truth = simulated(0)
    flat = np.full(len(truth), np.nan)
    if unknown == "predicted":
        predicted = predicted.with_columns(z_nm=flat[: len(predicted)])
    elif unknown == "truth":
        truth = truth.with_columns(z_nm=flat)
    result = scored(predicted, truth, Protocol("2d", axial=unknown != "protocol"))
    undefined = {key for key, value in result.items() if math.isnan(value)}
    assert undefined == {"efficiency_axial", "efficiency_3d", "rmse_axial_nm", "rmse_volume_nm", "bias_z_nm"}


def test_reset_starts_afresh() -> None:
    predicted, truth = simulated(0)
    metrics = EmitterMetrics(PROTOCOLS["challenge2016"], FIELD_NM)
    metrics.update(truth, truth)
    metrics.reset()
    metrics.update(predicted, truth)
    assert metrics.compute() == scored(predicted, truth, PROTOCOLS["challenge2016"])


@given(st.lists(st.floats(0.02, 50), min_size=1, max_size=30))
def test_photon_ratio_is_the_median(ratios: list[float]) -> None:
    n = len(ratios)
    truth = EmitterTable.of(np.arange(n), x_nm=np.ones(n), y_nm=np.ones(n), photons=np.full(n, 1000.0))
    predicted = truth.with_columns(photons=1000.0 * np.array(ratios))
    result = scored(predicted, truth, PROTOCOLS["plain"])
    assert result["photon_ratio_median"] == pytest.approx(np.median(ratios), rel=1.1e-3)
