"""The correction: parts with known answers, and a localizer whose errors nobody has told it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from emitter.core import channels as ch
from emitter.core.channels import Scaling
from emitter.core.decoding import Thresholds, decode
from emitter.core.emitters import Emitters
from emitter.core.table import PRECISION_COLUMNS
from emitter.core.units import PixelSize
from emitter.inference import uncertainty_fit
from emitter.inference.bundle import Bundle
from emitter.inference.uncertainty import Correction, Knots, hats
from emitter.inference.uncertainty_fit import errors_of, fit_correction
from emitter.metrics.crowded_crlb import crowded_crlb
from emitter.psf import build
from emitter.psf.gaussian import AstigmaticSettings, GaussianSettings
from emitter.simulation.camera import Camera, CameraSettings
from emitter.simulation.settings import FluxSettings, SimulationSettings
from emitter.simulation.simulator import Domain, Simulator


class BrightPixels(nn.Module):
    """Calls the middle of every pixel above 60 photons an emitter, if it is the brightest around."""

    n_frames, cells_px = 3, (1.0,)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, photons_BTHW: Tensor) -> list[Tensor]:
        middle = photons_BTHW[:, 1]
        maps = torch.zeros(len(middle), ch.N_CHANNELS, *middle.shape[-2:])
        brightest = middle == F.max_pool2d(middle[:, None], 3, stride=1, padding=1)[:, 0]
        maps[:, ch.P] = torch.where(brightest, (middle - 60) / 6, -9.0)
        maps[:, ch.PHOTONS] = middle * 10 / Scaling().photons
        maps[:, ch.BACKGROUND] = 5 / Scaling().background
        return [maps]


def bundle(density: tuple[float, float] = (0.2, 0.6)) -> Bundle:
    pixel = PixelSize.of(100.0)
    simulation = SimulationSettings(
        frame_size_px=(32, 32),
        density_per_um2=density,
        z_range_nm=(0, 0),
        background=(5, 5),
        lifetime_frames=None,
        flux=FluxSettings("uniform", range=(800, 4000)),
    )
    network = BrightPixels()
    thresholds = Thresholds(mass=0.5, one_cell_each=False)
    psf = build(GaussianSettings(130), pixel)
    return Bundle(network, Scaling(), thresholds, psf, Camera.build(CameraSettings("ideal")), simulation)  # type: ignore[arg-type]


def test_fresh_frames_have_the_errors_that_the_correction_says() -> None:
    known = replace(bundle(), correction=fit_correction(bundle(), most_samples=320))
    assert known.correction is not None
    sample = Simulator(known.simulation, known.psf, known.camera).sample(
        1, torch.arange(300), Domain.HELD_OUT
    )
    emitters = decode(known.network(sample.photons_BTHW)[-1], known.scaling, known.thresholds)
    columns = known.uncertainty().columns(emitters, 32, 32)
    errors = errors_of(emitters, sample.emitters, known)
    true = np.isfinite(errors["x_nm"])
    assert true.sum() > 500
    for axis, column in (
        ("x_nm", "precision_x_nm"),
        ("y_nm", "precision_y_nm"),
        ("photons", "precision_photons"),
    ):
        z_scores = errors[axis][true] / columns[column][true]
        assert 0.9 < np.sqrt((z_scores**2).mean()) < 1.1
    # about what a uniform error over a pixel has, whatever the bound is
    assert 25 < np.median(columns["precision_x_nm"]) < 45
    assert np.isnan(columns["precision_z_nm"]).all()
    # its score hardly tells crowded frames from the sparse ones that the correction saw too
    assert abs(columns["probability"].mean() - true.mean()) < 0.06


def test_without_a_correction_it_is_the_bound_and_the_score_stays() -> None:
    known = bundle()
    sample = Simulator(known.simulation, known.psf, known.camera).sample(1, torch.arange(8), Domain.HELD_OUT)
    emitters = decode(known.network(sample.photons_BTHW)[-1], known.scaling, known.thresholds)
    columns = known.uncertainty().columns(emitters, 32, 32)
    assert set(columns) == set(PRECISION_COLUMNS)
    bound = known.uncertainty().bound(emitters, 32, 32)
    np.testing.assert_allclose(columns["precision_x_nm"], bound.crowded.x_nm.numpy())


@pytest.mark.parametrize("psf", [GaussianSettings(130), GaussianSettings(50), AstigmaticSettings(a_x=0.05)])
@pytest.mark.parametrize("apart_px", [2.0, 4.0, 4.7, 20.0])
def test_the_bound_of_fewer_pixels_is_near_that_of_all(
    psf: GaussianSettings | AstigmaticSettings, apart_px: float
) -> None:
    known = replace(bundle(), psf=build(psf, PixelSize.of(100.0)))
    x_px = torch.tensor([20.2, 20.2 + apart_px])
    emitters = Emitters(
        image_N=torch.zeros(2, dtype=torch.long),
        x_px_N=x_px,
        y_px_N=torch.full((2,), 18.4),
        z_nm_N=torch.tensor([0.0, known.psf.z_range_nm[1] / 2]),
        photons_N=torch.tensor([2000.0, 4000.0]),
        background_N=torch.full((2,), 20.0),
        n_images=1,
    )
    uncertainty = replace(known.uncertainty(), is_3d=known.psf.z_range_nm[1] > 0)
    assert uncertainty._core.radius_px < known.psf.radius_px or known.psf.radius_px <= 2
    bound = uncertainty.bound(emitters, 40, 48)
    whole = crowded_crlb(
        known.psf, known.camera.mean_noise_variance, known.pixel_size, emitters, 40, 48, uncertainty.is_3d
    )
    for axis, tolerance in (("x_nm", 0.05), ("y_nm", 0.05), ("z_nm", 0.08), ("photons", 0.12)):
        for ours, full in ((bound.crowded, whole.crowded), (bound.alone, whole.alone)):
            torch.testing.assert_close(
                getattr(ours, axis), getattr(full, axis), rtol=tolerance, atol=0, equal_nan=True
            )


def test_a_network_that_finds_nothing_has_no_correction(monkeypatch: pytest.MonkeyPatch) -> None:
    blind = bundle()
    monkeypatch.setattr(
        BrightPixels, "forward", lambda self, frames: [torch.full((len(frames), 6, 32, 32), -20.0)]
    )
    assert fit_correction(blind) is None


def test_a_correction_survives_its_state() -> None:
    one = Correction(Knots((1.0, 2.0), (-1.0, 0.0)), {"x_nm": (1.0, 0.5)}, (0.2, 1.0), (0.4, 0.9))
    assert Correction.from_state(one.state()) == one


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20))
def test_hats_add_up_to_one_and_interpolate(values: list[float]) -> None:
    knots = (-1.0, 0.0, 2.5)
    weights = hats(np.array(values), knots)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    np.testing.assert_allclose(weights @ np.array(knots), np.clip(values, -1.0, 2.5), atol=1e-12)


def test_the_likeliest_weights_are_those_the_errors_were_drawn_with() -> None:
    rng = np.random.default_rng(4)
    features = np.stack([rng.normal(1, 0.4, 60_000), rng.normal(0, 1, 60_000), np.ones(60_000)], axis=1)
    true = np.array([0.8, -0.3, 0.5])
    errors = rng.normal(0, np.exp(features @ true))
    found = uncertainty_fit._likeliest(features, errors, np.ones(len(errors)))
    np.testing.assert_allclose(found, true, atol=0.03)


def test_the_monotone_map_finds_the_share_that_is_true() -> None:
    rng = np.random.default_rng(5)
    score = rng.uniform(0, 1, 50_000)
    scores, shares = uncertainty_fit._monotone(score, rng.uniform(0, 1, len(score)) < score**2)
    assert list(shares) == sorted(shares)
    x = np.linspace(0.1, 0.9, 9)
    np.testing.assert_allclose(np.interp(x, scores, shares), x**2, atol=0.05)


def test_the_density_is_that_of_the_square_inside_the_image() -> None:
    rng = np.random.default_rng(6)
    height, width, n = 50, 120, 200
    x_px, y_px = rng.uniform(-0.4, width + 0.4, n), rng.uniform(-0.4, height + 0.4, n)
    image = rng.integers(0, 2, n)
    emitters = Emitters(2, *(torch.tensor(one) for one in (image, x_px, y_px)), *(torch.ones(n),) * 2)
    found = bundle().uncertainty().log_density(emitters, height, width)
    column, row = np.clip(np.floor(x_px), 0, width - 1), np.clip(np.floor(y_px), 0, height - 1)
    for k in range(n):
        near = (np.abs(column - column[k]) <= 40) & (np.abs(row - row[k]) <= 40) & (image == image[k])
        columns = np.arange(width)[np.abs(np.arange(width) - column[k]) <= 40]
        rows = np.arange(height)[np.abs(np.arange(height) - row[k]) <= 40]
        area_um2 = len(columns) * len(rows) * 0.01
        assert np.exp(found[k]) == pytest.approx((near.sum() - 1) / area_um2 + 1 / 16)


class Teller(BrightPixels):
    """Is off by nothing or by a pixel and a half, and says which, in channels of its own."""

    def forward(self, photons_BTHW: Tensor) -> list[Tensor]:
        maps = super().forward(photons_BTHW)[0]
        middle_BHW = photons_BTHW[:, 1]
        brightest_BHW = middle_BHW == F.max_pool2d(middle_BHW[:, None], 5, stride=1, padding=2)[:, 0]
        maps[:, ch.P] = torch.where(brightest_BHW, maps[:, ch.P], -20.0)
        wrong_BHW = (middle_BHW.round() % 2).float()
        maps[:, ch.X] += 3.0 * wrong_BHW  # in half cells
        sigmas = torch.full((len(maps), len(ch.SIGMAS), *maps.shape[-2:]), 1.0)
        sigmas[:, ch.REGRESSION.index(ch.X)] += 5.0 * wrong_BHW
        return [torch.cat([maps, sigmas], dim=1)]


def test_what_the_network_says_itself_is_used() -> None:
    teller = replace(bundle(), network=Teller())  # type: ignore[arg-type]
    known = replace(teller, correction=fit_correction(teller, most_samples=320))
    sample = Simulator(known.simulation, known.psf, known.camera).sample(1, torch.arange(64), Domain.HELD_OUT)
    emitters = decode(known.network(sample.photons_BTHW)[-1], known.scaling, known.thresholds)
    columns = known.uncertainty().columns(emitters, 32, 32)
    assert emitters.sigma_N4 is not None
    wrong = emitters.sigma_N4[:, 0].numpy() > 1
    assert 0.3 < wrong.mean() < 0.7
    for group, low_nm, high_nm in ((~wrong, 25, 45), (wrong, 120, 190)):
        assert low_nm < np.median(columns["precision_x_nm"][group]) < high_nm
        assert 25 < np.median(columns["precision_y_nm"][group]) < 65


def test_a_correction_of_other_features_is_none() -> None:
    assert Correction.from_state({"photon_knots": [1.0, 2.0], "weights": {}}) is None
    known = Correction(Knots((1.0,), (1.0,)), {}, (), ()).state()
    assert Correction.from_state(known) is not None
    assert Correction.from_state({**known, "version": 0}) is None
    del known["version"]
    assert Correction.from_state(known) is None
