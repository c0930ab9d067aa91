"""diagnose.py as a user runs it: the table, the line to copy, the files, and what a checkpoint is told."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from emitter.app.diagnose import Settings, run
from emitter.core.channels import Scaling
from emitter.core.decoding import Thresholds
from emitter.core.errors import EmitterError
from emitter.core.units import PixelSize
from emitter.inference.bundle import Bundle
from emitter.inference.survey.frames import sample_frames
from emitter.inference.survey.survey import survey
from emitter.inference.survey.verdicts import check_fit, pixel_size_verdict, widths_px
from emitter.io.movie import ArrayMovie
from emitter.models.network import EmitterNetwork, InputScaling
from emitter.models.settings import VarSettings
from emitter.psf import build
from emitter.psf.gaussian import GaussianSettings
from emitter.simulation.camera import Camera, CameraSettings
from emitter.simulation.settings import FluxSettings, SimulationSettings
from emitter.simulation.simulator import Simulator

CAMERA = CameraSettings("scmos", 100.0, 100, 0.46, None, 0.82, 1.6, 0.0)


@pytest.fixture(scope="module")
def counts_THW() -> np.ndarray:
    camera = Camera.build(CAMERA)
    settings = SimulationSettings(
        frame_size_px=(40, 40), density_per_um2=(0.4, 0.4), z_range_nm=(0.0, 0.0), background=(30.0, 30.0)
    )
    simulator = Simulator(settings, build(GaussianSettings(130.0), camera.pixel_size), camera)
    return np.concatenate([counts.numpy() for counts, _ in simulator.movie(3, 96)]).astype(np.uint16)


def test_table_line_and_files(
    counts_THW: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    movie = tmp_path / "movie.tif"
    tifffile.imwrite(movie, counts_THW)
    diagnosis = run(Settings(CAMERA, str(movie), output=tmp_path / "out"))
    shown = capsys.readouterr().out
    line = next(one for one in shown.splitlines() if "simulation.flux.mean=" in one)
    assert line == " ".join(diagnosis.overrides)
    given = dict(one.split("=", 1) for one in shlex.split(line))
    assert given["camera"] == "scmos" and given["camera.baseline_adu"] == "100"
    assert float(given["simulation.flux.mean"]) == pytest.approx(3000, rel=0.2)
    assert float(given["simulation.lifetime_frames"]) == pytest.approx(2, rel=0.4)
    assert float(given["psf.sigma_nm"]) == pytest.approx(130, rel=0.1)
    low, high = json.loads(given["simulation.background"])
    assert low < 30 < high
    low, high = json.loads(given["simulation.density_per_um2"])
    assert 0.4 < low < high  # denser than the movie, on purpose
    kept = json.loads((tmp_path / "out" / "diagnosis.json").read_text())
    assert kept["overrides"] == list(diagnosis.overrides)
    assert all(one["fine"] for one in kept["verdicts"]), kept["verdicts"]
    assert (tmp_path / "out" / "diagnosis.png").read_bytes()[:4] == b"\x89PNG"


def test_a_psf_that_is_given_is_judged_and_goes_on_to_training(
    counts_THW: np.ndarray, tmp_path: Path
) -> None:
    movie = tmp_path / "movie.tif"
    tifffile.imwrite(movie, counts_THW, photometric="minisblack")
    fitting = run(Settings(CAMERA, str(movie), psf=GaussianSettings(130.0)))
    assert fitting.overrides[-3:] == ("simulation.z_range_nm=[0,0]", "psf=gaussian", "psf.sigma_nm=130")
    other = run(Settings(CAMERA, str(movie), psf=GaussianSettings(260.0)))
    (said,) = (one for one in other.priors if one.what == "PSF")
    assert not said.fine and "does not explain" in said.advice
    sigma = dict(one.split("=") for one in other.overrides)["psf.sigma_nm"]
    assert float(sigma) == pytest.approx(130, rel=0.1)
    with pytest.raises(EmitterError, match="psf and checkpoint"):
        Settings(CAMERA, str(movie), checkpoint=tmp_path, psf=GaussianSettings(130.0))


def bundle_for(simulation: SimulationSettings, sigma_nm: float) -> Bundle:
    camera = Camera.build(CAMERA)
    model = VarSettings(stem_channels=(8, 8, 8), widths=(8, 8, 8), blocks=(1, 1, 1), latent_channels=8)
    network = EmitterNetwork(model, 3, InputScaling())
    psf = build(GaussianSettings(sigma_nm), camera.pixel_size)
    return Bundle(network, Scaling(), Thresholds(), psf, camera, simulation)


def test_a_checkpoint_that_does_not_fit_is_told_why(counts_THW: np.ndarray) -> None:
    camera = Camera.build(CAMERA)
    found = survey(sample_frames(ArrayMovie(counts_THW), camera), camera)
    fitting = SimulationSettings(z_range_nm=(0.0, 0.0), background=(10.0, 100.0), density_per_um2=(0.5, 3.0))
    assert all(one.fine for one in check_fit(found, bundle_for(fitting, 130.0)))
    other = SimulationSettings(
        z_range_nm=(0.0, 0.0),
        background=(100.0, 200.0),
        density_per_um2=(0.01, 0.1),
        flux=FluxSettings(mean=20_000, std=2000),
    )
    verdicts = check_fit(found, bundle_for(other, 210.0))
    assert [one.fine for one in verdicts] == [False] * 4
    for one, word in zip(verdicts, ("background", "flux", "density", "pixel size"), strict=True):
        assert word in one.advice


def test_width_of_a_gaussian_is_its_sigma() -> None:
    camera = Camera.build(CAMERA)
    assert widths_px(build(GaussianSettings(150.0), camera.pixel_size), (0.0, 0.0)) == pytest.approx(
        (1.5, 1.5), rel=0.02
    )


def test_pixels_of_another_size_than_the_file_states_are_said(
    counts_THW: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Widths in nm go with the size and densities with its square: first the camera, then the figures."""
    movie = tmp_path / "movie.tif"
    tifffile.imwrite(movie, counts_THW, imagej=True, resolution=(1 / 0.16, 1 / 0.16), metadata={"unit": "um"})
    wrong = run(Settings(CAMERA, str(movie)))
    (said,) = (one for one in wrong.camera.verdicts if not one.fine)
    assert "states 160 nm" in said.seen and "camera.pixel_size_nm=160" in said.advice
    assert "first set the camera right" in capsys.readouterr().out
    right = run(Settings(replace(CAMERA, pixel_size_nm=160.0), str(movie)))
    assert all(one.fine for one in right.camera.verdicts)
    assert "first" not in capsys.readouterr().out
    assert right.survey.density_per_um2 == pytest.approx(wrong.survey.density_per_um2 / 1.6**2)
    trained = pixel_size_verdict(PixelSize(160.0, 150.0), Camera.build(CAMERA).pixel_size, trained=True)
    assert not trained.fine and "states [160,150] nm" in trained.seen and "camera." not in trained.advice
    assert pixel_size_verdict(None, Camera.build(CAMERA).pixel_size, trained=False).fine


def test_constant_movie_is_refused(tmp_path: Path) -> None:
    movie = tmp_path / "dark.tif"
    tifffile.imwrite(movie, np.full((4, 16, 16), 100, np.uint16))
    with pytest.raises(EmitterError, match="constant"):
        run(Settings(CAMERA, str(movie)))


@pytest.mark.parametrize("psf", [None, GaussianSettings(110.0)])
def test_crowded_movie_of_thunderstorm(data_dir: Path, psf: GaussianSettings | None) -> None:
    """bthd2013: 248 emitters in the 6.4 µm squared of every frame, background 20."""
    camera = CameraSettings("emccd", 100.0, 100, 50, 100, 1.0, 0.0, 0.0)
    movie = str(data_dir / "bthd2013" / "ArtificialDataset_demo1.tif")
    diagnosis = run(Settings(camera, movie, psf=psf))
    assert diagnosis.survey.density_per_um2 == pytest.approx(6.05, rel=0.2)
    # without the PSF a faint halo that is none takes a third of a background that is a fifth of the emitters' light
    assert diagnosis.survey.priors.background == pytest.approx(20, rel=0.2 if psf else 0.4)
    assert all(one.fine for one in diagnosis.camera.verdicts)
