"""What is read off a movie, against simulations whose truth is known and closed forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from emitter.app.train_line import psf_overrides
from emitter.inference.survey.background import background_map
from emitter.inference.survey.blinking import fractions, lag_shape, lifetime_of
from emitter.inference.survey.camera_noise import PhotonTransfer, photon_transfer
from emitter.inference.survey.frames import Sampled, planned_runs, sample_frames
from emitter.inference.survey.prior_verdicts import prior_verdicts, psf_verdict, shows_emitters
from emitter.inference.survey.shot_noise import Histogram, Priors, smoothed
from emitter.inference.survey.spot_shape import PIXEL_VARIANCE, FreeShape, KnownShape, at_shares
from emitter.inference.survey.spots import find_spots
from emitter.inference.survey.suggestions import simulation_overrides, training_density
from emitter.inference.survey.survey import Survey, survey
from emitter.inference.survey.verdicts import check_camera
from emitter.io.movie import ArrayMovie
from emitter.psf import PSF, build
from emitter.psf.gaussian import AstigmaticSettings, GaussianSettings
from emitter.simulation.camera import Camera, CameraSettings
from emitter.simulation.settings import FluxSettings, SimulationSettings
from emitter.simulation.simulator import Simulator

EMCCD = CameraSettings("emccd", 100.0, 100, 45, 300, 0.9, 74.4, 0.002)
SCMOS = CameraSettings("scmos", 100.0, 100, 0.46, None, 0.82, 1.6, 0.0)
IDEAL = CameraSettings("ideal")
GAUSSIAN, ASTIGMATIC = GaussianSettings(130.0), AstigmaticSettings(100.0, depth_nm=300.0)


def simulated(
    camera: CameraSettings,
    density: float,
    psf: GaussianSettings | AstigmaticSettings = GAUSSIAN,
    background: float = 40.0,
    flux: float = 3000.0,
    lifetime: float | None = 2.0,
    n_frames: int = 160,
    seed: int = 7,
) -> tuple[np.ndarray, float]:
    """Counts and the density of the emitters that are in them."""
    built = Camera.build(camera)
    z_range = (0.0, 0.0) if psf is GAUSSIAN else (-500.0, 500.0)
    settings = SimulationSettings(
        frame_size_px=(48, 48),
        density_per_um2=(density, density),
        lifetime_frames=lifetime,
        flux=FluxSettings(mean=flux, std=flux / 3),
        z_range_nm=z_range,
        background=(background, background),
    )
    model: PSF = build(psf, built.pixel_size)
    chunks = list(Simulator(settings, model, built).movie(seed, n_frames))
    counts = np.concatenate([counts.numpy() for counts, _ in chunks]).astype(np.uint16)
    return counts, sum(len(emitters) for _, emitters in chunks) / n_frames / (48 * 48 * 0.01)


def transferred(counts: np.ndarray, camera: CameraSettings) -> PhotonTransfer:
    sampled = sample_frames(ArrayMovie(counts), Camera.build(camera))
    return photon_transfer(sampled.photons_THW, sampled.runs)


def surveyed(counts: np.ndarray, camera: CameraSettings) -> Survey:
    built = Camera.build(camera)
    return survey(sample_frames(ArrayMovie(counts), built), built)


@pytest.mark.parametrize(
    ("camera", "density", "psf", "background", "flux", "lifetime"),
    [
        (EMCCD, 0.2, GAUSSIAN, 10.0, 3000.0, 2.0),
        (EMCCD, 0.6, ASTIGMATIC, 100.0, 3000.0, 2.0),
        (SCMOS, 3.0, GAUSSIAN, 40.0, 1500.0, 1.0),
        (SCMOS, 0.6, ASTIGMATIC, 10.0, 6000.0, None),
        (IDEAL, 0.2, ASTIGMATIC, 40.0, 3000.0, 4.0),
        (IDEAL, 3.0, ASTIGMATIC, 100.0, 3000.0, None),
    ],
)
def test_priors_within_20_percent(camera, density, psf, background, flux, lifetime) -> None:
    counts, true_density = simulated(camera, density, psf, background, flux, lifetime)
    found = surveyed(counts, camera)
    assert found.density_per_um2 == pytest.approx(true_density, rel=0.2)
    assert found.priors.flux_mean == pytest.approx(flux, rel=0.2)
    assert found.priors.background == pytest.approx(background, rel=0.2)
    assert found.is_3d == (psf is ASTIGMATIC), found.spots.elongation
    if psf is GAUSSIAN:
        assert found.priors.width_px == pytest.approx(1.3, rel=0.1)
    if lifetime is None:
        assert found.lifetime_frames is None
    else:
        assert found.lifetime_frames == pytest.approx(lifetime, rel=0.35)
    check = check_camera(found.transfer, Camera.build(camera))
    assert all(one.fine for one in check.verdicts), check.verdicts


def test_a_known_psf_is_used_where_it_explains_the_pixels() -> None:
    counts, true_density = simulated(EMCCD, 0.4, ASTIGMATIC, n_frames=96)
    camera = Camera.build(EMCCD)
    sampled = sample_frames(ArrayMovie(counts), camera)
    right, wrong = (
        survey(sampled, camera, KnownShape.of(build(psf, camera.pixel_size)))
        for psf in (ASTIGMATIC, GaussianSettings(200.0))
    )
    assert right.fits and right.density_per_um2 == pytest.approx(true_density, rel=0.2)
    assert right.priors.flux_mean == pytest.approx(3000, rel=0.2)
    assert isinstance(right.priors.shape, KnownShape)
    assert wrong.fits is False and wrong.priors is wrong.free


def test_where_emitters_cover_everything_their_chance_is_no_uneven_background() -> None:
    """The movie's own PSF is recognized, and how sure the background is, is said."""
    counts, true_density = simulated(IDEAL, 4.0, background=20.0, n_frames=160)
    camera = Camera.build(IDEAL)
    known = KnownShape.of(build(GAUSSIAN, camera.pixel_size))
    found = survey(sample_frames(ArrayMovie(counts), camera), camera, known)
    assert found.fits
    for priors in (found.priors, found.free):
        assert priors.density_px == pytest.approx(0.01 * true_density, rel=0.2)
        assert priors.flux_mean == pytest.approx(3000, rel=0.2)
        assert priors.background == pytest.approx(20, rel=0.2)
    background, *_ = prior_verdicts(found, 0.0)
    assert not background.fine and "all but" in background.advice


