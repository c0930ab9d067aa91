"""Refinement against a direct maximum of the posterior, and shares of the way with known answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from emitter.core import channels as ch
from emitter.core.channels import Scaling
from emitter.core.emitters import Emitters
from emitter.core.table import PRECISION_COLUMNS
from emitter.core.units import PixelSize
from emitter.inference.refine import DENSITY_KNOTS, Refiner, background, redescended, refined, values
from emitter.inference.refine_fit import fitted_gains
from emitter.inference.uncertainty import AXES, Uncertainty
from emitter.psf.base import PSF
from emitter.psf.gaussian import AstigmaticPSF, AstigmaticSettings, GaussianPSF

PIXEL = PixelSize.of(100.0)
PSF_3D = AstigmaticPSF(AstigmaticSettings(), PIXEL)
STD_4 = np.array([0.15, 0.15, 60.0, 300.0])  # px, px, nm, photons
BACKGROUND = 20.0
SIZE = 24
TRUE_N4 = np.array([[9.3, 10.8, -150.0, 3000.0], [12.1, 12.4, 220.0, 2200.0], [1.4, 20.6, 60.0, 1800.0]])


def emitters_at(values_N4: np.ndarray, image_N: list[int] | None = None) -> Emitters:
    values = torch.tensor(values_N4)
    n = len(values)
    image = torch.tensor(image_N or [0] * n)
    return Emitters(int(image.max()) + 1, image, *values.unbind(dim=1), torch.full((n,), BACKGROUND))


def expected(psf: PSF, values_N4: np.ndarray) -> np.ndarray:
    """One frame, patch by patch."""
    frame = np.full((SIZE, SIZE), BACKGROUND)
    r = psf.radius_px
    for x, y, z, photons in values_N4:
        column, row = int(np.floor(x)), int(np.floor(y))
        place = [torch.tensor([one], dtype=torch.float64) for one in (x - column - 0.5, y - row - 0.5, z)]
        patch = photons * psf.patches(*place)[0].numpy()
        for i in range(max(0, row - r), min(SIZE, row + r + 1)):
            for j in range(max(0, column - r), min(SIZE, column + r + 1)):
                frame[i, j] += patch[i - row + r, j - column + r]
    return frame


def poisson(photons: Tensor) -> Tensor:
    return photons


def most_probable(psf: PSF, frame: np.ndarray, start_N4: np.ndarray) -> np.ndarray:
    """Of Poisson counts with a Gaussian prior, by a search that knows no derivative."""

    def cost(u: np.ndarray) -> float:
        mean = expected(psf, start_N4 + STD_4 * u.reshape(-1, 4))
        return float((mean - frame * np.log(mean)).sum() + 0.5 * u @ u)

    best = minimize(cost, np.zeros(start_N4.size), method="BFGS", options={"gtol": 1e-3}).x
    return start_N4 + STD_4 * best.reshape(-1, 4)


def test_three_emitters_go_to_the_most_probable_places() -> None:
    rng = np.random.default_rng(0)
    frame = rng.poisson(expected(PSF_3D, TRUE_N4)).astype(float)
    start_N4 = TRUE_N4 + STD_4 * rng.normal(size=TRUE_N4.shape)
    direct_N4 = most_probable(PSF_3D, frame, start_N4)
    here = refined(
        PSF_3D,
        poisson,
        emitters_at(start_N4),
        torch.tensor(np.tile(STD_4, (3, 1))).float(),
        torch.tensor(frame[None]).float(),
        torch.full((1, SIZE, SIZE), BACKGROUND),
        steps=6,
    )
    away_N4 = (values(here).numpy() - direct_N4) / STD_4
    assert np.abs(away_N4).max() < 0.02
    assert np.abs(direct_N4 - start_N4).max() > 0.1  # there was a way to go


def test_images_do_not_know_of_each_other() -> None:
    frame = torch.tensor(expected(PSF_3D, TRUE_N4[:2])).float()
    start_N4 = TRUE_N4[:2] + 0.5 * STD_4
    std = torch.tensor(np.tile(STD_4, (2, 1))).float()
    flat = torch.full((2, SIZE, SIZE), BACKGROUND)
    alone = refined(PSF_3D, poisson, emitters_at(start_N4), std, frame[None], flat[:1])
    both = refined(
        PSF_3D,
        poisson,
        emitters_at(np.concatenate([start_N4] * 2), [0, 0, 1, 1]),
        torch.cat([std, std]),
        torch.stack([frame, torch.flip(frame, (0,))]),
        flat,
    )
    torch.testing.assert_close(values(both)[:2], values(alone), rtol=1e-4, atol=1e-3)


def test_what_has_no_spread_stays_and_nobody_is_lost_at_the_edge() -> None:
    start_N4 = np.array([[-0.4, 23.9, 0.0, -20.0], [24.3, -0.2, 700.0, 900.0]])
    std = torch.tensor([[0.1, 0.1, 0.0, 100.0]] * 2)
    frames = torch.full((1, SIZE, SIZE), BACKGROUND)
    here = refined(GaussianPSF(1.3, 1.3), poisson, emitters_at(start_N4), std, frames, frames)
    assert torch.isfinite(values(here)).all()
    torch.testing.assert_close(here.z_nm_N.float(), torch.tensor([0.0, 700.0]))
    assert (here.photons_N > 0).all()
    nobody = emitters_at(start_N4).select(torch.zeros(2, dtype=torch.bool))
    assert len(refined(PSF_3D, poisson, nobody, std[:0], frames, frames)) == 0


def test_a_refiner_without_gains_changes_nothing_and_with_them_goes_a_share() -> None:
    rng = np.random.default_rng(1)
    known = Uncertainty(PSF_3D, poisson, PIXEL, True)
    start_N4 = TRUE_N4 + 0.5 * STD_4
    here = emitters_at(start_N4)
    nm_4 = STD_4 * (100, 100, 1, 1)
    columns = {name: np.full(3, nm_4[k]) for k, name in enumerate(PRECISION_COLUMNS)}
    frames = torch.tensor(rng.poisson(expected(PSF_3D, TRUE_N4))[None]).float()
    flat = torch.full_like(frames, BACKGROUND)
    same, kept = Refiner(known, {}, {})(here, columns, frames, flat)
    torch.testing.assert_close(values(same), values(here))
    np.testing.assert_allclose(kept["precision_x_nm"], columns["precision_x_nm"])
    whole = Refiner(known, {}, {}).ways(here, columns, frames, flat)
    assert whole.abs().max() <= 1.0
    n_knots = len(DENSITY_KNOTS)
    half = Refiner(known, dict.fromkeys(AXES, (0.5,) * n_knots), dict.fromkeys(AXES, (0.8,) * n_knots))
    moved, narrower = half(here, columns, frames, flat)
    torch.testing.assert_close(
        values(moved) - values(here), 0.5 * whole * torch.tensor(STD_4).float(), rtol=1e-3, atol=1e-3
    )
    np.testing.assert_allclose(narrower["precision_z_nm"], 0.8 * nm_4[2])


def test_the_share_is_that_of_the_density_around() -> None:
    known = Uncertainty(PSF_3D, poisson, PIXEL, True)
    rng = np.random.default_rng(3)
    side_um = SIZE * 0.1  # less than what is looked at around an emitter
    n = round(side_um**2 * 1.0) + 1  # the others: about 1 per µm²
    crowd_N4 = np.column_stack([rng.uniform(0, SIZE, (n, 2)), np.zeros(n), np.full(n, 2000.0)])
    here = emitters_at(np.concatenate([crowd_N4, TRUE_N4[:1]]), [0] * n + [1])
    columns = {name: np.ones(n + 1) for name in PRECISION_COLUMNS}
    at_knots = Refiner(known, {}, dict.fromkeys(AXES, (0.1, 0.2, 0.4)))
    flat = torch.full((2, SIZE, SIZE), BACKGROUND)
    _, narrower = at_knots(here, columns, flat, flat)
    share = np.interp(np.log((n - 1) / side_um**2 + 1 / 16), DENSITY_KNOTS, (0.1, 0.2, 0.4))
    np.testing.assert_allclose(narrower["precision_x_nm"], [share] * n + [0.1])


def test_a_long_way_is_not_believed() -> None:
    short = torch.tensor([[0.5, -0.9, 0.0, 0.2], [1.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(redescended(short), short)
    longer = torch.tensor([[2.0, -1.0, 0.0, 0.5], [0.0, 2.5, 0.0, 0.0], [0.1, 0.1, 0.1, -3.0]])
    torch.testing.assert_close(
        redescended(longer), torch.tensor([[0.5, -0.25, 0.0, 0.125], [0.0, 0.25, 0.0, 0.0], [0.0] * 4])
    )


@pytest.mark.parametrize(("share", "expected_gain"), [(0.6, 0.6), (-0.3, 0.0), (1.7, 1.0), (0.0, 0.0)])
def test_the_share_is_what_the_errors_were_made_of(share: float, expected_gain: float) -> None:
    rng = np.random.default_rng(2)
    move_M = rng.normal(0, 0.7, 20_000)
    knots_MK = np.eye(2)[rng.integers(0, 2, len(move_M))]
    error_M = share * move_M + rng.normal(0, 0.8, len(move_M))
    gain_K, spread_K = fitted_gains(knots_MK, error_M, move_M)
    np.testing.assert_allclose(gain_K, expected_gain, atol=0.05)
    left = (error_M - expected_gain * move_M).std() / error_M.std()
    np.testing.assert_allclose(spread_K, left, atol=0.02)


def test_the_background_is_the_maps_own_for_every_pixel() -> None:
    maps = torch.zeros(1, ch.N_CHANNELS, 2, 3)
    maps[0, ch.BACKGROUND] = torch.arange(6.0).view(2, 3)
    pixels = background(maps, replace(Scaling(), background=10.0), 4, 6)
    torch.testing.assert_close(pixels[0, ::2, ::2], 10 * torch.arange(6.0).view(2, 3))
    torch.testing.assert_close(pixels[0, 1::2, 1::2], pixels[0, ::2, ::2])
