"""The spline PSF against a foreign implementation's polynomials, scipy and finite differences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline

from emitter.core.errors import EmitterError
from emitter.core.units import PixelSize
from emitter.psf import from_state
from emitter.psf.bspline import design_matrix, interpolate
from emitter.psf.gaussian import AstigmaticPSF, AstigmaticSettings
from emitter.psf.spline import SplinePSF

PIXEL = PixelSize(100.0, 100.0)


def as_tensors(*columns: np.ndarray) -> list[torch.Tensor]:
    return [torch.as_tensor(column, dtype=torch.float64).reshape(-1) for column in columns]


def spline_of_astigmatic(radius_px: int = 8, z_step_nm: float = 50.0) -> tuple[SplinePSF, AstigmaticPSF]:
    """A spline through samples of the astigmatic Gaussian, which knows its own values everywhere."""
    truth = AstigmaticPSF(AstigmaticSettings(), PIXEL)
    z_K = np.arange(-500, 501, z_step_nm)
    zeros = np.zeros(len(z_K))
    # The knots lie half a pixel off the pixels' centres: the truth shifted by half a pixel, one pixel more
    # per side.
    patches = truth.patches(*as_tensors(zeros + 0.5, zeros + 0.5, z_K)).numpy()
    first = truth.radius_px - radius_px
    samples = patches[:, first : first + 2 * radius_px + 2, first : first + 2 * radius_px + 2]
    return SplinePSF.from_samples(samples, -500.0, z_step_nm), truth


def test_it_is_the_foreign_spline_everywhere(data_dir: Path) -> None:
    foreign = np.load(data_dir / "storm_analysis" / "test_spliner_psf.npz")
    polynomials = foreign["coeff_xyz64"].reshape(9, 9, 9, 4, 4, 4)  # cell x, y, z; powers of x, y, z
    z_step_nm = (float(foreign["zmax_nm"]) - float(foreign["zmin_nm"])) / 9
    psf = SplinePSF.from_samples(foreign["psf_zyx"], float(foreign["zmin_nm"]), z_step_nm)
    rng = np.random.default_rng(0)
    n = 300
    dx, dy = rng.uniform(-0.5, 0.5, (2, n))
    z = rng.uniform(-750, 750, n)
    position = (z + 750) / z_step_nm
    cell = np.minimum(position.astype(int), 8)

    def powers(u: np.ndarray) -> np.ndarray:
        return u[:, None] ** np.arange(4)

    expected = np.einsum(
        "xynijk,ni,nj,nk->nyx",
        polynomials[:, :, cell],
        powers(0.5 - dx),
        powers(0.5 - dy),
        powers(position - cell),
    )
    np.testing.assert_allclose(psf.patches(*as_tensors(dx, dy, z)).numpy(), expected, atol=1e-12)


def test_coefficients_are_those_of_a_natural_spline() -> None:
    rng = np.random.default_rng(1)
    for n in (2, 3, 9):
        samples = rng.normal(size=(n, 2))
        where = np.linspace(0, n - 1, 37)
        expected = CubicSpline(np.arange(n), samples, bc_type="natural")(where)
        np.testing.assert_allclose(design_matrix(where, n) @ interpolate(samples, 0), expected, atol=1e-12)


@settings(deadline=None, max_examples=25)
@given(
    dx=st.floats(-0.5, 0.5),
    dy=st.floats(-0.5, 0.5),
    z=st.floats(-499, 499),
)
def test_derivatives_are_the_finite_differences(dx: float, dy: float, z: float) -> None:
    psf, _ = spline_of_astigmatic(radius_px=4)
    where = np.array([dx, dy, z])
    value, by_xyz = psf.derivatives(*as_tensors(*where))
    torch.testing.assert_close(value, psf.patches(*as_tensors(*where)))
    for axis, step in enumerate((1e-4, 1e-4, 1e-2)):
        move = np.eye(3)[axis] * step
        ends = psf.patches(*as_tensors(*(where + move))) - psf.patches(*as_tensors(*(where - move)))
        torch.testing.assert_close(by_xyz[:, axis], ends / (2 * step), atol=1e-8, rtol=1e-4)


def test_between_the_knots_it_follows_the_model_it_samples() -> None:
    psf, truth = spline_of_astigmatic()
    rng = np.random.default_rng(2)
    where = as_tensors(*rng.uniform(-0.5, 0.5, (2, 50)), rng.uniform(-450, 450, 50))
    inner = slice(1, 1 + psf.patch_px)  # the truth's patch is one pixel larger on each side
    assert truth.radius_px == psf.radius_px + 1
    expected = truth.patches(*where)[:, inner, inner]
    peak = float(expected.max())
    # Knots one pixel apart leave half a percent of a peak that is 1.3 px wide.
    assert float((psf.patches(*where) - expected).abs().max()) < 0.008 * peak


def test_z_outside_the_range_is_taken_at_its_end() -> None:
    psf, _ = spline_of_astigmatic(radius_px=4)
    value, by_xyz = psf.derivatives(*as_tensors([0.1, 0.1], [0.2, 0.2], [-900.0, 900.0]))
    torch.testing.assert_close(value, psf.patches(*as_tensors([0.1, 0.1], [0.2, 0.2], [-500.0, 500.0])))
    assert float(by_xyz[:, 2].abs().max()) == 0


def test_a_state_rebuilds_the_model_and_precision_follows_the_input() -> None:
    psf, _ = spline_of_astigmatic(radius_px=4)
    where = as_tensors([0.1], [-0.2], [33.0])
    torch.testing.assert_close(from_state(psf.state()).patches(*where), psf.patches(*where))
    single = psf.patches(*(column.float() for column in where))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), psf.patches(*where), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("shape", [(3, 8, 8), (6, 8, 10), (6, 7, 7)])
def test_impossible_shapes_are_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(EmitterError, match="coefficients have the shape"):
        SplinePSF(torch.zeros(shape), 0.0, 10.0)
