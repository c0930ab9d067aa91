"""What the page of localize.py says of a movie that does not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from emitter.app import localize_report
from emitter.app.localize_report import mismatches, report_of
from emitter.core import channels as ch
from emitter.core.channels import Scaling
from emitter.core.decoding import Thresholds
from emitter.core.table import EmitterTable
from emitter.inference.bundle import Bundle
from emitter.inference.localizer import Region
from emitter.inference.residuals import Residuals
from emitter.io.movies import open_movie
from emitter.io.tables import write_table
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


def table(photons: float = 2000, background: float = 30) -> EmitterTable:
    n = 50
    place = np.linspace(100, 3000, n)
    return EmitterTable.of(
        np.arange(n), x_nm=place, y_nm=place, photons=np.full(n, photons), background=np.full(n, background)
    )


def frames(chi2: float) -> Residuals:
    zero = np.zeros((2, 8, 8))
    return Residuals(zero, zero, np.full((8, 8), chi2))


@pytest.mark.parametrize(
    ("found", "chi2", "said"),
    [
        (table(), 1.2, []),
        (table(photons=1000), 1.2, []),
        (table(photons=400), 1.2, ["photons"]),
        (table(photons=9000), 1.2, ["photons"]),
        (table(background=300), 1.2, ["background"]),
        (table(background=3), 1.2, ["background"]),
        (table(), 9.0, ["reduced χ²"]),
        (table(photons=9000, background=300), 9.0, ["background", "photons", "reduced χ²"]),
        (EmitterTable.empty(), 1.2, []),
    ],
)
def test_one_sentence_for_each_that_does_not_fit(found: EmitterTable, chi2: float, said: list[str]) -> None:
    sentences = mismatches(found, frames(chi2), 1.0, bundle())
    assert len(sentences) == len(said)
    assert all(word in sentence for word, sentence in zip(said, sentences, strict=True))


def test_the_true_table_of_a_movie_fits_also_in_a_region(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """χ² of the whole frame would count the emitters outside of the region as missed."""
    monkeypatch.setattr(localize_report, "simulated_chi2", lambda bundle, density: 1.0)
    true = bundle()
    sample = Simulator(true.simulation, true.psf, true.camera).sample(1, torch.arange(12), Domain.HELD_OUT)
    emitters = replace(sample.emitters, background_N=torch.full_like(sample.emitters.x_px_N, 30.0))
    inside = EmitterTable.from_emitters(emitters, true.pixel_size)
    inside = inside.select(inside.x_nm < 1600)
    write_table(tmp_path / "locs.csv", inside)
    movie = open_movie(sample.counts_BTHW[:, 1].numpy().round().clip(0).astype(np.uint16))
    for roi, fits in ((Region(0, 0, 12, 32), True), (None, False)):
        caplog.clear()
        report = report_of(tmp_path / "locs.csv", None, movie, range(12), true, "Movie", roi)
        assert report == tmp_path / "locs_report.html"
        assert ("reduced χ²" not in caplog.text) == fits
        assert "Does the table explain the frames?" in report.read_text()
