"""Camera models against the moments that theory gives."""

import numpy as np
import pytest
import torch
from scipy import stats

from emitter.core.errors import EmitterError, SettingsError
from emitter.core.random import Stream, keys
from emitter.simulation.camera import Camera, CameraSettings

N = 200_000
EMCCD = CameraSettings("emccd", 100, 100, 45, 300.0, 0.9, 74.4, 0.002)
SCMOS = CameraSettings("scmos", 100, 100, 0.46, None, 0.82, 1.6)
IDEAL = CameraSettings("ideal")


def photons_of(settings: CameraSettings, photons: float) -> tuple[Camera, torch.Tensor]:
    camera = Camera.build(settings)
    counts = camera.sample(torch.full((1, 1, 1, N), photons), Stream(keys(1, torch.arange(1)), 3))
    return camera, camera.to_photons(counts).double().flatten()


@pytest.mark.parametrize("settings", [EMCCD, SCMOS, IDEAL], ids=lambda s: s.kind)
@pytest.mark.parametrize("photons", [2.0, 30.0, 400.0])
def test_mean_and_variance_are_those_of_the_fisher_information(settings, photons):
    camera, estimate = photons_of(settings, photons)
    variance = float(camera.noise_variance(torch.tensor(photons)))
    rounding = (float(camera.e_per_adu) / (camera.em_gain or 1) / camera.quantum_efficiency) ** 2 / 12
    rounding *= settings.kind != "ideal"
    assert abs(estimate.mean() - photons) < 5 * (variance / N) ** 0.5
    assert abs(estimate.var() / (variance + rounding) - 1) < 0.02


def test_an_emccd_doubles_the_shot_noise():
    _, estimate = photons_of(EMCCD, 100.0)
    poisson = 100.0 / 0.9  # of the photon estimate, without gain
    assert abs(estimate.var() / poisson - 2.0) < 0.05


def test_emccd_counts_follow_gamma_of_poisson_electrons():
    camera, estimate = photons_of(EMCCD, 20.0)
    rng = np.random.default_rng(0)
    electrons = rng.poisson(20.0 * 0.9 + 0.002, N)
    signal = rng.gamma(np.maximum(electrons, 1e-9), 300.0) * (electrons > 0) + rng.normal(0, 74.4, N)
    reference = camera.to_photons(torch.from_numpy(np.round(signal / 45) + 100))
    quantiles = np.linspace(0.02, 0.98, 30)
    ours, theirs = np.quantile(estimate, quantiles), np.quantile(reference.numpy(), quantiles)
    assert np.abs(ours - theirs).max() < 0.35  # a count is 0.17 photons


def test_ideal_counts_are_poisson():
    _, estimate = photons_of(IDEAL, 7.0)
    observed = np.bincount(estimate.numpy().astype(int), minlength=30)[:20]
    expected = stats.poisson(7.0).pmf(np.arange(20)) * N
    assert (np.abs(observed - expected) < 5 * np.sqrt(expected) + 5).all()


def test_maps_of_an_scmos_reach_the_right_pixels(tmp_path):
    rng = np.random.default_rng(0)
    offset, variance, gain = (
        rng.uniform(90, 110, (6, 9)),
        rng.uniform(1, 30, (6, 9)),
        rng.uniform(1.5, 2.5, (6, 9)),
    )
    np.save(tmp_path / "maps.npy", np.stack((offset, variance, gain)))
    camera = Camera.build(CameraSettings("scmos", calibration=str(tmp_path / "maps.npy")))
    assert camera.map_shape == (6, 9)
    assert torch.allclose(
        camera.to_photons(torch.from_numpy(offset + 10 * gain)), torch.tensor(10.0), atol=1e-3
    )
    assert torch.allclose(camera.read_noise_e, torch.from_numpy(np.sqrt(variance) / gain).float())
    windows = camera.windows(torch.tensor([0, 2]), torch.tensor([1, 4]), 3, 5)
    assert torch.equal(windows.baseline_adu[1, 0], camera.baseline_adu[2:5, 4:9])
    turned = Camera.build(
        CameraSettings("scmos", calibration=str(tmp_path / "maps.npy"), calibration_transposed=True)
    )
    assert torch.equal(turned.baseline_adu, camera.baseline_adu.T)


def test_the_real_scmos_calibration_makes_the_real_background_plausible(data_dir):
    folder = data_dir / "storm_analysis"
    path = str(folder / "scmos_calib.npy")
    camera = Camera.build(CameraSettings("scmos", 160, calibration=path, calibration_transposed=True))
    movie = np.fromfile(folder / "scmos_sample.dax", dtype=">u2").reshape(-1, 256, 256).astype(np.float32)
    photons = camera.to_photons(torch.from_numpy(movie)).numpy()
    plain = (
        Camera.build(CameraSettings("scmos", 160, calibration=path))
        .to_photons(torch.from_numpy(movie))
        .numpy()
    )
    assert (photons > -20).mean() > 0.999
    # fixed pattern left over: the right orientation leaves less of it
    assert np.median(photons, axis=0).std() < np.median(plain, axis=0).std()


def test_a_camera_survives_its_state():
    camera = Camera.build(EMCCD)
    again = Camera.from_state(camera.state())
    assert again.state().keys() == camera.state().keys()
    counts = torch.tensor([100.0, 500.0])
    assert torch.equal(again.to_photons(counts), camera.to_photons(counts))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"kind": "ccd"}, "camera.kind"),
        ({"e_per_adu": 0.0}, "e_per_adu"),
        ({"quantum_efficiency": 1.2}, "quantum_efficiency"),
        ({"read_noise_e": -1.0}, "read_noise_e"),
        ({"em_gain": None}, "em_gain"),
        ({"calibration": "maps.npy"}, "calibration"),
    ],
)
def test_wrong_settings_are_named(change, named):
    fields = {**vars(EMCCD), **change}
    with pytest.raises(SettingsError, match=named):
        CameraSettings(**fields)


def test_wrong_maps_are_refused(tmp_path):
    def build(path):
        return Camera.build(CameraSettings("scmos", calibration=str(path)))

    with pytest.raises(EmitterError, match="no camera calibration"):
        build(tmp_path / "none.npy")
    (tmp_path / "text.npy").write_text("nothing")
    with pytest.raises(EmitterError, match="cannot be read"):
        build(tmp_path / "text.npy")
    np.save(tmp_path / "flat.npy", np.ones((4, 4)))
    with pytest.raises(EmitterError, match="has shape"):
        build(tmp_path / "flat.npy")
    np.save(tmp_path / "zero.npy", np.zeros((3, 4, 4)))
    with pytest.raises(EmitterError, match="gains of 0"):
        build(tmp_path / "zero.npy")
