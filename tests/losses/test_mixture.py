"""Mixture: value and gradient against the likelihood written out over all cells, finite differences, and limits."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm

from emitter.core import channels as ch
from emitter.core.channels import SIGMA_FLOOR, Scaling
from emitter.core.emitters import Emitters
from emitter.core.errors import SettingsError
from emitter.losses.base import Truth
from emitter.losses.detection.bce import BCESettings
from emitter.losses.mixture import Mixture, MixtureSettings

SIDE = 10
EPS = 1e-4
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def random_emitters(n: int, n_images: int = 2) -> Emitters:
    x, y, z, photons = torch.rand(4, n, generator=torch.Generator().manual_seed(0))
    return Emitters(
        n_images, torch.arange(n) % n_images, x * SIDE, y * SIDE, z * 800 - 400, 200 + photons * 2000
    )


def random_maps(scale: float = 1.0, side: int = SIDE) -> torch.Tensor:
    return torch.randn(2, 10, side, side, generator=torch.Generator().manual_seed(1)) * scale


def loss_of(maps: torch.Tensor, e: Emitters, window: int = 3, cell_px: float = 1.0) -> torch.Tensor:
    truth = Truth(e, torch.full((e.n_images, SIDE, SIDE), 40.0), Scaling(), cell_px)
    return Mixture(MixtureSettings(window))(maps, truth, 0.0)


def target(e: Emitters, i: int, row: int, column: int) -> list[float]:
    """Scaled photons, x, y, z of emitter i in a cell of one pixel."""
    x, y = float(e.x_px_N[i]), float(e.y_px_N[i])
    return [
        float(e.photons_N[i]) / 1000,
        (x - column - 0.5) / 0.5,
        (y - row - 0.5) / 0.5,
        float(e.z_nm_N[i]) / 300,
    ]


def by_loops(maps: np.ndarray, e: Emitters, radius: int) -> np.ndarray:
    """Negative log-likelihood and background error of each image, with scipy's normal density."""
    total = []
    for image, m in enumerate(maps):
        p = 1 / (1 + np.exp(-m[0]))
        mine = [i for i in range(len(e)) if int(e.image_N[i]) == image]
        variance = (p * (1 - p)).sum() + EPS
        value = -norm.logpdf(len(mine), p.sum(), math.sqrt(variance)) - HALF_LOG_2PI
        for i in mine:
            own_row, own_column = int(e.y_px_N[i]), int(e.x_px_N[i])
            likelihood = 0.0
            for row in range(max(own_row - radius, 0), min(own_row + radius + 1, SIDE)):
                for column in range(max(own_column - radius, 0), min(own_column + radius + 1, SIDE)):
                    sigma = np.log1p(np.exp(m[6:, row, column])) + SIGMA_FLOOR
                    density = norm.pdf(target(e, i, row, column), m[1:5, row, column], sigma)
                    likelihood += p[row, column] / (p.sum() + EPS) * density.prod()
            value -= math.log(likelihood)
        total.append(value + ((m[5] - 40 / 22) ** 2).mean())
    return np.array(total)


def dense(maps: torch.Tensor, e: Emitters, radius: int) -> torch.Tensor:
    """The same over all cells at once, far ones masked, for autograd."""
    total = maps.new_zeros(())
    index = torch.arange(SIDE)
    for image, m in enumerate(maps):
        p = m[0].sigmoid()
        n = int((e.image_N == image).sum())
        variance = (p * (1 - p)).sum() + EPS
        total = total + 0.5 * (n - p.sum()) ** 2 / variance + 0.5 * variance.log()
        total = total + ((m[5] - 40 / 22) ** 2).mean()
        for i in (e.image_N == image).nonzero()[:, 0].tolist():
            x, y = e.x_px_N[i].double(), e.y_px_N[i].double()
            dx, dy = ((x - index - 0.5) / 0.5).expand(SIDE, SIDE), ((y - index - 0.5) / 0.5)[:, None]
            values = (e.photons_N[i] / 1000, dx, dy, e.z_nm_N[i] / 300)
            joint = m[0].sigmoid().log() - (p.sum() + EPS).log()
            for c, value in enumerate(values):
                sigma = torch.nn.functional.softplus(m[6 + c]) + SIGMA_FLOOR
                joint = joint + torch.distributions.Normal(m[1 + c], sigma).log_prob(
                    torch.as_tensor(value).double().expand(SIDE, SIDE)
                )
            near = ((index - int(x)).abs() <= radius) & ((index - int(y)).abs() <= radius)[:, None]
            total = total - joint[near].logsumexp(0)
    return total