def test_map_of_the_background_is_what_stays_over_the_movie() -> None:
    """A tilt over the field; light that is elsewhere in every frame leaves less than by chance."""
    cloud_THW = 800 * gaussian_filter(np.random.default_rng(6).normal(0, 1, (160, 48, 48)), (1, 3, 3))
    tilt_HW = np.linspace(-20, 20, 48) * np.ones((48, 1))
    runs = [slice(at, at + 16) for at in range(0, 160, 16)]
    chance, shrunk = (background_map(cloud_THW, one) for one in (runs[:1], runs))
    assert shrunk.std() < 0.6 * chance.std()
    both = background_map(cloud_THW + tilt_HW, runs)
    assert np.polyfit(tilt_HW[0], both.mean(axis=0), 1)[0] == pytest.approx(0.9, abs=0.1)


@pytest.mark.parametrize("times", [0.5, 2.0])
@pytest.mark.parametrize("camera", [EMCCD, SCMOS])
def test_a_gain_that_is_off_by_2_is_noticed(camera: CameraSettings, times: float) -> None:
    counts, _ = simulated(camera, 0.6)
    wrong = replace(camera, e_per_adu=camera.e_per_adu * times)
    check = check_camera(transferred(counts, wrong), Camera.build(wrong))
    assert not check.verdicts[1].fine
    assert check.photons_ratio == pytest.approx(times, rel=0.2)
    assert "e_per_adu" in check.verdicts[1].advice


