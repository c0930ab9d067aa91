"""Set matching: the plan against the Hungarian algorithm and a dense Sinkhorn, the loss against values by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from emitter.core import channels as ch
from emitter.core.candidates import candidates
from emitter.core.channels import Scaling
from emitter.core.emitters import Emitters
from emitter.core.errors import SettingsError
from emitter.losses.base import Truth
from emitter.losses.detection.bce import BCESettings
from emitter.losses.set_matching import SetMatching, SetMatchingSettings, transport_plan

SIDE = 12
SETTINGS = SetMatchingSettings()


def random_emitters(n: int, n_images: int = 2, seed: int = 0) -> Emitters:
    g = torch.Generator().manual_seed(seed)
    x, y, z, photons = torch.rand(4, n, generator=g)
    return Emitters(
        n_images, torch.arange(n) % n_images, x * SIDE, y * SIDE, z * 800 - 400, 200 + photons * 2000
    )


def truth_of(e: Emitters, cell_px: float = 1.0) -> Truth:
    return Truth(e, torch.full((e.n_images, SIDE, SIDE), 40.0), Scaling(), cell_px)


def random_maps(n_images: int = 2, scale: float = 1.0, side: int = SIDE) -> torch.Tensor:
    return torch.randn(n_images, 6, side, side, generator=torch.Generator().manual_seed(1)) * scale


def loss_of(maps: torch.Tensor, e: Emitters, settings: SetMatchingSettings = SETTINGS) -> torch.Tensor:
    return SetMatching(settings)(maps, truth_of(e), 0.0)


def plan_of(e: Emitters, settings: SetMatchingSettings, scale: float = 1.0, seed: int = 0):
    """A random problem: pairs, costs, logits, the plan (M,), and both as (emitters, cells) with inf and 0 elsewhere."""
    g = torch.Generator().manual_seed(seed)
    pairs = candidates(e, SIDE, SIDE, Scaling()).within(1.5)
    cost = torch.rand(len(pairs), generator=g) * 5 * scale
    logits = (torch.randn(pairs.n_cells, generator=g) * scale)[pairs.cell_M]
    plan = transport_plan(pairs, cost, logits, settings)
    dense_difference = np.full((len(pairs.emitters), pairs.n_cells), np.inf)
    dense_plan = np.zeros_like(dense_difference)
    place = pairs.emitter_M.numpy(), pairs.cell_M.numpy()
    dense_difference[place] = (cost - logits).numpy()
    dense_plan[place] = plan.numpy()
    return dense_difference, dense_plan


def dense_sinkhorn(difference: np.ndarray, epsilon: float) -> np.ndarray:
    """Of emitters and the none row against all cells, with all constraints, to convergence."""
    n, cells = difference.shape
    kernel = np.exp(np.vstack((-difference, np.zeros((1, cells)))) / epsilon)
    mass, v = np.append(np.ones(n), cells - n), np.ones(cells)
    for _ in range(20000):
        u = mass / (kernel @ v)
        v = 1 / (u @ kernel)
    return (u[:, None] * kernel * v)[:n]


@pytest.mark.parametrize("epsilon", [0.2, 0.5, 1.0])
def test_the_plan_is_that_of_a_dense_sinkhorn(epsilon):
    difference, plan = plan_of(random_emitters(14), SetMatchingSettings(epsilon=epsilon))
    assert np.abs(plan - dense_sinkhorn(difference, epsilon)).max() < 0.02
    difference, plan = plan_of(random_emitters(14), SetMatchingSettings(epsilon=epsilon, iterations=200))
    assert np.abs(plan - dense_sinkhorn(difference, epsilon)).max() < 1e-3


@pytest.mark.parametrize("seed", range(6))
def test_a_small_epsilon_gives_the_best_assignment(seed):
    e = random_emitters(30, seed=seed)
    difference, plan = plan_of(e, SetMatchingSettings(epsilon=0.05, iterations=60), seed=seed)
    rows, columns = linear_sum_assignment(np.where(np.isinf(difference), 1e6, difference))
    best = difference[rows, columns].sum()
    assert (np.where(plan > 0, difference, 0) * plan).sum() == pytest.approx(best, abs=0.05 * len(rows))
    assert (plan[rows, columns] > 0.5).mean() > 0.9


@given(n=st.integers(0, 20), seed=st.integers(0, 100), scale=st.sampled_from([0.1, 1.0, 5.0]))
def test_emitters_and_cells_have_their_masses(n, seed, scale):
    _, plan = plan_of(random_emitters(n, seed=seed), SETTINGS, scale, seed)
    mass = plan.sum(axis=1)
    assert (plan.sum(axis=0) <= 1 + 1e-5).all() and (mass <= 1.01).all()
    assert n == 0 or mass.mean() > 0.9


@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0, 100.0])
@pytest.mark.parametrize("epsilon", [0.05, 0.2, 1.0])
def test_an_emitter_alone_has_its_mass_whatever_the_costs(scale, epsilon):
    for seed in range(30):
        _, plan = plan_of(random_emitters(1, seed=seed), SetMatchingSettings(epsilon=epsilon), scale, seed)
        assert float(plan.sum()) == pytest.approx(1, abs=0.01)


def test_emitters_more_than_cells_fill_every_cell():
    e = random_emitters(1000, n_images=1)
    crowd = replace(e, x_px_N=5.2 + 0 * e.x_px_N, y_px_N=5.6 + 0 * e.y_px_N)
    _, plan = plan_of(crowd, SETTINGS)
    taken = plan.sum(axis=0)
    reached = candidates(crowd, SIDE, SIDE, Scaling()).within(1.5).cell_M.unique().numpy()
    assert np.isfinite(plan).all() and taken.max() <= 1 + 1e-5 and taken[reached].min() > 0.99


def test_one_emitter_by_hand():
    """Its own cell is much the best: the plan is 1 there, so the loss can be written out."""
    e = Emitters(1, torch.tensor([0]), *torch.tensor([[5.7], [6.2], [150.0], [1500.0]]))
    maps = torch.zeros(1, 6, SIDE, SIDE)
    maps[:, ch.P] = -3.0
    maps[:, ch.PHOTONS] = 30.0
    maps[0, :, 6, 5] = torch.tensor([4.0, 1.2, 0.1, -0.5, 0.0, 2.0])
    loss = SetMatching(SETTINGS)
    log_sigma = [0.1, -0.2, 0.3, -0.4]
    loss.slow_log_sigma.data = torch.tensor(log_sigma) / 10
    delta = [1.2 - 1.5, 0.1 - 0.4, -0.5 + 0.6, 0.0 - 0.5]
    values = [0.5 * (d / math.exp(s)) ** 2 + s for d, s in zip(delta, log_sigma, strict=True)]
    p = math.log1p(math.exp(-4)) + (SIDE**2 - 1) * math.log1p(math.exp(-3))
    background = ((2 - 40 / 22) ** 2 + (SIDE**2 - 1) * (40 / 22) ** 2) / SIDE**2
    parts = loss(maps, truth_of(e), 0.0)
    assert parts[0].tolist() == pytest.approx([p, *values, background], abs=2e-3)


def perfect_maps(e: Emitters) -> torch.Tensor:
    pairs = candidates(e, SIDE, SIDE, Scaling(), radius_cells=0)
    maps = torch.zeros(e.n_images, SIDE, SIDE, 6)
    maps[..., ch.P] = -12.0
    maps[..., ch.BACKGROUND] = 40 / 22
    flat = maps.view(-1, 6)
    flat[pairs.cell_M, ch.P] = 12.0
    flat[pairs.cell_M[:, None], torch.tensor(ch.REGRESSION)] = pairs.values_M4
    return maps.permute(0, 3, 1, 2).contiguous()


@pytest.fixture
def apart() -> Emitters:
    """Six emitters, no two of which reach the same cell."""
    x = torch.tensor([1.3, 5.5, 9.8, 2.1, 6.9, 10.2])
    y = torch.tensor([2.2, 1.6, 3.9, 8.1, 9.5, 10.7])
    return Emitters(
        1, torch.zeros(6).long(), x, y, torch.linspace(-300, 300, 6), torch.linspace(300, 3000, 6)
    )


def test_a_perfect_prediction_is_a_minimum(apart):
    maps = perfect_maps(apart).requires_grad_()
    parts = loss_of(maps, apart)
    parts.sum().backward()
    assert parts.abs().max() < 0.05 and maps.grad.abs().max() < 0.02
    for seed in range(5):
        g = torch.Generator().manual_seed(seed)
        moved = maps.detach() + 0.1 * torch.randn(maps.shape, generator=g)
        assert loss_of(moved, apart).sum() > parts.sum()


def test_the_gradient_moves_towards_the_truth(apart):
    perfect = perfect_maps(apart)
    maps = (perfect + 0.5).requires_grad_()
    loss_of(maps, apart).sum().backward()
    cell = candidates(apart, SIDE, SIDE, Scaling(), radius_cells=0).cell_M
    at_emitters = maps.grad.permute(0, 2, 3, 1).reshape(-1, 6)[cell]
    assert (at_emitters[:, ch.REGRESSION] > 0.4).all()
    logits = torch.zeros_like(perfect).requires_grad_()
    loss_of(logits, apart).sum().backward()
    p = logits.grad[:, ch.P].flatten()
    assert float(p.sum()) == pytest.approx(0.5 * SIDE**2 - 6, abs=0.1)  # Σ (sigmoid(s) − mass)


def test_the_gradient_is_that_of_the_fixed_plan_by_finite_differences():
    e = random_emitters(8)
    loss, maps = SetMatching(SETTINGS), random_maps().requires_grad_()
    loss(maps, truth_of(e), 0.0).sum().backward()
    pairs = candidates(e, SIDE, SIDE, Scaling()).within(1.5)
    at = pairs.predicted(maps.detach())
    cost = 0.5 * (at[:, ch.REGRESSION] - pairs.values_M4) ** 2
    plan = transport_plan(pairs, cost.sum(dim=1), at[:, ch.P], SETTINGS).double()

    def with_fixed_plan(m: torch.Tensor, log_sigma: torch.Tensor) -> float:
        at, all_logits = pairs.predicted(m), m[:, ch.P]
        cost = 0.5 * ((at[:, ch.REGRESSION] - pairs.values_M4) / log_sigma.exp()) ** 2 + log_sigma
        softplus = torch.nn.functional.softplus
        none = torch.ones(pairs.n_cells).double().index_add(0, pairs.cell_M, -plan)
        matched = (plan * (cost.sum(dim=1) + softplus(-at[:, ch.P]))).sum()
        unmatched = (none * softplus(all_logits.flatten())).sum()
        return float(matched + unmatched + ((m[:, ch.BACKGROUND] - 40 / 22) ** 2).mean(dim=(1, 2)).sum())

    double, zero = maps.detach().double(), torch.zeros(4).double()
    used = (maps.grad != 0).nonzero()
    g = torch.Generator().manual_seed(3)
    for place in used[torch.randint(len(used), (60,), generator=g)].tolist():
        step = torch.zeros_like(double)
        step[tuple(place)] = 1e-4
        numeric = (with_fixed_plan(double + step, zero) - with_fixed_plan(double - step, zero)) / 2e-4
        assert numeric == pytest.approx(float(maps.grad[tuple(place)]), abs=1e-4, rel=1e-4)
    for c in range(4):
        step = torch.zeros(4).double()
        step[c] = 1e-4
        numeric = (with_fixed_plan(double, step) - with_fixed_plan(double, -step)) / 2e-4
        assert numeric == pytest.approx(float(loss.slow_log_sigma.grad[c]) / 10, rel=1e-3)


def test_two_emitters_of_one_cell_are_learned_as_two():
    e = Emitters(
        1, torch.zeros(2).long(), *torch.tensor([[5.3, 5.8], [5.5, 5.6], [-200, 300], [900.0, 2000.0]])
    )
    maps = (random_maps(1) * 0.1).requires_grad_()
    optimizer = torch.optim.Adam([maps], lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        loss_of(maps, e).sum().backward()
        optimizer.step()
    found = (maps[0, ch.P] > 0).nonzero()
    assert len(found) == 2
    place = maps[0, :, found[:, 0], found[:, 1]].T.detach()
    photons = sorted((place[:, ch.PHOTONS] * 1000).tolist())
    x = sorted((found[:, 1] + 0.5 + place[:, ch.X] * 0.5).tolist())
    assert photons == pytest.approx([900, 2000], abs=20) and x == pytest.approx([5.3, 5.8], abs=0.02)


def test_sigma_learns_the_error_and_stops_at_its_floor_where_z_is_always_zero(apart):
    flat = replace(apart, z_nm_N=torch.zeros(6))
    maps = perfect_maps(flat)
    maps[:, ch.X] += 0.3
    loss = SetMatching(SETTINGS)
    optimizer = torch.optim.Adam(loss.parameters(), lr=4e-3)  # the default of a training
    for _ in range(150):  # of its steps; fewer than a short run's last third has
        optimizer.zero_grad()
        loss(maps, truth_of(flat), 0.0).sum().backward()
        optimizer.step()
    assert float(loss.log_sigma[1].detach().exp()) == pytest.approx(0.3, rel=0.05)
    assert torch.isfinite(loss.log_sigma).all()
    assert float(loss(maps, truth_of(flat), 0.0)[0, ch.Z].detach()) == pytest.approx(
        6 * math.log(0.03), rel=0.01
    )


def test_the_order_of_the_emitters_does_not_matter():
    e, maps = random_emitters(25), random_maps()
    order = torch.randperm(25, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(loss_of(maps, e), loss_of(maps, e.select(order)), atol=1e-3)


def test_an_image_does_not_depend_on_the_others():
    e, maps = random_emitters(25), random_maps()
    first = e.select(e.image_N == 0)
    alone = replace(first, n_images=1)
    assert torch.allclose(loss_of(maps, e)[:1], loss_of(maps[:1], alone), atol=1e-3)


def test_an_empty_frame_lowers_every_p():
    maps = random_maps().requires_grad_()
    loss = SetMatching(SETTINGS)
    parts = loss(maps, truth_of(random_emitters(0)), 0.0)
    parts.sum().backward()
    assert torch.allclose(maps.grad[:, ch.P], torch.sigmoid(maps[:, ch.P]), atol=1e-6)
    assert (parts[:, list(ch.REGRESSION)] == 0).all() and (loss.slow_log_sigma.grad == 0).all()


@pytest.mark.parametrize("cell_px", [4, 2, 1, 0.5])
@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("n", [0, 1, 1000])
def test_extremes_are_finite(cell_px, scale, n):
    loss = SetMatching(SETTINGS)
    side = math.ceil(SIDE / cell_px)
    maps = random_maps(2, scale, side).bfloat16().requires_grad_()
    parts = loss(maps, truth_of(random_emitters(n), cell_px), 0.5)
    parts.sum().backward()
    assert parts.dtype == torch.float32 and parts.shape == (2, 6) and torch.isfinite(parts).all()
    assert torch.isfinite(maps.grad).all() and torch.isfinite(loss.slow_log_sigma.grad).all()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"epsilon": 0.0}, "epsilon"), ({"iterations": 0}, "iterations"), ({"reach_cells": 0.5}, "reach_cells")],
)
def test_wrong_settings_are_named(wrong, named):
    with pytest.raises(SettingsError, match=named):
        SetMatchingSettings(**wrong)


def test_settings_build_the_loss():
    assert isinstance(SETTINGS.build(BCESettings()), SetMatching) and SETTINGS.own_detection
