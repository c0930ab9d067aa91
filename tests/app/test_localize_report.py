"""What the page of localize.py says of a movie that does not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import shown
from torch import Tensor, nn

from emitter.app import localize_report
from emitter.app.localize_report import report_of
from emitter.core import channels as ch
from emitter.core.channels import Scaling
from emitter.core.decoding import Thresholds
from emitter.core.table import EmitterTable
from emitter.inference.appearance import Appearance
from emitter.inference.bundle import Bundle
from emitter.inference.localizer import Region
from emitter.inference.usual import Usual
from emitter.io.movies import open_movie
from emitter.psf import build
from emitter.psf.gaussian import GaussianSettings
from emitter.simulation.camera import Camera, CameraSettings
from emitter.simulation.settings import FluxSettings, SimulationSettings
from emitter.simulation.simulator import Domain, Simulator

CAMERA = Camera.build(CameraSettings("ideal"))


class Blind(nn.Module):
    """Finds nothing."""

    n_frames, cells_px = 3, (1.0,)

    def forward(self, photons_BTHW: Tensor) -> list[Tensor]:
        maps = torch.full((len(photons_BTHW), ch.N_CHANNELS, *photons_BTHW.shape[-2:]), -20.0)
        return [maps]


def bundle() -> Bundle:
    simulation = SimulationSettings(
        frame_size_px=(32, 32),
        density_per_um2=(0.3, 0.3),
        z_range_nm=(0, 0),
        background=(20, 40),
        flux=FluxSettings("uniform", range=(1000, 3000)),
    )
    psf = build(GaussianSettings(130), CAMERA.pixel_size)
    return Bundle(Blind(), Scaling(), Thresholds(), psf, CAMERA, simulation)  # type: ignore[arg-type]


def test_the_true_table_of_a_movie_fits_also_in_a_region(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """χ² of the whole frame would count the emitters outside of the region as missed."""
    like_it = Usual(1.0, 9.0, Appearance(0, *[np.zeros(0)] * 7), 1.0)
    monkeypatch.setattr(localize_report, "usual", lambda bundle, density, movie: like_it)
    true = bundle()
    sample = Simulator(true.simulation, true.psf, true.camera).sample(1, torch.arange(12), Domain.HELD_OUT)
    emitters = replace(sample.emitters, background_N=torch.full_like(sample.emitters.x_px_N, 30.0))
    inside = EmitterTable.from_emitters(emitters, true.pixel_size)
    inside = inside.select(inside.x_nm < 1600)
    movie = open_movie(sample.counts_BTHW[:, 1].numpy().round().clip(0).astype(np.uint16))
    for roi, fits in ((Region(0, 0, 12, 32), True), (None, False)):
        caplog.clear()
        page = tmp_path / "locs_report.html"
        report = report_of(page, iter([inside]), None, movie, range(12), true, "Movie", roi)
        assert report == tmp_path / "locs_report.html"
        assert ("reduced χ²" not in caplog.text) == fits
        assert "Does the table explain the frames?" in report.read_text()
        assert ("The movie looks like what the network was trained for" in report.read_text()) == fits
    assert shown(report, tmp_path).is_whole
