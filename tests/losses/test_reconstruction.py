"""Reconstruction against rendering, finite differences, the Poisson law, and its minimum at the truth."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import poisson

from emitter.core import channels as ch
from emitter.core.channels import Scaling
from emitter.core.decoding import Thresholds, decode
from emitter.core.emitters import Emitters
from emitter.core.errors import SettingsError
from emitter.core.units import PixelSize
from emitter.losses.base import Truth
from emitter.losses.reconstruction import (
    ERRORS,
    NATS,
    ReconstructionSettings,
    decoded_frames,
    expected_frames,
    reconstruction_loss,
)
from emitter.psf import build, render
from emitter.psf.gaussian import AstigmaticSettings, GaussianPSF
from emitter.psf.spline import SplinePSF
from emitter.simulation.camera import Camera, CameraSettings
from emitter.simulation.settings import SimulationSettings
from emitter.simulation.simulator import Simulator

PSF = build(AstigmaticSettings(), PixelSize(100.0, 100.0))
IDEAL = Camera.build(CameraSettings("ideal"))
EMCCD = Camera.build(
    CameraSettings("emccd", em_gain=200, e_per_adu=10, quantum_efficiency=0.9, read_noise_e=60)
)
SIZE = (15, 18)
WITH_FRAMES = [error for error in ERRORS if error != "none"]


def spline() -> SplinePSF:
    """A spline through the astigmatic model: its samples at the pixels' corners, 50 nm apart in z."""
    z = torch.arange(-500.0, 501.0, 50.0)
    half = torch.full_like(z, 0.5)
    samples = PSF.patches(half, half, z)  # pixels' centres half a pixel before the emitter
    return SplinePSF.from_samples(samples.numpy()[:, :-1, :-1], -500.0, 50.0)


def truth(n: int = 6, cell_px: float = 1.0, n_images: int = 2) -> Truth:
    """Emitters in the middle of their own cells and of the frame, on a sloping background."""
    g = torch.Generator().manual_seed(4)
    place = torch.randperm(9 * 12, generator=g)[:n]
    x, y = place % 12 + 3 + 0.2 + 0.6 * torch.rand(n, generator=g), place // 12 + 3 + 0.5
    z, photons = torch.rand(n, generator=g) * 700 - 350, 1500 + 2000 * torch.rand(n, generator=g)
    emitters = Emitters(n_images, torch.arange(n) % n_images, x, y, z, photons)
    background = torch.linspace(20, 60, n_images * SIZE[0] * SIZE[1]).view(n_images, *SIZE)
    return Truth(emitters, background, Scaling(), cell_px)


def certain(t: Truth) -> torch.Tensor:
    """The target maps with probabilities of 0 and 1 as logits."""
    maps = t.targets().maps_B6HW.clone()
    maps[:, ch.P] = (maps[:, ch.P] - 0.5) * 100
    return maps


def frames(t: Truth, psf=PSF) -> torch.Tensor:
    return render(psf, t.emitters, *SIZE) + t.background_BHW


def loss(maps, t, observed, error="poisson", camera=IDEAL, psf=PSF, **settings) -> torch.Tensor:
    settings = ReconstructionSettings(error, **settings)
    return reconstruction_loss(maps, t, observed, psf, camera.noise_variance, settings)


@pytest.mark.parametrize("cell_px", [1.0, 0.5])
@pytest.mark.parametrize(
    "psf", [PSF, GaussianPSF(1.3, 1.2), spline()], ids=["astigmatic", "gaussian", "spline"]
)
def test_the_true_maps_give_the_rendered_truth_and_its_background(psf, cell_px):
    t = truth(cell_px=cell_px)
    found = expected_frames(certain(t), psf, t.scaling, ReconstructionSettings("mse"), SIZE, cell_px)
    torch.testing.assert_close(found, frames(t, psf), atol=2e-3, rtol=1e-4)


