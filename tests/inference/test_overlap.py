"""Frames of emitters at random places, held against Campbell's theorem."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from emitter.inference.overlap import overlap

SIDE_PX, SIGMA_PX = 64, 1.3


def frames(seed: int, per_px: float, n: int = 150, photons: float = 1000.0) -> np.ndarray:
    """Spots in the middle of pixels, as many in a pixel as Poisson has it; a margin keeps edges from mattering."""
    rng = np.random.default_rng(seed)
    number = rng.poisson(per_px, (n, SIDE_PX + 16, SIDE_PX + 16)).astype(float)
    wide = gaussian_filter(number, (0, SIGMA_PX, SIGMA_PX), mode="constant")
    return photons * wide[:, 8:-8, 8:-8]


def test_it_is_as_the_cumulants_of_gaussian_spots_have_it() -> None:
    """Of equal spots: second³ / third² = density × (Σ s₁s₂)³ / (Σ s₁s₂s₃)², which without the subtraction of the local
    mean, and for pixels small against the spot, is density × 9π σ² / 4 in the middle of it."""
    per_px = 0.05
    rows = np.arange(-12, 13)
    spot = np.exp(-(rows[:, None] ** 2 + rows**2) / (2 * SIGMA_PX**2))
    spot /= spot.sum()
    spot -= sum(np.roll(spot, (i, j), (0, 1)) for i in range(-7, 8) for j in range(-7, 8)) / 15**2
    second = (spot * np.roll(spot, 1, 0)).sum()
    third = (spot * np.roll(spot, 1, 0) * np.roll(spot, 1, 1)).sum()
    assert overlap(frames(1, per_px)) == pytest.approx(per_px * second**3 / third**2, rel=0.1)


def test_it_grows_as_the_density_and_neither_photons_background_nor_noise_matter() -> None:
    sparse, dense = (overlap(frames(2, per_px)) for per_px in (0.02, 0.2))
    assert dense / sparse == pytest.approx(10, rel=0.15)
    rng = np.random.default_rng(3)
    slope = np.linspace(0, 300, SIDE_PX)
    noisy = rng.poisson(frames(2, 0.2, photons=3000.0) + 500 + slope)
    assert overlap(noisy) == pytest.approx(dense, rel=0.1)


@pytest.mark.parametrize("shape", [(40, 64, 64), (1, 64, 64), (40, 8, 64), (0, 64, 64)])
def test_of_noise_alone_and_of_hardly_a_pixel_nothing_is_told(shape: tuple[int, ...]) -> None:
    assert math.isnan(overlap(np.random.default_rng(0).poisson(100, shape)))
    assert math.isnan(overlap(np.full(shape, 7.0)))
