"""The Gaussian models against quadrature, finite differences and closed forms."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import dblquad

from emitter.core.errors import SettingsError
from emitter.core.units import PixelSize
from emitter.psf import PSF, build, from_state
from emitter.psf.gaussian import AstigmaticPSF, AstigmaticSettings, GaussianPSF, GaussianSettings

PIXEL = PixelSize(100.0, 120.0)
SKEWED = AstigmaticSettings(a_x=0.05, a_y=-0.03, b_x=0.02, b_y=0.01)
MODELS = [build(GaussianSettings(), PIXEL), build(SKEWED, PIXEL), build(AstigmaticSettings(), PIXEL)]
positions = st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.floats(-500, 500))


def at(dx: float, dy: float, z_nm: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x, y, z = (torch.tensor([value], dtype=torch.float64) for value in (dx, dy, z_nm))
    return x, y, z


@pytest.mark.parametrize("psf", MODELS, ids=lambda psf: psf.kind)
@settings(deadline=None, max_examples=20)
@given(where=positions)
def test_derivatives_are_the_finite_differences(psf: PSF, where: tuple[float, float, float]) -> None:
    value, by_xyz = psf.derivatives(*at(*where))
    torch.testing.assert_close(value, psf.patches(*at(*where)))
    for axis, step in enumerate((1e-4, 1e-4, 1e-2)):
        ends = []
        for sign in (1, -1):
            moved = list(where)
            moved[axis] += sign * step
            ends.append(psf.patches(*at(*moved)))
        difference = (ends[0] - ends[1]) / (2 * step)
        if abs(where[2]) < 499 or axis < 2:  # at the range's end z is clamped
            torch.testing.assert_close(by_xyz[:, axis], difference, atol=1e-8, rtol=1e-5)


@pytest.mark.parametrize("psf", MODELS, ids=lambda psf: psf.kind)
@settings(deadline=None, max_examples=20)
@given(where=positions)
def test_a_patch_holds_nearly_all_the_light(psf: PSF, where: tuple[float, float, float]) -> None:
    total = float(psf.patches(*at(*where)).sum())
    assert 0.998 < total <= 1.0 + 1e-9


def test_a_pixel_is_the_integral_over_its_area() -> None:
    psf = GaussianPSF(1.1, 1.4)
    dx, dy = 0.31, -0.22
    patch = psf.patches(*at(dx, dy, 0.0))[0]

    def density(y: float, x: float) -> float:
        return np.exp(-0.5 * ((x - dx) / 1.1) ** 2 - 0.5 * ((y - dy) / 1.4) ** 2) / (2 * np.pi * 1.1 * 1.4)

    for row, column in ((0, 0), (2, -1), (-1, 3)):
        expected, _ = dblquad(density, column - 0.5, column + 0.5, row - 0.5, row + 0.5)
        assert float(patch[psf.radius_px + row, psf.radius_px + column]) == pytest.approx(expected, rel=1e-6)


def test_widths_follow_the_formula_and_the_pixel_size() -> None:
    psf = build(SKEWED, PIXEL)
    z = 150.0
    patch = psf.patches(*at(0, 0, z))[0]
    offset = torch.arange(psf.patch_px, dtype=torch.float64) - psf.radius_px
    for axis, focus, a, b, pixel_nm in ((0, 200.0, 0.05, 0.02, 100.0), (1, -200.0, -0.03, 0.01, 120.0)):
        profile = patch.sum(dim=axis)
        variance = float((profile * offset**2).sum() / profile.sum()) - 1 / 12  # the pixel adds its own
        u = (z - focus) / 400
        expected = 130 / pixel_nm * np.sqrt(1 + u**2 + a * u**3 + b * u**4)
        assert np.sqrt(variance) == pytest.approx(expected, rel=0.01)  # the patch cuts the tails


def test_z_outside_the_range_is_taken_at_its_end() -> None:
    psf = build(SKEWED, PIXEL)
    value, by_xyz = psf.derivatives(*at(0.1, 0.2, 800.0))
    torch.testing.assert_close(value, psf.patches(*at(0.1, 0.2, 500.0)))
    assert float(by_xyz[:, 2].abs().max()) == 0


def test_a_gaussian_knows_no_z() -> None:
    psf = build(GaussianSettings(), PIXEL)
    torch.testing.assert_close(psf.patches(*at(0.1, 0.2, -400.0)), psf.patches(*at(0.1, 0.2, 400.0)))
    assert psf.z_range_nm == (0.0, 0.0)


@pytest.mark.parametrize("psf", MODELS, ids=lambda psf: psf.kind)
def test_a_state_rebuilds_the_model(psf: PSF) -> None:
    again = from_state(psf.state())
    assert type(again) is type(psf)
    assert again.z_range_nm == psf.z_range_nm
    torch.testing.assert_close(again.patches(*at(0.3, 0.1, 77.0)), psf.patches(*at(0.3, 0.1, 77.0)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"sigma_nm": -1.0},
        {"depth_nm": 0.0},
        {"z_range_nm": (500.0, -500.0)},
        {"a_x": 5.0},
    ],
)
def test_impossible_settings_are_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=f"psf.{next(iter(wrong))}"):
        dataclasses.replace(AstigmaticSettings(), **wrong)  # type: ignore[arg-type]


def test_the_radius_follows_the_widest_width() -> None:
    narrow = AstigmaticPSF(AstigmaticSettings(z_range_nm=(-100.0, 100.0)), PixelSize(100.0, 100.0))
    wide = AstigmaticPSF(AstigmaticSettings(), PixelSize(100.0, 100.0))
    assert narrow.radius_px < wide.radius_px