def test_coarse_cells_spread_their_background_over_their_pixels():
    t = truth(0, cell_px=4.0)
    found = expected_frames(certain(t), PSF, t.scaling, ReconstructionSettings("mse"), SIZE, 4.0)
    for row, column in [(0, 0), (7, 9), (14, 17)]:
        block = (
            slice(None),
            slice(row // 4 * 4, row // 4 * 4 + 4),
            slice(column // 4 * 4, column // 4 * 4 + 4),
        )
        expected = t.background_BHW[block].mean(dim=(1, 2))
        torch.testing.assert_close(found[:, row, column], expected, rtol=1e-4, atol=1e-3)


def test_a_probability_scales_the_light_and_sigma_channels_are_of_no_account():
    t = truth()
    maps, settings = certain(t), ReconstructionSettings("mse")
    half = maps.clone()
    half[:, ch.P] = torch.where(maps[:, ch.P] > 0, 0.0, -50.0)
    ten = torch.cat((half, torch.full((2, 4, *SIZE), 7.0)), dim=1)
    found = expected_frames(ten, PSF, t.scaling, settings, SIZE)
    expected = render(PSF, t.emitters, *SIZE) / 2 + t.background_BHW
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=1e-4)
    a, b = (decode(m, t.scaling, Thresholds()) for m in (maps, torch.cat((maps, ten[:, 6:]), dim=1)))
    assert torch.equal(a.x_px_N, b.x_px_N) and torch.equal(a.probability_N, b.probability_N)


def test_what_is_decoded_is_rendered_with_all_its_light_but_for_what_has_no_place():
    t = truth()
    maps = certain(t)
    likely = maps.clone()
    likely[:, ch.P] = torch.where(maps[:, ch.P] > 0, 1.0, -50.0)
    found = decode(likely, t.scaling, Thresholds())
    expected = render(PSF, t.emitters, *SIZE) + t.background_BHW
    torch.testing.assert_close(
        decoded_frames(found, likely, PSF, t.scaling, SIZE), expected, atol=2e-3, rtol=1e-4
    )
    nowhere = replace(found, x_px_N=torch.where(torch.arange(len(found)) == 0, math.nan, found.x_px_N))
    without = render(PSF, found.select(torch.arange(1, len(found))), *SIZE) + t.background_BHW
    torch.testing.assert_close(
        decoded_frames(nowhere, likely, PSF, t.scaling, SIZE), without, atol=2e-3, rtol=1e-4
    )


def test_only_the_brightest_cells_are_rendered():
    t = truth()
    found = expected_frames(
        certain(t), PSF, t.scaling, ReconstructionSettings("mse", max_cells=3), SIZE, t.cell_px
    )
    brightest = t.emitters.select(t.emitters.photons_N.argsort(descending=True)[:3])
    expected = render(PSF, brightest, *SIZE) + t.background_BHW
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=1e-4)


@pytest.mark.parametrize("psf", [PSF, spline()], ids=["astigmatic", "spline"])
@pytest.mark.parametrize("error", WITH_FRAMES)
def test_gradients_agree_with_finite_differences_in_every_channel(error, psf):
    t = truth()
    observed = torch.poisson(frames(t), generator=torch.Generator().manual_seed(1))
    g = torch.Generator().manual_seed(2)
    maps = certain(t)
    lit = maps[:, ch.P] > 0
    maps[:, ch.P] = torch.where(lit, 1.0, -50.0)
    maps[:, ch.PHOTONS :] += 0.2 * torch.randn(maps[:, ch.PHOTONS :].shape, generator=g)
    maps.requires_grad_()
    loss(maps, t, observed, error, EMCCD, psf).sum().backward()

    def total(m):
        return float(loss(m, t, observed, error, EMCCD, psf).double().sum())

    for channel in range(ch.N_CHANNELS):
        # along one random direction per channel: a sum that float32 resolves
        direction = torch.zeros_like(maps)
        direction[:, channel] = torch.randn(lit.shape, generator=g) * (lit | (channel == ch.BACKGROUND))
        step = 3e-3 if error == "l1" else 2e-2
        with torch.no_grad():
            numeric = (total(maps + step * direction) - total(maps - step * direction)) / (2 * step)
        analytic = float((maps.grad * direction).sum())
        assert abs(analytic) > 1e-3
        assert analytic == pytest.approx(numeric, rel=4e-2, abs=4e-3)


@pytest.mark.parametrize("camera", [IDEAL, EMCCD], ids=["ideal", "emccd"])
@pytest.mark.parametrize("error", WITH_FRAMES)
@pytest.mark.parametrize("channel", range(1, 6), ids=ch.CHANNELS[1:])
def test_the_truth_is_the_minimum_in_expectation(error, camera, channel):
    """Moving any true value either way costs more, averaged over noise; frames are a whole batch of one image."""
    n = 600
    one = Emitters(1, torch.zeros(1).long(), *(torch.tensor([v]) for v in (7.3, 8.6, 80.0, 2500.0)))
    t = Truth(one, torch.full((1, 15, 15), 30.0), Scaling())
    expected = render(PSF, one, 15, 15) + 30
    g = torch.Generator().manual_seed(3)
    noise = camera.noise_variance(expected).sqrt() * torch.randn(n, 15, 15, generator=g)
    observed = expected + noise if camera is EMCCD else torch.poisson(expected.expand(n, -1, -1), generator=g)
    many = Emitters(
        n, torch.arange(n), *(v.repeat(n) for v in (one.x_px_N, one.y_px_N, one.z_nm_N, one.photons_N))
    )
    t = replace(t, emitters=many, background_BHW=t.background_BHW.repeat(n, 1, 1))
    maps = certain(t)
    at_truth = loss(maps, t, observed, error, camera).double()
    for step in (-0.2, 0.2):
        moved = maps.clone()
        moved[:, channel] += step
        more = loss(moved, t, observed, error, camera).double() - at_truth
        assert float(more.mean()) > 3 * float(more.std()) / n**0.5


