"""Frames that the model itself made leave noise; frames of another PSF or baseline leave more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from emitter.core.table import EmitterTable
from emitter.metrics.residuals import background_around, frame_residual
from emitter.psf.gaussian import GaussianPSF
from emitter.simulation.camera import Camera, CameraSettings
from emitter.simulation.settings import SimulationSettings
from emitter.simulation.simulator import Simulator

CAMERAS = (
    CameraSettings(
        "emccd", baseline_adu=100, e_per_adu=45, em_gain=300, quantum_efficiency=0.9, read_noise_e=74.4
    ),
    CameraSettings("scmos", baseline_adu=100, e_per_adu=0.5, quantum_efficiency=0.8, read_noise_e=1.6),
    CameraSettings("ideal"),
)
PSF = GaussianPSF(1.3, 1.3)
EDGE = 6  # emitters outside the field light it


def chi2(camera: Camera, psf: GaussianPSF, read_by: Camera | None = None) -> tuple[float, float]:
    """Reduced χ² at emitters and elsewhere, of 20 simulated frames held against their truth."""
    settings = SimulationSettings(frame_size_px=(40, 40), z_range_nm=(0, 0), background=(60, 60))
    read_by = read_by or camera
    squares = {True: [], False: []}
    for counts, emitters in Simulator(settings, PSF, camera).movie(3, 20):
        table = EmitterTable.from_emitters(emitters, camera.pixel_size, list(range(len(counts))))
        for number, frame in enumerate(counts):
            rows = table.select(table.frame == number)
            background = background_around(rows, camera.pixel_size, (40, 40), 60.0)
            observed = read_by.to_photons(frame).numpy()
            residual = frame_residual(
                observed, rows, psf, read_by.noise_variance, camera.pixel_size, background
            )
            error, lit = (image[EDGE:-EDGE, EDGE:-EDGE] for image in (residual.error_HW, residual.lit_HW))
            for where in squares:
                squares[where].append(error[lit == where] ** 2)
    return tuple(float(np.concatenate(squares[where]).mean()) for where in (True, False))


@pytest.fixture(params=CAMERAS, ids=lambda settings: settings.kind)
def camera(request) -> Camera:
    return Camera.build(request.param)


def test_the_model_that_made_the_frames_leaves_noise(camera):
    assert chi2(camera, PSF) == pytest.approx((1.0, 1.0), abs=0.08)


def test_another_psf_is_seen_where_the_emitters_are(camera):
    at, elsewhere = chi2(camera, GaussianPSF(1.7, 1.7))
    assert at > 2 and elsewhere < 1.3


def test_another_baseline_is_seen_elsewhere(camera):
    shift = 40 * camera.quantum_efficiency * (camera.em_gain or 1) / float(camera.e_per_adu)
    _, elsewhere = chi2(camera, PSF, replace(camera, baseline_adu=camera.baseline_adu + shift))
    assert elsewhere > 3


def test_background_is_that_of_the_localizations_around_and_the_usual_one_far_away():
    camera = Camera.build(CAMERAS[2])
    rows = EmitterTable.of([0, 0], x_nm=[500, np.nan], y_nm=[500, 500], background=[80, 7])
    image = background_around(rows, camera.pixel_size, (12, 120), 20.0)
    assert image.shape == (12, 120)
    assert image[5, 5] == pytest.approx(80, abs=6) and image[5, 119] == pytest.approx(20, abs=0.1)
    assert torch.from_numpy(background_around(rows.select([]), camera.pixel_size, (8, 8), 20.0)).eq(20).all()
