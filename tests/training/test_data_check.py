"""The data check: every planted illness gets its warning, the quick start's priors none; facts against brute force."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import erf

from emitter.core.errors import EmitterError
from emitter.losses.detection.bce import BCESettings
from emitter.losses.detection.focal import FocalSettings
from emitter.losses.detection.overlap import DiceSettings, IoUSettings, TverskySettings
from emitter.losses.detection.weighted import WeightedSettings
from emitter.plots.data_check import plot_data_check
from emitter.psf import build
from emitter.psf.gaussian import AstigmaticSettings, GaussianSettings
from emitter.simulation.camera import Camera, CameraSettings
from emitter.simulation.settings import FluxSettings, SimulationSettings
from emitter.simulation.simulator import Domain, Simulator
from emitter.training import data_check
from emitter.training.data_check import (
    FIRST_INDEX,
    QUANTILES,
    check_data,
    compare_with_movie,
    movie_pixels,
    usual_foreground_weights,
)

EMCCD = CameraSettings("emccd", 100, 100, 45, 300, 0.9, 74.4, 0.002)
ASTIGMATIC = AstigmaticSettings(100, 200, -200, 300, z_range_nm=(-500, 500))


def simulator(settings=None, camera=EMCCD, psf=ASTIGMATIC) -> Simulator:
    built = Camera.build(camera)
    return Simulator(settings or SimulationSettings(), build(psf, built.pixel_size), built)


def frames_of(made: Simulator, n_frames: int = 60) -> np.ndarray:
    return np.concatenate([counts.numpy() for counts, _ in made.movie(3, n_frames)]).astype(np.float32)


class Planted(Simulator):
    """A simulator whose counts are changed."""

    def __init__(self, made: Simulator, change) -> None:
        super().__init__(made.settings, made.psf, made.camera)
        self.change = change

    def sample(self, seed, index_B, domain=Domain.TRAINING):
        sample = super().sample(seed, index_B, domain)
        return replace(sample, counts_BTHW=self.change(sample.counts_BTHW))


QUICKSTART = simulator()
SCMOS = CameraSettings("scmos", 100, 100, 0.46, None, 0.82, 1.6)
EXPERIMENTS = {
    "quickstart": QUICKSTART,
    "challenge_as": simulator(
        SimulationSettings(
            density_per_um2=(0.1, 1.0),
            flux=FluxSettings(mean=9800, std=4200),
            background=(80, 120),
            filament_share=0.5,
        )
    ),
    "ladder_2d": simulator(
        SimulationSettings(
            n_frames=1,
            lifetime_frames=None,
            density_per_um2=(2.0, 8.0),
            flux=FluxSettings("uniform"),
            z_range_nm=(0, 0),
        ),
        CameraSettings("ideal"),
        GaussianSettings(130),
    ),
    "scmos": simulator(
        SimulationSettings(
            density_per_um2=(0.1, 2.0),
            flux=FluxSettings("lognormal", 3000, 2000),
            background=(5, 150),
            background_structure=0.5,
            filament_share=0.3,
        ),
        SCMOS,
    ),
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_experiments_priors_have_no_warning(name):
    report = check_data(EXPERIMENTS[name], 1, 1.0)
    assert report.warnings == ()
    lines = report.summary_lines()
    assert "weigh 1 ×" in lines[0] and "nan" not in " ".join(lines)


def test_the_facts_are_those_of_the_samples():
    report = check_data(QUICKSTART, 5, 2.0, region_cells=3, n_samples=20)
    index = torch.arange(FIRST_INDEX, FIRST_INDEX + 20)
    sample = QUICKSTART.sample(5, index, Domain.TRAINING)
    emitters = sample.emitters
    occupied = {
        (int(b), int(y), int(x))
        for b, y, x in zip(emitters.image_N, emitters.y_px_N, emitters.x_px_N, strict=True)
    }
    counts = [int((emitters.image_N == b).sum()) for b in range(20)]
    assert report.foreground_share == pytest.approx(len(occupied) / (20 * 40 * 40))
    assert report.lost_share == pytest.approx(1 - len(occupied) / len(emitters))
    assert 3 * report.foreground_share < report.region_share < 9 * report.foreground_share
    assert report.emitters_mean == pytest.approx(np.mean(counts))
    assert (report.emitters_min, report.emitters_max) == (min(counts), max(counts))
    assert report.photons_quantiles == pytest.approx(np.quantile(emitters.photons_N.numpy(), QUANTILES))
    assert report.pixel_quantiles == pytest.approx(np.quantile(sample.photons_BTHW.numpy(), QUANTILES))
    middle, bright = np.quantile(sample.photons_BTHW.flatten(1).numpy(), (0.5, 0.999), axis=1)
    assert report.sample_background == pytest.approx(np.quantile(middle, (0.05, 0.95)))
    assert report.sample_bright == pytest.approx(np.quantile(bright - middle, (0.05, 0.95)))
    assert (report.frame_min_adu, report.frame_max_adu) == (
        sample.counts_BTHW.min(),
        sample.counts_BTHW.max(),
    )
    assert "weigh 2 ×" in report.summary_lines()[0]
    fullest = int(np.argmax(counts))
    assert np.array_equal(report.data.example_HW, sample.photons_BTHW[fullest, 1].numpy())
    assert len(report.data.example_x_px) == max(counts)


def test_the_foreground_is_that_of_the_finest_cells():
    whole = check_data(QUICKSTART, 1, 1.0, n_samples=16)
    half = check_data(QUICKSTART, 1, 1.0, n_samples=16, cell_px=0.5)
    assert half.foreground_share == pytest.approx(whole.foreground_share / 4, rel=0.02)


def test_the_peak_signal_to_noise_is_the_one_seen_in_repeated_frames():
    """An ideal camera and a Gaussian spot: the light of the centre pixel over the root of the background."""
    settings = SimulationSettings(
        n_frames=1,
        lifetime_frames=None,
        flux=FluxSettings("uniform", range=(500.0, 500.0)),
        background=(25.0, 25.0),
        z_range_nm=(0, 0),
    )
    report = check_data(simulator(settings, CameraSettings("ideal"), GaussianSettings(130)), 1, 1.0)
    share = erf(0.5 / (1.3 * 2**0.5)) ** 2
    assert report.peak_snr_median == pytest.approx(500 * share / 5, rel=1e-3)


def sparse(density: float) -> Simulator:
    return simulator(SimulationSettings(density_per_um2=(density, density)))


def test_nearly_empty_frames_are_warned_of_unless_they_are_weighted():
    nearly_empty = sparse(0.01)  # 0.01 % of the pixels
    report = check_data(nearly_empty, 1, 1.0)
    assert len(report.warnings) == 1 and report.empty_share > 0.7
    assert report.warnings[0].name == "data_empty"
    warning = report.warnings[0].sentence
    assert "weigh 1 ×" in warning and "50 to 100" in warning and "training.detection.pos_weight" in warning
    assert "simulation.density_per_um2 to about 0.05 " in warning
    assert "to about 0.2 " in check_data(nearly_empty, 1, 1.0, cell_px=0.5).warnings[0].sentence
    assert check_data(nearly_empty, 1, 50.0).warnings == ()
    assert check_data(sparse(0.08), 1, 1.0).warnings == ()  # what is advised, and some


@pytest.mark.parametrize(
    ("detection", "weight"),
    [
        (BCESettings(pos_weight=2.0), 2.0),
        (WeightedSettings(foreground_weight=20.0, background_weight=0.5), 40.0),
        (FocalSettings(alpha=0.75), 3.0),
        (DiceSettings(), None),
        (IoUSettings(), None),
        (TverskySettings(), None),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_a_cells_weight_is_named_where_there_is_one(detection, weight):
    assert detection.foreground_ratio == weight
    report = check_data(QUICKSTART, 1, detection.foreground_ratio, n_samples=8)
    line = report.summary_lines()[0]
    if weight is None:
        assert "does not weigh cells" in line and "×" not in line
    else:
        assert f"weigh {weight:g} ×" in line and "usual at this share: 50 to 100" in line


def test_nearly_empty_frames_of_a_loss_without_such_a_weight():
    only(check_data(sparse(0.01), 1, None), "data_empty", "simulation.density_per_um2 to about 0.05")
    assert "weight" not in check_data(sparse(0.01), 1, None).warnings[0].sentence


def test_the_usual_weight_is_said_for_the_share_that_is_measured():
    crowded = check_data(sparse(10.0), 1, 1.0, n_samples=8)
    assert 0.075 < crowded.foreground_share < 0.15
    assert "usual at this share: 10 to 20" in crowded.summary_lines()[0] and crowded.warnings == ()


def test_frames_without_any_emitter():
    report = check_data(sparse(1e-4), 1, 1.0, n_samples=4)
    assert report.empty_share == 1.0 and report.foreground_share == 0.0
    assert len(report.warnings) == 1
    assert all(report.summary_lines())


@pytest.mark.parametrize(
    ("share", "weights"),
    [(0.2, (5, 10)), (0.1, (10, 20)), (0.05, (20, 30)), (0.01, (50, 100)), (0, (50, 100))],
)
def test_usual_weights_are_the_published_ones(share, weights):
    assert usual_foreground_weights(share) == weights


def only(report, name: str, *words: str) -> None:
    assert [warning.name for warning in report.warnings] == [name]
    assert all(word in report.warnings[0].sentence for word in words), report.warnings


def test_dim_emitters():
    dim = simulator(SimulationSettings(flux=FluxSettings(mean=100, std=30)))
    report = check_data(dim, 1, 1.0)
    only(report, "data_dim", "simulation.flux.mean", "simulation.background")
    times = float(report.warnings[0].sentence.split("about ")[1].split(" times")[0])
    brighter = simulator(SimulationSettings(flux=FluxSettings(mean=100 * times, std=30 * times)))
    assert check_data(brighter, 1, 1.0).warnings == ()


def test_saturated_frames():
    high = replace(SCMOS, baseline_adu=65400.0)
    report = check_data(simulator(camera=high), 1, 1.0)
    only(report, "data_saturated", "saturated", "camera.baseline_adu")
    assert 0.01 < report.saturated_share < 1
    full = check_data(simulator(camera=replace(SCMOS, baseline_adu=65534.0, read_noise_e=0.0)), 1, 1.0)
    only(full, "data_saturated")  # and not also constant


def test_constant_frames():
    coarse = check_data(simulator(camera=replace(SCMOS, e_per_adu=1e6)), 1, 1.0)
    only(coarse, "data_constant", "constant", "camera.e_per_adu")
    assert coarse.constant_share == 1.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite(bad):
    def plant(counts_BTHW):
        counts_BTHW[0, 1, 2, 3] = bad
        return counts_BTHW

    report = check_data(Planted(QUICKSTART, plant), 1, 1.0, n_samples=16)
    assert report.n_non_finite == 2  # one in each chunk of eight
    assert any("NaN or infinite" in warning.sentence for warning in report.warnings)
    assert all("nan" not in line for line in report.summary_lines())


def test_targets_that_are_not_binary(monkeypatch):
    original = data_check.encode

    def soft(*args):
        targets = original(*args)
        maps = targets.maps_B6HW.clone()
        maps[:, 0] *= 0.5
        return replace(targets, maps_B6HW=maps)

    monkeypatch.setattr(data_check, "encode", soft)
    only(check_data(QUICKSTART, 1, 1.0, n_samples=8), "data_not_binary", "neither 0 nor 1")


def test_a_movie_of_the_same_microscope_is_told_nothing():
    for seed_settings in (SimulationSettings(), SimulationSettings(background=(12.0, 12.0))):
        pixels = movie_pixels(frames_of(simulator(seed_settings)), QUICKSTART.camera)
        comparison = compare_with_movie(check_data(QUICKSTART, 1, 1.0), pixels)
        assert comparison.warnings == ()
        assert comparison.movie == pytest.approx(np.quantile(pixels, QUANTILES))
        assert len(comparison.summary_lines()) == 2


@pytest.mark.parametrize(
    ("movie", "words"),
    [
        (SimulationSettings(background=(600.0, 600.0)), ["simulation.background=[3", "camera.baseline_adu"]),
        (SimulationSettings(background=(2.0, 2.0)), ["simulation.background=["]),
        (SimulationSettings(flux=FluxSettings(mean=30000, std=10000)), ["simulation.flux.mean"]),
        (
            SimulationSettings(flux=FluxSettings(mean=300, std=100), background=(20, 20)),
            ["simulation.flux.mean"],
        ),
    ],
)
def test_a_movie_of_another_sample_is_told_apart(movie, words):
    report = check_data(QUICKSTART, 1, 1.0)
    comparison = compare_with_movie(report, movie_pixels(frames_of(simulator(movie)), QUICKSTART.camera))
    assert len(comparison.warnings) == 1, comparison.warnings
    assert all(word in comparison.warnings[0].sentence for word in words), comparison.warnings


def test_a_movie_with_another_baseline():
    report = check_data(QUICKSTART, 1, 1.0)
    pixels = movie_pixels(frames_of(QUICKSTART) - 600, QUICKSTART.camera)
    comparison = compare_with_movie(report, pixels)
    assert len(comparison.warnings) == 1
    assert "below zero: camera.baseline_adu" in comparison.warnings[0].sentence


def test_movie_pixels_are_spread_over_the_movie_and_read_from_files(tmp_path):
    frames = np.repeat(np.arange(1000, dtype=np.float32), 8 * 8).reshape(1000, 8, 8)
    frames[999, 0, 0] = np.nan
    np.save(tmp_path / "movie.npy", frames)
    ideal = Camera.build(CameraSettings("ideal"))
    pixels = movie_pixels(tmp_path / "movie.npy", ideal)
    assert len(pixels) == 200 * 64 - 1 and pixels.min() == 0 and pixels.max() == 999
    assert pixels.mean() == pytest.approx(499.5, abs=1)
    large = movie_pixels(np.random.default_rng(0).normal(50, 1, (3, 700, 500)).astype(np.float32), ideal)
    assert 3 * 10_000 < len(large) < 3 * 40_000 and large.mean() == pytest.approx(50, abs=0.05)


def test_a_movie_that_does_not_fit_the_cameras_maps(tmp_path):
    np.save(tmp_path / "maps.npy", np.stack([np.full((64, 64), v) for v in (100.0, 4.0, 2.0)]))
    camera = Camera.build(CameraSettings("scmos", calibration=str(tmp_path / "maps.npy")))
    with pytest.raises(EmitterError, match="maps"):
        movie_pixels(np.zeros((5, 32, 32), dtype=np.float32), camera)


@pytest.mark.parametrize("with_movie", [False, True])
def test_the_figure_is_drawn(tmp_path, with_movie):
    report = check_data(QUICKSTART, 1, 1.0, n_samples=8)
    movie = movie_pixels(frames_of(QUICKSTART, 10), QUICKSTART.camera) if with_movie else None
    plot_data_check(report.data, tmp_path / "data.png", movie)
    with Image.open(tmp_path / "data.png") as image:
        assert min(image.size) > 500


def test_the_figure_of_ill_data_is_drawn(tmp_path):
    for made in (sparse(1e-4), Planted(QUICKSTART, lambda counts: counts * float("nan"))):
        report = check_data(made, 1, 1.0, n_samples=4)
        plot_data_check(report.data, tmp_path / "data.png")
        assert (tmp_path / "data.png").stat().st_size > 10_000