def test_the_likelihood_is_the_poisson_laws_to_second_order():
    """Flat frames of k photons: log-likelihood ratios of means near 200 against scipy's.

    The two derivatives by the mean m differ by (1 − (k − m)² / m) / 2m, of which the mean over k is 0.
    """
    k = torch.arange(140.0, 261.0)
    observed = k.view(-1, 1, 1).expand(-1, *SIZE)
    none = Emitters(len(k), torch.zeros(0).long(), *[torch.zeros(0)] * 4)

    def cost(mean: float) -> np.ndarray:
        t = Truth(none, torch.full((len(k), *SIZE), mean), Scaling())
        return loss(certain(t), t, observed).double().numpy() * NATS / (SIZE[0] * SIZE[1])

    k = k.double().numpy()
    likely = poisson.pmf(k, 200.0)
    for mean in (185.0, 195.0, 205.0, 215.0):
        ours = cost(mean) - cost(200.0)
        exact = poisson.logpmf(k, 200.0) - poisson.logpmf(k, mean)
        slope = np.maximum(*((1 + (k - m) ** 2 / m) / (2 * m) for m in (200.0, mean)))
        assert np.all(np.abs(ours - exact) < abs(mean - 200) * slope)
        assert (ours * likely).sum() == pytest.approx((exact * likely).sum(), rel=0.06)


def test_a_perfect_frame_costs_half_a_nat_per_pixel():
    t = truth()
    g = torch.Generator().manual_seed(5)
    noise = torch.randn(300, 2, *SIZE, generator=g) * EMCCD.noise_variance(frames(t)).sqrt()
    observed = frames(t) + noise
    cost = torch.stack([loss(certain(t), t, o, "mse", EMCCD) for o in observed]).mean()
    assert float(cost) == pytest.approx(0.5 * SIZE[0] * SIZE[1] / NATS, rel=0.02)
    cost = torch.stack([loss(certain(t), t, o, "poisson", EMCCD) for o in observed]).mean()
    assert float(cost) == pytest.approx(0.5 * SIZE[0] * SIZE[1] / NATS, rel=0.1)


def test_foreground_weighs_more_and_where_true_emitters_are():
    t = truth(1, n_images=1)
    observed = frames(t)
    plain, weighted = (
        loss(certain(t), t, observed + pixel, error, foreground_weight=7.0)
        for error in ("mse", "weighted")
        for pixel in (_pixel(int(t.emitters.y_px_N[0]), int(t.emitters.x_px_N[0])),)
    )
    assert float(weighted / plain) == pytest.approx(7.0, rel=1e-3)
    plain, weighted = (loss(certain(t), t, observed + _pixel(0, 0), e) for e in ("mse", "weighted"))
    assert float(weighted / plain) == pytest.approx(1.0, rel=1e-3)


def _pixel(row: int, column: int) -> torch.Tensor:
    error = torch.zeros(1, *SIZE)
    error[0, row, column] = 40.0
    return error


def test_windows_of_a_chip_with_maps_keep_to_their_own_image():
    maps_HW = torch.linspace(1, 8, 60 * 60).view(60, 60)
    chip = replace(IDEAL, kind="scmos", read_noise_e=maps_HW, baseline_adu=maps_HW, e_per_adu=maps_HW)
    t = truth()
    observed = torch.poisson(frames(t), generator=torch.Generator().manual_seed(1))
    places = torch.tensor([3, 40]), torch.tensor([7, 11])
    both = loss(certain(t), t, observed, camera=chip.windows(*places, *SIZE))
    for b in range(2):
        keep = t.emitters.select(t.emitters.image_N == b)
        alone = Truth(
            replace(keep, n_images=1, image_N=keep.image_N * 0), t.background_BHW[b : b + 1], Scaling()
        )
        window = chip.windows(places[0][b : b + 1], places[1][b : b + 1], *SIZE)
        cost = loss(certain(alone), alone, observed[b : b + 1], camera=window)
        torch.testing.assert_close(cost, both[b : b + 1])


