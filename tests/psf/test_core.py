"""Smaller patches: the inner pixels of the larger ones, and how many of them hold the light."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from emitter.core.units import PixelSize
from emitter.psf import PSF, build
from emitter.psf.core import core
from emitter.psf.gaussian import AstigmaticSettings, GaussianSettings
from emitter.psf.spline import SplinePSF
from tests.psf.test_spline import spline_of_astigmatic

PIXEL = PixelSize.of(100.0)
MODELS = [
    build(GaussianSettings(), PIXEL),
    build(AstigmaticSettings(a_x=0.05), PIXEL),
    spline_of_astigmatic(radius_px=7)[0],
]
WHERE = [torch.linspace(*ends, 30) for ends in ((-0.5, 0.5), (0.4, -0.4), (-600.0, 600.0))]


@pytest.mark.parametrize("psf", MODELS)
@pytest.mark.parametrize("radius_px", [1, 3, 4])
def test_within_is_the_middle_of_the_patch(psf: PSF, radius_px: int) -> None:
    inner, rim = psf.within(radius_px), psf.radius_px - radius_px
    assert inner.radius_px == radius_px
    for whole, part in zip(psf.derivatives(*WHERE), inner.derivatives(*WHERE), strict=True):
        torch.testing.assert_close(part, whole[..., rim:-rim, rim:-rim])
    torch.testing.assert_close(inner.patches(*WHERE), psf.patches(*WHERE)[:, rim:-rim, rim:-rim])


@pytest.mark.parametrize("psf", MODELS)
@pytest.mark.parametrize("more_px", [0, 3])
def test_within_more_than_its_own_patch_is_the_same(psf: PSF, more_px: int) -> None:
    same = psf.within(psf.radius_px + more_px)
    assert same.radius_px == psf.radius_px
    torch.testing.assert_close(same.patches(*WHERE), psf.patches(*WHERE))


@pytest.mark.parametrize("psf", MODELS)
@pytest.mark.parametrize("share", [0.5, 0.9, 0.98])
def test_the_core_holds_the_share_and_one_pixel_less_does_not(psf: PSF, share: float) -> None:
    inner = core(psf, share)
    z_nm = torch.linspace(*psf.z_range_nm, 101)

    def least_light(one: PSF) -> float:
        shares = []
        for x_px, y_px in ((0.0, 0.0), (0.5, -0.5), (0.3, 0.1)):
            where = torch.full_like(z_nm, x_px), torch.full_like(z_nm, y_px), z_nm
            shares.append(one.patches(*where).sum(dim=(1, 2)) / psf.patches(*where).sum(dim=(1, 2)))
        return float(torch.cat(shares).min())

    assert least_light(inner) >= share - 1e-3  # between the depths that it looks at
    assert inner.radius_px < psf.radius_px
    if inner.radius_px > 1:
        assert least_light(inner.within(inner.radius_px - 1)) < share


def test_all_of_the_light_needs_all_pixels() -> None:
    for psf in MODELS:
        assert core(psf, 1.0).radius_px == psf.radius_px


def spline_of(sigma_px_K: list[float], pedestal: float = 0.0) -> SplinePSF:
    """Gaussian spots of these widths, one every 100 nm of depth, on patches of 17×17."""
    place = np.arange(18) - 8.5
    radius_YX = np.hypot(place[:, None], place)
    samples = [np.exp(-0.5 * (radius_YX / sigma) ** 2) / (2 * np.pi * sigma**2) for sigma in sigma_px_K]
    return SplinePSF.from_samples(np.stack(samples) + pedestal, 0.0, 100.0)


def test_the_widest_depth_counts_wherever_it_is() -> None:
    everywhere = core(spline_of([2.0] * 5), 0.98).radius_px
    assert core(spline_of([1.0] * 5), 0.98).radius_px < everywhere
    for place in range(5):
        widths = [1.0] * 5
        widths[place] = 2.0
        assert core(spline_of(widths), 0.98).radius_px == everywhere


def test_a_pedestal_below_0_takes_no_light_away() -> None:
    assert core(spline_of([1.5] * 4, -0.001), 0.98).radius_px == core(spline_of([1.5] * 4), 0.98).radius_px


def test_a_position_needs_more_than_one_pixel() -> None:
    """Of an emitter whose light is in one."""
    point = build(GaussianSettings(sigma_nm=130.0), PixelSize.of(1000.0))
    assert core(point, 0.5).radius_px == 1
