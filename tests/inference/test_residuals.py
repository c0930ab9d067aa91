"""χ² of frames whose emitters are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from emitter.core.channels import Scaling
from emitter.core.decoding import Thresholds
from emitter.core.table import EmitterTable
from emitter.inference.bundle import Bundle
from emitter.inference.residuals import Residuals, residuals
from emitter.psf import build
from emitter.psf.gaussian import GaussianSettings
from emitter.simulation.camera import Camera, CameraSettings
from emitter.simulation.settings import SimulationSettings
from emitter.simulation.simulator import Domain, Simulator

CAMERA = Camera.build(CameraSettings("scmos", baseline_adu=100, read_noise_e=1.5))


def bundle(sigma_nm: float = 130.0) -> Bundle:
    """There is no network: none is asked."""
    simulation = SimulationSettings(
        frame_size_px=(48, 32), density_per_um2=(0.5, 0.5), z_range_nm=(0, 0), background=(30, 30)
    )
    psf = build(GaussianSettings(sigma_nm), CAMERA.pixel_size)
    return Bundle(None, Scaling(), Thresholds(), psf, CAMERA, simulation)  # type: ignore[arg-type]


def compared(with_bundle: Bundle, keep: float = 1.0, counts_off: float = 0.0) -> Residuals:
    """Frames of 130 nm against their true emitters, or a share of these, drawn as the bundle says."""
    true = bundle()
    sample = Simulator(true.simulation, true.psf, true.camera).sample(1, torch.arange(24), Domain.HELD_OUT)
    emitters = replace(sample.emitters, background_N=torch.full_like(sample.emitters.x_px_N, 30.0))
    table = EmitterTable.from_emitters(emitters, true.pixel_size, [10 * i for i in range(24)])
    table = table.select(torch.rand(len(table), generator=torch.Generator().manual_seed(1)).numpy() < keep)
    counts_FHW = sample.counts_BTHW[:, 1].numpy() + counts_off
    return residuals(table, counts_FHW, 10 * torch.arange(24).numpy(), with_bundle)


def test_the_true_table_leaves_only_noise() -> None:
    found = compared(bundle())
    # emitters outside the frame light its edge and are in no table
    assert found.chi2_HW[8:-8, 8:-8].mean() == pytest.approx(1.0, abs=0.06)
    assert found.chi2_HW.shape == (48, 32)
    assert found.frames_FHW.shape == found.expected_FHW.shape == (24, 48, 32)


@pytest.mark.parametrize(
    "wrong",
    [
        {"with_bundle": bundle(sigma_nm=200.0)},
        {"with_bundle": bundle(), "keep": 0.7},
        {"with_bundle": bundle(), "counts_off": 30.0},
    ],
    ids=["psf", "missed emitters", "baseline"],
)
def test_what_is_wrong_shows(wrong: dict[str, object]) -> None:
    assert compared(**wrong).chi2 > 1.5 * compared(bundle()).chi2  # type: ignore[arg-type]