@pytest.mark.parametrize("photons", [-15.0, 40.0])
@pytest.mark.parametrize("camera", [EMCCD, SCMOS])
def test_a_baseline_that_is_off_is_noticed(camera: CameraSettings, photons: float) -> None:
    """Too high by these photons' counts: negative, and the background looks brighter than its noise."""
    counts, _ = simulated(camera, 0.6)
    per_photon = camera.quantum_efficiency * (camera.em_gain or 1.0) / camera.e_per_adu
    wrong = replace(camera, baseline_adu=camera.baseline_adu + photons * per_photon)
    off = wrong.baseline_adu - camera.baseline_adu
    check = check_camera(transferred(counts, wrong), Camera.build(wrong))
    assert not check.verdicts[0].fine
    assert check.verdicts[1].fine
    assert check.baseline_off_adu == pytest.approx(off, rel=0.2)


def test_an_emccd_taken_for_a_plain_camera_is_noticed() -> None:
    counts, _ = simulated(EMCCD, 0.6)
    plain = CameraSettings("scmos", 100.0, 100, 45 / 300, None, 0.9, 0.2, 0.0)
    check = check_camera(transferred(counts, plain), Camera.build(plain))
    assert "emccd" in check.verdicts[1].advice


def test_fractions_are_those_of_the_simulation() -> None:
    """Shares of full frames and the mean fraction, against emitters that blink one by one."""
    rng = np.random.default_rng(3)
    tau = 1.7
    on = rng.uniform(0, 1, 100_000)
    off = on + rng.exponential(tau, len(on))
    frame = np.arange(40)
    overlap = np.minimum(off[:, None], frame + 1) - np.maximum(on[:, None], frame)
    seen = overlap[overlap > 0]
    fraction, share = fractions(tau, 200)
    assert share.sum() == pytest.approx(1)
    assert share[-1] == pytest.approx((seen > 1 - 1e-9).mean(), abs=0.005)
    assert (fraction * share).sum() == pytest.approx(seen.mean(), abs=0.005)
    assert (fraction**2 * share).sum() == pytest.approx((seen**2).mean(), abs=0.005)
    following = (np.maximum(overlap, 0)[:, :-1] * np.maximum(overlap, 0)[:, 1:]).sum()
    shape = lag_shape(tau, 2)
    assert shape[1] / shape[0] == pytest.approx(following / (seen**2).sum(), abs=0.01)


def test_lifetime_from_its_own_covariances() -> None:
    shape = 5.0 * lag_shape(3.0, 7)
    assert lifetime_of(shape + np.r_[2.0, np.zeros(6)], 2.0) == pytest.approx(3.0, rel=0.01)
    assert lifetime_of(np.r_[5.0, np.zeros(6)], 2.0) is None


