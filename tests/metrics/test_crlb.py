"""The Cramér-Rao bound against closed forms and finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from torch import Tensor

from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize
from emitter.metrics.crlb import CRLB, crlb, crlb_ratios, joint_crlb, subpixel_mean_crlb, table_crlb
from emitter.psf.base import PSF
from emitter.psf.gaussian import AstigmaticPSF, AstigmaticSettings, GaussianPSF

PIXEL = PixelSize.of(100.0)
GAUSSIAN = GaussianPSF(1.3, 1.3)
ASTIGMATIC = AstigmaticPSF(AstigmaticSettings(), PIXEL)


def poisson(photons: Tensor) -> Tensor:
    return photons


def emccd(photons: Tensor) -> Tensor:
    return 2 * photons / 0.9 + 0.1


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def mortensen_nm(photons: float, background: float, sigma_nm: float, pixel_nm: float) -> float:
    """Mortensen et al., Nature Methods 7, 377 (2010), the maximum-likelihood variance, per axis."""
    var = sigma_nm**2 + pixel_nm**2 / 12
    tau = 2 * math.pi * var * background / (photons * pixel_nm**2)
    integral, _ = quad(lambda t: math.log(t) / (1 + t / tau), 0, 1)
    return math.sqrt(var / photons / (1 + integral))


def by_differences(
    psf: PSF, noise: object, theta: np.ndarray, steps: tuple[float, ...], pixel: PixelSize = PIXEL
) -> np.ndarray:
    """Standard deviations (x, y, z, photons, background) from rendered patches alone, with numpy's inverse."""

    def mean(t: np.ndarray) -> np.ndarray:
        x, y, z, photons, background = (column(value) for value in t)
        patch = psf.patches(x / pixel.x_nm, y / pixel.y_nm, z)
        return (photons * patch[0] + background).numpy().ravel()

    slopes = []
    for k, step in enumerate(steps):
        shift = np.zeros(5)
        shift[k] = step
        slopes.append((mean(theta + shift) - mean(theta - shift)) / (2 * step))
    variance = noise(torch.as_tensor(mean(theta))).numpy()
    return np.sqrt(np.diag(np.linalg.inv(np.einsum("jp,kp->jk", slopes, slopes / variance))))


@pytest.mark.parametrize(("photons", "background", "published_nm"), [(1000, 50, 8.2), (5000, 100, 2.9)])
def test_mortensens_closed_form(photons: float, background: float, published_nm: float) -> None:
    bound = crlb(GAUSSIAN, poisson, PIXEL, column(0), column(photons), column(background))
    closed_nm = mortensen_nm(photons, background, 130, 100)
    assert closed_nm == pytest.approx(published_nm, abs=0.05)
    assert float(bound.x_nm) == pytest.approx(float(bound.y_nm))
    # The closed form spreads the pixel over a Gaussian of variance a²/12: near, but not the same.
    assert float(bound.x_nm) == pytest.approx(closed_nm, rel=0.01)


@pytest.mark.parametrize("noise", [poisson, emccd])
@given(
    st.floats(-50, 50), st.floats(-50, 50), st.floats(-400, 400), st.floats(300, 10_000), st.floats(1, 200)
)
def test_bound_equals_finite_differences(
    noise: object, x: float, y: float, z: float, photons: float, background: float
) -> None:
    bound = crlb(
        ASTIGMATIC,
        noise,
        PIXEL,
        *(column(value) for value in (z, photons, background, x / 100, y / 100)),
    )
    expected = by_differences(
        ASTIGMATIC, noise, np.array([x, y, z, photons, background]), (0.1, 0.1, 0.1, 1.0, 0.1)
    )
    assert [float(std) for std in vars(bound).values()] == pytest.approx(expected, rel=1e-4)


def test_excess_noise_raises_the_bound_by_its_root() -> None:
    arguments = (PIXEL, column(-300, 0, 250), column(500, 2000, 8000), column(10, 50, 100))
    plain = crlb(ASTIGMATIC, poisson, *arguments)
    excess = crlb(ASTIGMATIC, lambda photons: 2 * photons, *arguments)
    for name, std in vars(plain).items():
        np.testing.assert_allclose(getattr(excess, name), std * math.sqrt(2), rtol=1e-6)


