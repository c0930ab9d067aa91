"""Simulated samples: reproducible by (seed, index), and with the statistics that the settings promise."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from emitter.core.errors import SettingsError
from emitter.core.random import keys
from emitter.core.units import PixelSize
from emitter.psf import build
from emitter.psf.gaussian import AstigmaticSettings
from emitter.psf.render import render
from emitter.simulation.activation import Window, activate
from emitter.simulation.background import draw_background
from emitter.simulation.camera import Camera, CameraSettings
from emitter.simulation.settings import FluxSettings, SimulationSettings
from emitter.simulation.simulator import Simulator

PIXEL = PixelSize(100, 100)
EMCCD = CameraSettings("emccd", 100, 100, 45, 300.0, 0.9, 74.4, 0.002)


def simulator(camera: CameraSettings = EMCCD, **changes) -> Simulator:
    psf = build(AstigmaticSettings(130, -200, 200, 400, z_range_nm=(-500, 500)), PIXEL)
    return Simulator(replace(SimulationSettings(), **changes), psf, Camera.build(camera))


def occurrences(settings: SimulationSettings, n_samples: int = 60, n_frames: int = 3, margin: float = 0.0):
    window = Window(n_frames, *settings.frame_size_px, margin, PIXEL.area_um2)
    return activate(settings, keys(1, torch.arange(n_samples)), window)


@pytest.mark.parametrize("changes", [{}, {"background_structure": 0.8, "filament_share": 0.7}])
def test_a_sample_is_the_same_in_every_batch(changes):
    s = simulator(**changes)
    together = s.sample(4, torch.arange(12))
    alone = s.sample(4, torch.tensor([7]))
    assert torch.equal(together.counts_BTHW[7], alone.counts_BTHW[0])
    assert torch.equal(together.background_IHW[7], alone.background_IHW[0])
    mine = together.emitters.select(together.emitters.image_N == 7)
    assert torch.equal(mine.x_px_N, alone.emitters.x_px_N) and torch.equal(
        mine.photons_N, alone.emitters.photons_N
    )


def test_other_seeds_and_indices_are_other_samples():
    s = simulator()
    a = s.sample(4, torch.tensor([0, 1])).counts_BTHW
    assert not torch.equal(a[0], a[1])
    assert not torch.equal(a, s.sample(5, torch.tensor([0, 1])).counts_BTHW)


@pytest.mark.parametrize("lifetime", [0.3, 2.0, 10.0, None])
def test_density_is_emitters_seen_per_frame_and_area_in_every_frame(lifetime):
    settings = SimulationSettings(
        frame_size_px=(64, 64), lifetime_frames=lifetime, density_per_um2=(0.5, 0.5)
    )
    e = occurrences(settings, n_samples=400)
    expected = 0.5 * 64 * 64 * PIXEL.area_um2 * 400
    for frame in range(3):
        n = int((e.image_N % 3 == frame).sum())
        assert abs(n - expected) < 5 * expected**0.5


def test_density_is_log_uniform_over_its_range():
    settings = SimulationSettings(frame_size_px=(128, 128), density_per_um2=(0.1, 6.0), lifetime_frames=None)
    e = occurrences(settings, n_samples=300, n_frames=1)
    density = torch.bincount(e.image_N, minlength=300).double() / (128 * 128 * PIXEL.area_um2)
    unit = (density.log() - np.log(0.1)) / np.log(60)
    assert stats.kstest(unit.numpy(), "uniform").pvalue > 1e-3


def test_blinking_lives_exponentially_and_shares_its_photons_over_the_frames():
    """Photons over all frames = flux × on-time; onset uniform: checked on emitters that begin and end inside."""
    flux = FluxSettings("uniform", range=(1000.0, 1000.000001))
    settings = SimulationSettings(flux=flux, lifetime_frames=2.0, density_per_um2=(0.05, 0.05))
    n_frames = 60
    e = occurrences(settings, n_samples=300, n_frames=n_frames)
    sample, frame = e.image_N // n_frames, e.image_N % n_frames
    on_time, first, last = {}, {}, {}
    for i, key in enumerate(zip(sample.tolist(), e.x_px_N.tolist(), strict=True)):
        on_time[key] = on_time.get(key, 0.0) + float(e.photons_N[i]) / 1000
        first[key] = min(first.get(key, n_frames), int(frame[i]))
        last[key] = max(last.get(key, 0), int(frame[i]))
    inside = np.array([on_time[k] for k in on_time if 0 < first[k] < 30])
    assert stats.kstest(inside, stats.expon(scale=2.0).cdf).pvalue > 1e-3
    assert float(e.photons_N.max()) <= 1000.01
    # the process is stationary: as many are on in the first frame as in any other
    per_frame = torch.bincount(frame, minlength=n_frames).double()
    assert abs(per_frame[0] - per_frame.mean()) < 5 * per_frame.mean().sqrt()


@pytest.mark.parametrize(
    ("flux", "law"),
    [
        (FluxSettings("normal", 3000, 1000), stats.truncnorm(-3, np.inf, 3000, 1000)),
        (FluxSettings("lognormal", 3000, 1500), None),
        (FluxSettings("uniform", range=(1000, 5000)), stats.uniform(1000, 4000)),
    ],
    ids=lambda f: getattr(f, "distribution", ""),
)
def test_flux_follows_its_distribution(flux, law):
    settings = SimulationSettings(flux=flux, lifetime_frames=None, density_per_um2=(5, 5))
    photons = occurrences(settings).photons_N.double().numpy()
    if law is None:
        assert abs(photons.mean() / 3000 - 1) < 0.02 and abs(photons.std() / 1500 - 1) < 0.05
        assert (
            stats.kstest(
                np.log(photons), stats.norm(np.log(photons).mean(), np.log(photons).std()).cdf
            ).pvalue
            > 1e-3
        )
    else:
        assert stats.kstest(photons, law.cdf).pvalue > 1e-3


def test_positions_are_uniform_over_field_and_margin_and_z_over_its_range():
    e = occurrences(SimulationSettings(density_per_um2=(2, 2)), margin=4.0)
    one = e.image_N % 3 == 1
    for column, low, span in ((e.x_px_N, -4, 48), (e.y_px_N, -4, 48), (e.z_nm_N, -500, 1000)):
        assert stats.kstest(column[one].double().numpy(), stats.uniform(low, span).cdf).pvalue > 1e-3


def test_filaments_crowd_emitters_without_changing_their_number():
    plain = SimulationSettings(density_per_um2=(2, 2), lifetime_frames=None)
    crowded = occurrences(replace(plain, filament_share=1.0), n_samples=100, n_frames=1)
    uniform = occurrences(plain, n_samples=100, n_frames=1)
    assert abs(len(crowded) - len(uniform)) < 5 * len(uniform) ** 0.5

    def occupied_blocks(e):
        blocks = torch.stack((e.image_N, (e.x_px_N / 3).floor().long(), (e.y_px_N / 3).floor().long()))
        return len(torch.unique(blocks, dim=1).T)

    assert occupied_blocks(crowded) < 0.92 * occupied_blocks(uniform)


def test_background_is_uniform_over_samples_and_structure_keeps_within_it():
    settings = SimulationSettings(background=(10, 100))
    flat = draw_background(settings, keys(1, torch.arange(2000)), 8, 8)
    assert stats.kstest(flat[:, 0, 0].double().numpy(), stats.uniform(10, 90).cdf).pvalue > 1e-3
    assert torch.equal(flat.amin(dim=(1, 2)), flat.amax(dim=(1, 2)))
    structured = draw_background(
        replace(settings, background_structure=0.5), keys(1, torch.arange(200)), 40, 40
    )
    low, high = structured.amin(dim=(1, 2)), structured.amax(dim=(1, 2))
    assert torch.allclose(high, flat[:200, 0, 0]) and (low >= 0.5 * high - 1e-3).all() and (low < high).all()
    step = (structured[:, 1:] - structured[:, :-1]).abs().amax(dim=(1, 2))
    assert (step < 0.2 * high).all()  # smooth


def test_frames_hold_the_photons_of_the_truth():
    """Mean of many samples: background + photons per area, in the units of to_photons."""
    s = simulator(camera=CameraSettings("ideal"), background=(20, 20), density_per_um2=(0.5, 0.5))
    sample = s.sample(1, torch.arange(300))
    middle = sample.photons_BTHW[:, 1, 8:-8, 8:-8]
    expected = 20 + float(sample.emitters.photons_N.sum()) / 300 / 1600
    assert abs(float(middle.mean()) / expected - 1) < 0.03


def test_the_truth_lies_in_the_frame_and_carries_its_background():
    sample = simulator(background_structure=0.9).sample(1, torch.arange(20))
    e = sample.emitters
    assert (e.x_px_N >= 0).all() and (e.x_px_N < 40).all() and (e.y_px_N >= 0).all() and (e.y_px_N < 40).all()
    at = sample.background_IHW[e.image_N, e.y_px_N.long(), e.x_px_N.long()]
    assert torch.equal(at, e.background_N)


def test_a_movie_does_not_depend_on_its_chunks_and_blinks_over_frames():
    s = simulator()
    whole = list(s.movie(3, 30, chunk_frames=30))
    parts = list(s.movie(3, 30, chunk_frames=7))
    assert torch.equal(whole[0][0], torch.cat([counts for counts, _ in parts]))
    assert torch.equal(whole[0][1].image_N, torch.cat([e.image_N for _, e in parts]))
    x = whole[0][1].x_px_N
    assert len(torch.unique(x)) < 0.6 * len(x)  # the same molecules again


def test_maps_of_a_camera_are_seen_through_a_random_window(tmp_path):
    offset = np.arange(50 * 60, dtype=float).reshape(50, 60)
    np.save(tmp_path / "m.npy", np.stack((offset, np.ones_like(offset), np.ones_like(offset))))
    s = simulator(camera=CameraSettings("scmos", calibration=str(tmp_path / "m.npy")))
    sample = s.sample(1, torch.arange(40))
    corner = sample.camera.baseline_adu[:, 0, 0, 0]
    assert len(torch.unique(corner)) > 30
    assert abs(float(sample.photons_BTHW.mean()) / (55 + 3000 * 0.006 * 0.67) - 1) < 0.2
    with pytest.raises(SettingsError, match="fit into the maps"):
        simulator(
            camera=CameraSettings("scmos", calibration=str(tmp_path / "m.npy")), frame_size_px=(51, 40)
        ).sample(1, torch.arange(1))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"n_frames": 2}, "n_frames"),
        ({"frame_size_px": (4, 40)}, "frame_size_px"),
        ({"density_per_um2": (2.0, 1.0)}, "density_per_um2"),
        ({"background": (-1.0, 5.0)}, "background"),
        ({"lifetime_frames": 0.0}, "lifetime_frames"),
        ({"z_range_nm": (-800.0, 500.0)}, "z_range_nm"),
        ({"filament_share": 1.5}, "filament_share"),
    ],
)
def test_wrong_settings_are_named(changes, named):
    with pytest.raises(SettingsError, match=named):
        simulator(**changes)


def test_a_short_movie_is_the_longer_window_with_the_truth_of_more_of_its_frames():
    index_B = torch.arange(5)
    movie = simulator(n_frames=3).sample(4, index_B, n_predicted=3)
    window = simulator(n_frames=5).sample(4, index_B)
    assert torch.equal(movie.counts_BTHW, window.counts_BTHW)
    assert movie.n_predicted == 3 and movie.emitters.n_images == 15
    middle = movie.emitters.select((movie.emitters.image_N // 5) == 1)
    for name in ("x_px_N", "y_px_N", "z_nm_N", "photons_N", "background_N"):
        assert torch.equal(getattr(middle, name), getattr(window.emitters, name))
    assert torch.equal(middle.image_N - 5, window.emitters.image_N)
    assert torch.equal(movie.background_IHW[5:10], window.background_IHW)


def test_the_truth_of_every_frame_of_a_short_movie_is_what_the_frame_shows():
    s = simulator(camera=CameraSettings("ideal", 100, 0, 1, None, 1.0, 0.0, 0.0), lifetime_frames=0.5)
    movie = s.sample(4, torch.arange(3), n_predicted=4)
    assert torch.equal(movie.predicted_photons_IHW[2 * 3 + 1], movie.photons_BTHW[1, 3])
    shown = render(s.psf, movie.emitters, *s.settings.frame_size_px) + movie.background_IHW
    residual = movie.predicted_photons_IHW - shown  # what is left is noise, and emitters outside the frame
    inner = residual[:, 6:-6, 6:-6]
    assert inner.pow(2).mean() < 1.2 * movie.predicted_photons_IHW[:, 6:-6, 6:-6].mean()