@pytest.mark.parametrize("error", WITH_FRAMES)
@pytest.mark.parametrize(
    "psf", [PSF, GaussianPSF(1.3, 1.3), spline()], ids=["astigmatic", "gaussian", "spline"]
)
def test_extreme_maps_stay_finite_with_finite_gradients(error, psf):
    t = truth()
    observed = torch.poisson(frames(t))
    extremes = torch.tensor([[1e4, -1e6, 1e6, -1e6, 1e6, -1e6], [1e4, 1e9, -1e9, 1e9, -1e9, 1e9]])
    for dtype in (torch.float32, torch.bfloat16):
        maps = extremes[:, :, None, None].expand(2, 6, *SIZE).to(dtype).contiguous().requires_grad_()
        cost = loss(maps, t, observed, error, psf=psf)
        cost.sum().backward()
        assert cost.dtype == torch.float32 and torch.isfinite(cost).all()
        assert torch.isfinite(maps.grad).all()


@pytest.mark.parametrize("error", WITH_FRAMES)
def test_empty_predictions_and_dark_frames_are_finite(error):
    t = truth(0)
    for logit, observed in ((-1e4, frames(t)), (-1e4, 0 * frames(t)), (0.0, -5 + 0 * frames(t))):
        maps = torch.zeros(2, 6, *SIZE)
        maps[:, ch.P] = logit
        maps.requires_grad_()
        cost = loss(maps, t, observed, error)
        cost.sum().backward()
        assert torch.isfinite(cost).all() and torch.isfinite(maps.grad).all()


@pytest.mark.parametrize("error", WITH_FRAMES)
def test_a_background_below_zero_is_pushed_up(error):
    t = truth(0)
    maps = certain(t)
    maps[:, ch.BACKGROUND] = -3.0
    maps.requires_grad_()
    loss(maps, t, frames(t), error).sum().backward()
    assert (maps.grad[:, ch.BACKGROUND] < 0).all()


@pytest.mark.parametrize("psf", [PSF, spline()], ids=["astigmatic", "spline"])
def test_a_cell_that_is_not_a_number_breaks_nothing(psf):
    t = truth()
    maps = certain(t)
    maps[:, :, 4, 4] = float("nan")
    maps[:, ch.P, 4, 4] = 50.0
    maps[:, ch.BACKGROUND, 4, 4] = 1.0
    assert torch.isfinite(loss(maps, t, frames(t), psf=psf)).all()


def test_gradient_descent_on_the_frame_alone_finds_the_emitters():
    """From the right cells, but values off by tens of nm and a fifth of the photons, on one EMCCD sample."""
    settings = SimulationSettings(frame_size_px=SIZE, density_per_um2=(0.6, 0.6), z_range_nm=(-400, 400))
    sample = Simulator(settings, PSF, EMCCD).sample(1, torch.arange(4))
    t = Truth(sample.emitters, sample.background_IHW, Scaling())
    observed, start = sample.photons_BTHW[:, 1], certain(t)
    maps = start.clone()
    g = torch.Generator().manual_seed(0)
    maps[:, ch.PHOTONS :] += 0.3 * torch.randn(maps[:, ch.PHOTONS :].shape, generator=g)
    maps.requires_grad_()
    first = loss(maps, t, observed, camera=EMCCD).sum().detach()
    optimizer = torch.optim.Adam([maps], lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        cost = loss(maps, t, observed, camera=EMCCD).sum()
        cost.backward()
        optimizer.step()
    at_truth = loss(start, t, observed, camera=EMCCD).sum()
    assert float(cost.detach()) < float(at_truth) + 0.2 * float(first - at_truth)


def test_none_costs_nothing_and_renders_nothing():
    t = truth()
    cost = reconstruction_loss(certain(t), t, frames(t), None, None, ReconstructionSettings())
    assert torch.equal(cost, torch.zeros(2))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: ReconstructionSettings("l2"), "reconstruction.error is 'l2'"),
        (lambda: ReconstructionSettings(weight=0), "reconstruction.weight"),
        (lambda: ReconstructionSettings(weight=float("nan")), "reconstruction.weight"),
        (lambda: ReconstructionSettings(foreground_weight=0.5), "reconstruction.foreground_weight"),
        (lambda: ReconstructionSettings(p_min=1), "reconstruction.p_min"),
        (lambda: ReconstructionSettings(max_cells=0), "reconstruction.max_cells"),
    ],
)
def test_wrong_settings_are_named(make, named):
    with pytest.raises(SettingsError, match=named):
        make()