def test_z_is_left_out_when_it_has_no_effect_or_is_known() -> None:
    flat = crlb(GAUSSIAN, poisson, PIXEL, column(0), column(1000), column(20))
    assert torch.isnan(flat.z_nm).all()
    arguments = (ASTIGMATIC, poisson, PIXEL, column(150), column(1000), column(20), column(0.3), column(0.2))
    free, known = crlb(*arguments), crlb(*arguments, free_z=False)
    assert torch.isnan(known.z_nm).all()
    assert torch.isfinite(free.z_nm).all()
    for name in ("x_nm", "y_nm", "photons", "background"):
        assert getattr(known, name) <= getattr(free, name) * (1 + 1e-12)  # knowing z never costs anything


def test_pixels_need_not_be_square() -> None:
    pixel = PixelSize.of((80.0, 120.0))
    psf = AstigmaticPSF(AstigmaticSettings(), pixel)
    bound = crlb(psf, poisson, pixel, column(100), column(2000), column(30))
    expected = by_differences(
        psf, poisson, np.array([0, 0, 100, 2000, 30.0]), (0.1, 0.1, 0.1, 1.0, 0.1), pixel
    )
    assert [float(std) for std in vars(bound).values()] == pytest.approx(expected, rel=1e-4)


def test_many_emitters_equal_one_by_one() -> None:
    n = 5000  # more than are worked on at a time
    rng = torch.Generator().manual_seed(0)
    z = torch.rand(n, generator=rng) * 800 - 400
    photons, background = torch.rand(n, generator=rng) * 5000 + 500, torch.rand(n, generator=rng) * 100 + 5
    together = crlb(GAUSSIAN, poisson, PIXEL, z, photons, background)
    for row in (0, 4095, 4096, n - 1):
        alone = crlb(GAUSSIAN, poisson, PIXEL, z[[row]], photons[[row]], background[[row]])
        np.testing.assert_allclose(together.x_nm[[row]], alone.x_nm, rtol=1e-6)
    assert len(crlb(GAUSSIAN, poisson, PIXEL, z[:0], photons[:0], background[:0]).x_nm) == 0


def test_subpixel_mean_lies_within_the_bounds_of_its_positions() -> None:
    sharp = GaussianPSF(0.5, 0.5)  # undersampled, so that the position in the pixel matters
    arguments = (sharp, poisson, PIXEL, column(0), column(1000), column(10))
    centre = float(crlb(*arguments).x_nm)
    edge = float(crlb(*arguments, column(0.5), column(0)).x_nm)
    mean = float(subpixel_mean_crlb(*arguments).x_nm)
    assert min(centre, edge) < mean < max(centre, edge)
    assert subpixel_mean_crlb(*arguments, n_side=1).x_nm == crlb(*arguments).x_nm


def test_a_table_is_bound_at_its_own_subpixel_positions() -> None:
    table = EmitterTable.of(
        [0, 1],
        x_nm=[1230.0, 550.0],
        y_nm=[770.0, 50.0],
        z_nm=[100, -200],
        photons=[900, 3000],
        background=[20, 60],
    )
    bound = table_crlb(table, ASTIGMATIC, emccd, PIXEL)
    expected = crlb(
        *(ASTIGMATIC, emccd, PIXEL, column(100, -200), column(900, 3000), column(20, 60)),
        *(column(-0.2, 0.0), column(0.2, 0.0)),
    )
    for name, std in vars(expected).items():
        np.testing.assert_allclose(getattr(bound, name), std, rtol=1e-3)


def frames_of_one(
    x: float, y: float, z: float, photons: list[float], background: list[float]
) -> EmitterTable:
    """An emitter at one place, with other photons and background in every frame."""
    n = len(photons)
    place = {"x_nm": [1050 + x] * n, "y_nm": [2050 + y] * n, "z_nm": [z] * n}
    return EmitterTable.of(range(n), **place, photons=photons, background=background)


def jointly_by_differences(table: EmitterTable) -> np.ndarray:
    """Standard deviations of x, y and z from one Fisher matrix of 3 + 2 · frames parameters over all the pixels."""
    n = len(table)
    theta = np.concatenate(
        ([table.x_nm[0] - 1050, table.y_nm[0] - 2050, table.z_nm[0]], table.photons, table.background)
    )

    def mean(t: np.ndarray) -> np.ndarray:
        x, y, z = (column(value) for value in t[:3])
        patch = ASTIGMATIC.patches(x / 100, y / 100, z)[0].numpy()
        return np.concatenate([(t[3 + i] * patch + t[3 + n + i]).ravel() for i in range(n)])

    slopes = [(mean(theta + shift) - mean(theta - shift)) / 0.2 for shift in 0.1 * np.eye(len(theta))]
    variance = emccd(torch.as_tensor(mean(theta))).numpy()
    return np.sqrt(np.diag(np.linalg.inv(np.einsum("jp,kp->jk", slopes, slopes / variance))))[:3]