def halo_spot(shape: FreeShape, depth: float, x: float, y: float, side: int) -> np.ndarray:
    """Of one photon at a depth from −1 to 1 of the range, foci at ± 0.2, (side, side); unlike the survey, by adding up
    the core and its scattered light pixel by pixel."""
    centre = np.arange(side) + 0.5
    spot = np.zeros((side, side))
    for share, more in ((1 - shape.halo_share, 0.0), (shape.halo_share, shape.halo_times**2 - 1)):
        variances = (
            shape.sigma_px**2 * (1 + (shape.defocus * (depth + one)) ** 2 + more) + 1 / 12
            for one in (-0.2, 0.2)
        )
        rows, columns = (
            np.exp(-((centre - at) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
            for at, variance in zip((y, x), variances, strict=True)
        )
        spot += share * np.outer(rows, columns)
    return spot


@pytest.mark.parametrize("shape", [FreeShape(1.2, 2.0, 0.4, 3.0), FreeShape(1.3, 0.0)])
def test_free_shape_is_that_of_spots_drawn_by_pixel(shape: FreeShape) -> None:
    """Pixels above shares of the photons under a kernel, and the width of the Gaussian that is as peaked."""
    spots = np.stack([halo_spot(shape, k / 5 + 0.1, 60 + k / 5, 60.5 - k / 7, 121) for k in range(5)])
    smooth = smoothed(np.pad(spots, ((0, 0), (20, 20), (20, 20))), 2.5)
    table_S = shape.pixels_above(2.5)
    for one in (3e-3, 1e-3, 1e-4):
        counted = (smooth > one).sum() / len(spots)
        assert float(at_shares(table_S, np.log(one))) == pytest.approx(counted, rel=0.03), one
    drawn = np.sqrt(1 / (4 * np.pi * (spots**2).sum(axis=(1, 2))) - PIXEL_VARIANCE).mean()
    assert shape.width_px == pytest.approx(drawn, rel=0.03)


def test_a_psf_with_a_halo_that_nobody_gave_is_within_20_percent() -> None:
    """Spots that blur to several times their width in focus, a third of their light scattered."""
    rng = np.random.default_rng(11)
    shape, density, side = FreeShape(1.3, 4.0, 0.35, 3.5), 0.006, 64
    frames = np.full((96, side, side), 30.0)
    n_emitters = 0
    for frame in frames:
        for _ in range(rng.poisson(density * (side + 30) ** 2)):
            x, y = rng.uniform(-15, side + 15, 2)
            flux = max(rng.normal(3000, 1000), 100.0)
            frame += flux * halo_spot(shape, rng.uniform(-1, 1), x, y, side)
            n_emitters += (0 <= x < side) & (0 <= y < side)
    counts = rng.poisson(frames).astype(np.uint16)
    found = surveyed(counts, IDEAL)
    assert found.has_halo
    assert found.priors.density_px == pytest.approx(n_emitters / frames.size, rel=0.2)
    assert found.priors.flux_mean == pytest.approx(3000, rel=0.2)
    assert found.priors.background == pytest.approx(30, rel=0.1)


def test_model_of_the_pixels_is_their_distribution() -> None:
    """With the true priors, at a density at which spots overlap, the expected counts are those seen."""
    counts, density = simulated(IDEAL, 1.5, lifetime=None)
    frames = counts.astype(np.float32)
    histogram = Histogram.of(frames, 2.0, 1.0, False, 40.0)
    expected = histogram.model(Priors(density * 0.01, 3000.0, 1000.0, 40.0, 40.0, FreeShape(1.3, 0.0)), None)
    assert expected.sum() == pytest.approx(histogram.counts_G.sum(), rel=0.01)
    many = histogram.counts_G > 2000
    assert np.abs(expected / histogram.counts_G - 1)[many].mean() < 0.1


def test_photon_transfer_of_plain_noise() -> None:
    rng = np.random.default_rng(4)
    level = np.linspace(20, 200, 64)[None, None] * np.ones((32, 64, 1))
    frames = rng.poisson(level) * 1.5  # photons 1.5 times too many
    found = photon_transfer(frames.astype(np.float32), [slice(0, 16), slice(16, 32)])
    assert found.slope == pytest.approx(1.5, abs=4 * found.slope_error + 0.1)
    assert found.background_variance == pytest.approx(1.5 * found.background, rel=0.05)


def test_spots_have_their_photons_and_widths() -> None:
    rng = np.random.default_rng(5)
    centre = np.arange(30) + 0.5
    spot = np.exp(-((centre - 15.2) ** 2) / (2 * 1.2**2))[:, None] * np.exp(
        -((centre - 14.6) ** 2) / (2 * 1.8**2)
    )
    frames = rng.poisson(10 + 4000 * spot / spot.sum() * np.ones((40, 1, 1))).astype(np.float32)
    found = find_spots(frames, 10.0, 10.0, 1.0)
    # a second maximum on a wide spot's noise happens
    assert set(found.frame_N) == set(range(40)) and len(found.frame_N) < 50
    assert abs(np.median(found.x_px_N) - 14.6) < 1 and abs(np.median(found.y_px_N) - 15.2) < 1
    assert found.photons_M.mean() == pytest.approx(4000, rel=0.03)
    # widths without the integration over a pixel, which these spots have none of
    assert np.sqrt(found.sigma_x_px_M**2 + 1 / 12).mean() == pytest.approx(1.8, rel=0.03)
    assert np.sqrt(found.sigma_y_px_M**2 + 1 / 12).mean() == pytest.approx(1.2, rel=0.03)


@pytest.mark.parametrize("photons", [400, 4000])
def test_round_spots_are_elongated_by_their_noise_alone(photons: int) -> None:
    """The error of ln(σx/σy) is its spread over fits of the same spot, dim or bright, and no sign of a 3D PSF."""
    rng = np.random.default_rng(8)
    centre = np.arange(30) + 0.5
    profile = np.exp(-((centre - 15.1) ** 2) / (2 * 1.4**2))
    spot = photons * np.outer(profile, profile) / profile.sum() ** 2
    found = find_spots(rng.poisson(20 + spot * np.ones((300, 1, 1))).astype(np.float32), 20.0, 20.0, 1.0)
    assert found.elongation == pytest.approx(np.median(found.log_ratio_error_M), rel=0.25)
    assert not found.is_elongated(0.05)


@pytest.mark.parametrize("psf", [GAUSSIAN, ASTIGMATIC])
def test_dim_spots_are_told_round_from_elongated(psf: GaussianSettings | AstigmaticSettings) -> None:
    counts, _ = simulated(EMCCD, 1.0, psf, background=50.0, flux=500.0)
    assert surveyed(counts, EMCCD).is_3d == (psf is ASTIGMATIC)


def test_runs_are_consecutive_and_spread() -> None:
    numbers = np.r_[0:1000, 1005:3000]
    runs = planned_runs(numbers, 64 * 64)
    assert sum(b - a for a, b in runs) <= 512 + 16
    assert runs[0][0] == 0 and runs[-1][1] == len(numbers)
    assert all((np.diff(numbers[a:b]) == 1).all() for a, b in runs)
    assert planned_runs(np.arange(3), 64) == [(0, 3)]


def test_large_frames_are_cut_and_closed_shutters_left_out() -> None:
    frames = np.random.default_rng(1).poisson(50, (50, 320, 330)).astype(np.uint16)
    frames[7] = 100
    sampled = sample_frames(ArrayMovie(frames), Camera.build(IDEAL))
    assert sampled.photons_THW.size <= 4_100_000
    assert slice(0, 7) in sampled.runs and slice(7, 15) in sampled.runs
    assert isinstance(sampled, Sampled)
    assert torch.isfinite(torch.from_numpy(sampled.photons_THW)).all()


def test_trainings_are_denser_than_the_movie() -> None:
    for density, expected in ((0.03, (0.1, 1.0)), (0.6, (0.9, 3.0)), (3.0, (2.0, 8.0))):
        assert training_density(density) == pytest.approx(expected)


def test_figures_that_contradict_each_other_are_not_fine() -> None:
    """Ten spots that stand out for an emitter, or emitters wider than any spot."""
    counts, _ = simulated(IDEAL, 0.4, n_frames=64)
    found = surveyed(counts, IDEAL)
    assert all(one.fine for one in prior_verdicts(found, 0.0)) and psf_verdict(found).fine
    pieces = replace(found, density_per_um2=found.spots_per_um2 / 10)
    priors = replace(found.priors, shape=FreeShape(15.0, 0.0))
    wide = replace(found, priors=priors, free=priors)
    for wrong in (pieces, wide):
        off = {one.what for one in prior_verdicts(wrong, 0.0) if not one.fine}
        assert {"density", "photons"} <= off
    assert not psf_verdict(wide).fine and psf_overrides(wide, Camera.build(IDEAL).pixel_size, None) == []


@pytest.mark.parametrize("size_px", [8, 64])
def test_noise_alone_is_next_to_no_emitters_and_says_nothing_of_a_psf(size_px: int) -> None:
    counts = np.random.default_rng(0).poisson(20, (40, size_px, size_px)).astype(np.uint16)
    found = surveyed(counts, IDEAL)
    assert not len(found.spots.photons_M)
    (density,) = (one for one in prior_verdicts(found, 0.0) if one.what == "density")
    if size_px > 8:  # less than a spot's width tells noise from spots hardly
        assert not density.fine and "next to no emitters" in density.advice
        assert not any(one.fine for one in prior_verdicts(found, 0.0) if one.what == "photons")
        (background,) = simulation_overrides(found, 0.0, shows_emitters(found))
        low, high = map(float, background.removeprefix("simulation.background=").strip("[]").split(","))
        assert low < 20 < high
    psf = psf_verdict(found)
    assert not psf.fine and "no PSF is suggested" in psf.advice
    assert psf_overrides(found, Camera.build(IDEAL).pixel_size, None) == []