@pytest.mark.parametrize("window", [3, 5])
@pytest.mark.parametrize("n", [0, 1, 12, 60])
def test_the_parts_add_up_to_the_likelihood(window, n):
    maps, e = random_maps(), random_emitters(n)
    expected = by_loops(maps.double().numpy(), e, window // 2)
    assert loss_of(maps, e, window).sum(dim=1).numpy() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("window", [3, 5])
@pytest.mark.parametrize("n", [0, 1, 12, 60])
def test_the_gradient_is_that_of_the_likelihood(window, n):
    maps, e = random_maps(), random_emitters(n)
    ours, theirs = maps.clone().requires_grad_(), maps.double().requires_grad_()
    loss_of(ours, e, window).sum().backward()
    dense(theirs, e, window // 2).backward()
    assert torch.allclose(ours.grad.double(), theirs.grad, rtol=1e-3, atol=1e-4)


def test_the_gradient_is_that_of_finite_differences():
    maps, e = random_maps(), random_emitters(8)
    ours = maps.clone().requires_grad_()
    loss_of(ours, e).sum().backward()
    used = (ours.grad.abs() > 0.01).nonzero()
    g = torch.Generator().manual_seed(0)
    for place in used[torch.randint(len(used), (20,), generator=g)].tolist():
        step = np.zeros(maps.shape)
        step[tuple(place)] = 1e-4
        up, down = (by_loops(maps.double().numpy() + sign * step, e, 1).sum() for sign in (1, -1))
        assert (up - down) / 2e-4 == pytest.approx(float(ours.grad[tuple(place)]), rel=1e-3, abs=1e-3)


def test_one_emitter_in_one_certain_cell_is_split_by_channel():
    """p of one cell is 1, of the others 0: each channel's part is its own −log N, and p's is the count alone."""
    e = Emitters(1, torch.tensor([0]), *torch.tensor([[5.7], [6.2], [150.0], [1500.0]]))
    maps = torch.zeros(1, 10, SIDE, SIDE)
    maps[:, ch.P] = -40.0
    maps[0, :, 6, 5] = torch.tensor([40.0, 1.2, 0.1, -0.5, 0.0, 2.0, 0.0, 0.5, -0.5, 1.0])
    sigma = [math.log1p(math.exp(raw)) + SIGMA_FLOOR for raw in (0.0, 0.5, -0.5, 1.0)]
    values = -norm.logpdf(target(e, 0, 6, 5), [1.2, 0.1, -0.5, 0.0], sigma)
    parts = loss_of(maps, e)[0]
    assert parts[1:5].tolist() == pytest.approx(values.tolist(), rel=1e-4)
    assert float(parts[0]) == pytest.approx(0.5 * math.log(EPS), abs=1e-3)


def test_an_empty_frame_lowers_p():
    maps = random_maps().requires_grad_()
    parts = loss_of(maps, random_emitters(0))
    parts.sum().backward()
    with torch.no_grad():
        lower = maps - maps.grad / maps.grad.abs().max()
    assert maps.grad[:, ch.P].sum() > 0 and (parts[:, 1:5] == 0).all()
    assert (lower[:, ch.P].sigmoid().sum(dim=(1, 2)) < maps[:, ch.P].sigmoid().sum(dim=(1, 2))).all()


def test_two_emitters_of_one_cell_are_both_explained():
    e = Emitters(
        1, torch.zeros(2).long(), *torch.tensor([[5.3, 5.8], [5.5, 5.6], [-200, 300], [900.0, 2000.0]])
    )
    maps = (random_maps()[:1] * 0.1).requires_grad_()
    optimizer = torch.optim.Adam([maps], lr=0.05)
    for _ in range(800):
        optimizer.zero_grad()
        loss_of(maps, e).sum().backward()
        optimizer.step()
    p = maps[0, ch.P].sigmoid().detach()
    photons = maps[0, ch.PHOTONS].detach() * 1000
    assert float(p.sum()) == pytest.approx(2, abs=0.2)
    for true in (900, 2000):
        assert float(p[(photons - true).abs() < 60].sum()) == pytest.approx(1, abs=0.3)


def test_the_order_of_the_emitters_does_not_matter_and_images_are_independent():
    e, maps = random_emitters(25), random_maps()
    order = torch.randperm(25, generator=torch.Generator().manual_seed(0))
    parts = loss_of(maps, e)
    assert torch.allclose(parts, loss_of(maps, e.select(order)), rtol=1e-4, atol=1e-4)
    alone = replace(e.select(e.image_N == 0), n_images=1)
    assert torch.allclose(parts[:1], loss_of(maps[:1], alone), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cell_px", [4, 2, 1, 0.5])
@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("n", [0, 1, 1000])
def test_extremes_are_finite(cell_px, scale, n):
    maps = random_maps(scale, math.ceil(SIDE / cell_px)).bfloat16().requires_grad_()
    parts = loss_of(maps, random_emitters(n), 3, cell_px)
    parts.sum().backward()
    assert parts.dtype == torch.float32 and parts.shape == (2, 6) and torch.isfinite(parts).all()
    assert torch.isfinite(maps.grad).all()


@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_a_map_that_is_sure_everywhere_is_finite(logit):
    maps = random_maps()
    maps[:, ch.P] = logit
    maps.requires_grad_()
    parts = loss_of(maps, random_emitters(20))
    parts.sum().backward()
    assert torch.isfinite(parts).all() and torch.isfinite(maps.grad).all()


def test_wrong_settings_are_named_and_right_ones_build_the_loss():
    with pytest.raises(SettingsError, match="window_cells"):
        MixtureSettings(window_cells=4)
    assert MixtureSettings().build(BCESettings()).n_maps == 10 and MixtureSettings.own_detection