@given(
    st.floats(-49, 49),
    st.floats(-49, 49),
    st.floats(-400, 400),
    st.lists(st.tuples(st.floats(300, 10_000), st.floats(1, 200)), min_size=1, max_size=4),
)
def test_joint_bound_equals_one_great_fisher_matrix(
    x: float, y: float, z: float, frames: list[tuple[float, float]]
) -> None:
    photons, background = map(list, zip(*frames, strict=True))
    table = frames_of_one(x, y, z, photons, background)
    bound = joint_crlb(table, np.zeros(len(table)), ASTIGMATIC, emccd, PIXEL)
    expected = jointly_by_differences(table)
    for std, value in zip(vars(bound).values(), expected, strict=True):
        np.testing.assert_allclose(std, value, rtol=1e-4)  # every row has its emitter's


@pytest.mark.parametrize("n", [1, 2, 7])
def test_equal_frames_lower_the_joint_bound_by_the_root_of_their_number(n: int) -> None:
    table = frames_of_one(13, -21, 120, [2000.0] * n, [30.0] * n)
    single = table_crlb(table, ASTIGMATIC, emccd, PIXEL)
    joint = joint_crlb(table, np.zeros(n), ASTIGMATIC, emccd, PIXEL)
    for name, std in vars(joint).items():
        np.testing.assert_allclose(std, getattr(single, name) / math.sqrt(n), rtol=1e-9)


def test_joint_bound_keeps_emitters_apart_and_needs_light() -> None:
    table = EmitterTable.concatenate(
        [
            frames_of_one(0, 0, 100, [1000, 3000], [20, 20]),
            frames_of_one(30, -10, -200, [0, 500], [20, 20]),  # the dark frame adds nothing
            frames_of_one(0, 0, 0, [0], [20]),  # nothing at all is seen
        ]
    )
    emitter = np.array([0, 0, 1, 1, 2])
    bound = joint_crlb(table, emitter, ASTIGMATIC, emccd, PIXEL)
    single = table_crlb(table, ASTIGMATIC, emccd, PIXEL)
    for name, std in vars(bound).items():
        np.testing.assert_allclose(std[2:4], getattr(single, name)[3].expand(2), rtol=1e-9)
        assert std[0] == std[1] < getattr(single, name)[1]
        assert torch.isnan(std[4])
    order = np.array([3, 0, 4, 2, 1])
    shuffled = joint_crlb(table.select(order), emitter[order], ASTIGMATIC, emccd, PIXEL)
    np.testing.assert_allclose(shuffled.x_nm, bound.x_nm[order], rtol=1e-12)
    assert torch.isnan(joint_crlb(table, emitter, GAUSSIAN, emccd, PIXEL).z_nm).all()
    assert len(joint_crlb(EmitterTable.empty(), np.zeros(0), GAUSSIAN, emccd, PIXEL).x_nm) == 0


def test_ratio_is_one_for_errors_at_the_bound() -> None:
    n = 20_000
    rng = np.random.default_rng(0)
    std = {axis: rng.lognormal(3, 1, n) for axis in "xyz"}
    unknown = torch.ones(n, dtype=torch.float64)
    bound = CRLB(*(torch.as_tensor(std[axis]) for axis in "xyz"), unknown, unknown)
    truth = EmitterTable.of(np.zeros(n), **{f"{axis}_nm": rng.uniform(0, 1000, n) for axis in "xyz"})
    errors = {f"{axis}_nm": getattr(truth, f"{axis}_nm") + rng.normal(0, std[axis]) for axis in "xyz"}
    ratios = crlb_ratios(truth.with_columns(**errors), truth, bound)
    assert list(ratios.values()) == pytest.approx([1, 1, 1], abs=0.03)
    flat = crlb_ratios(truth.with_columns(**{**errors, "z_nm": np.full(n, np.nan)}), truth, bound)
    assert math.isnan(flat["crlb_ratio_z"])
    assert flat["crlb_ratio_x"] == ratios["crlb_ratio_x"]
    errors["x_nm"][:1000] = truth.x_nm[:1000] + 250.0  # wrong neighbours move it by little
    assert crlb_ratios(truth.with_columns(**errors), truth, bound)["crlb_ratio_x"] == pytest.approx(
        1, abs=0.1
    )
