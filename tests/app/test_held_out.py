"""Held-out tables: which frames the network sees, which the truth is of, and their numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from emitter.app.held_out import held_out_tables
from emitter.core.channels import N_CHANNELS, Scaling
from emitter.core.decoding import Thresholds
from emitter.core.errors import SettingsError
from emitter.core.units import PixelSize
from emitter.inference.bundle import Bundle
from emitter.psf import build
from emitter.psf.gaussian import AstigmaticSettings
from emitter.psf.spline import SplinePSF
from emitter.simulation.camera import Camera, CameraSettings
from emitter.simulation.settings import SimulationSettings
from emitter.simulation.simulator import Domain, Simulator

N_SAMPLES = 5


class OneInTheCorner(nn.Module):
    """A stand-in that finds one emitter in the first pixel of every sample and keeps what it has seen."""

    n_frames, cells_px = 3, (1.0,)

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, photons_BTHW: Tensor) -> list[Tensor]:
        self.seen.append(photons_BTHW)
        b, _, height, width = photons_BTHW.shape
        maps = torch.zeros(b, N_CHANNELS, height, width)
        maps[:, 0] = -20.0
        maps[:, 0, 0, 0] = 30.0
        return [maps]


@pytest.fixture
def bundle() -> Bundle:
    settings = SimulationSettings(frame_size_px=(16, 16), n_frames=3)
    camera = Camera.build(CameraSettings("ideal"))
    psf = build(AstigmaticSettings(), PixelSize.of(100.0))
    return Bundle(
        OneInTheCorner(),
        Scaling(),
        Thresholds(),
        psf,
        camera,
        settings,  # type: ignore[arg-type]
    )


def test_one_frame_of_every_sample_is_numbered_as_the_sample(bundle: Bundle) -> None:
    predicted, truth = held_out_tables(bundle, N_SAMPLES)
    sample = Simulator(bundle.simulation, bundle.psf, bundle.camera).sample(
        1, torch.arange(N_SAMPLES), Domain.HELD_OUT
    )
    assert torch.equal(bundle.network.seen[0], sample.photons_BTHW)
    assert predicted.frame.tolist() == list(range(N_SAMPLES))
    np.testing.assert_array_equal(truth.frame, sample.emitters.image_N)


def test_truth_of_more_frames_has_the_predicted_one_in_its_middle(bundle: Bundle) -> None:
    frames = 5
    predicted, truth = held_out_tables(bundle, N_SAMPLES, truth_frames=frames)
    sample = Simulator(bundle.simulation, bundle.psf, bundle.camera).sample(
        1, torch.arange(N_SAMPLES), Domain.HELD_OUT, n_predicted=frames
    )
    assert torch.equal(bundle.network.seen[0], sample.photons_BTHW[:, 2:5])  # 3 of 7
    assert predicted.frame.tolist() == [frames * one + 2 for one in range(N_SAMPLES)]
    for frame in range(frames):
        images = sample.emitters.image_N // N_SAMPLES == frame
        mine = truth.select(truth.frame % frames == frame)
        np.testing.assert_allclose(mine.photons, sample.emitters.photons_N[images])
        np.testing.assert_array_equal(mine.frame // frames, sample.emitters.image_N[images] % N_SAMPLES)
    with pytest.raises(SettingsError, match="truth_frames is 4"):
        held_out_tables(bundle, N_SAMPLES, truth_frames=4)


def test_turned_frames_are_seen_too_and_the_mean_is_what_counts(bundle: Bundle) -> None:
    plain, _ = held_out_tables(bundle, N_SAMPLES)
    assert plain.x_nm.tolist() == [50.0] * N_SAMPLES
    first = bundle.network.seen[-1]  # type: ignore[union-attr,index]
    turned, _ = held_out_tables(bundle, N_SAMPLES, turned=True)
    torch.testing.assert_close(bundle.network.seen[-2:], [first, first.flip(-2, -1)])  # type: ignore[union-attr,index]
    # in the mean it has one in the first pixel and one in the last
    assert turned.x_nm.tolist() == turned.y_nm.tolist() == [50.0, 1550.0] * N_SAMPLES


def test_a_network_that_may_not_be_turned_is_refused(bundle: Bundle, lopsided_psf: SplinePSF) -> None:
    with pytest.raises(SettingsError, match="differs by"):
        held_out_tables(replace(bundle, psf=lopsided_psf), N_SAMPLES, turned=True)
    with pytest.raises(SettingsError, match="shows every emitter in one cell"):
        held_out_tables(replace(bundle, thresholds=Thresholds(one_cell_each=True)), N_SAMPLES, turned=True)
