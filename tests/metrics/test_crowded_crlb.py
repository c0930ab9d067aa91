"""The bound among neighbours: against the isolated one and against dense Fisher matrices of whole frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from emitter.core.emitters import Emitters
from emitter.core.units import PixelSize
from emitter.metrics.crlb import crlb
from emitter.metrics.crowded_crlb import crowded_crlb
from emitter.psf import PSF, build
from emitter.psf.gaussian import AstigmaticSettings, GaussianSettings
from emitter.psf.render import render

PIXEL = PixelSize.of(100.0)
PSF_2D = build(GaussianSettings(130), PIXEL)
PSF_3D = build(AstigmaticSettings(), PIXEL)
BACKGROUND = 20.0


def noise(photons: Tensor) -> Tensor:
    return 1.3 * photons + 2.0


def emitters(x: list[float], y: list[float], images: list[int] | None = None, z: float = 120.0) -> Emitters:
    n = len(x)
    return Emitters(
        n_images=1 if images is None else max(images) + 1,
        image_N=torch.tensor(images or [0] * n),
        x_px_N=torch.tensor(x),
        y_px_N=torch.tensor(y),
        z_nm_N=z + 40.0 * torch.arange(n),
        photons_N=1000.0 + 500 * torch.arange(n),
        background_N=torch.full((n,), BACKGROUND),
        probability_N=torch.ones(n),
    )


def dense(psf: PSF, one: Emitters, size: int, in_3d: bool) -> np.ndarray:
    """Standard deviations (N, 4) of x (nm), y, z and photons from the whole frame's Fisher matrix by finite
    differences, the same background everywhere, with the same priors."""

    def frame(values: np.ndarray) -> np.ndarray:
        x, y, z, photons = torch.from_numpy(values[:-1].reshape(4, -1)).float()
        shown = Emitters(1, one.image_N, x, y, z, photons)
        light: np.ndarray = render(psf, shown, size, size)[0].double().numpy() + values[-1]
        return light

    parts = (one.x_px_N, one.y_px_N, one.z_nm_N, one.photons_N)
    values = np.concatenate([*(part.double().numpy() for part in parts), [BACKGROUND]])
    n = len(one)
    steps = np.repeat([1e-2, 1e-2, 2.0, 5.0, 0.5], [n, n, n, n, 1])
    slopes = []
    for place, step in enumerate(steps):
        up, down = values.copy(), values.copy()
        up[place] += step
        down[place] -= step
        slopes.append(((frame(up) - frame(down)) / (2 * step)).ravel())
    slope = np.stack(slopes)
    variance = noise(torch.from_numpy(frame(values))).numpy().ravel()
    depth = psf.z_range_nm[1] - psf.z_range_nm[0]
    prior = np.concatenate([np.full(2 * n, 1.5), np.full(n, max(depth, 1)), values[3 * n : -1], values[-1:]])
    information = (slope / variance) @ slope.T + np.diag(prior**-2.0)
    deviation = np.sqrt(np.diag(np.linalg.inv(information)))[:-1].reshape(4, n).T * [100, 100, 1, 1]
    return deviation if in_3d else np.where([True, True, False, True], deviation, np.nan)


@pytest.mark.parametrize(("psf", "in_3d"), [(PSF_2D, False), (PSF_3D, True)])
@pytest.mark.parametrize("apart_px", [1.2, 2.5])
def test_three_emitters_in_one_small_frame_are_as_in_the_dense_matrix(
    psf: PSF, in_3d: bool, apart_px: float
) -> None:
    size = psf.radius_px  # every patch covers all of the frame
    middle = size / 2
    reach = min(apart_px, middle - 0.3)
    one = emitters([middle - reach, middle, middle + 0.3], [middle, middle + 0.2, middle + reach])
    bound = crowded_crlb(psf, noise, PIXEL, one, size, size, free_z=in_3d).crowded
    found = torch.stack([bound.x_nm, bound.y_nm, bound.z_nm, bound.photons], dim=1).numpy()
    np.testing.assert_allclose(found, dense(psf, one, size, in_3d), rtol=0.01)


def test_far_from_each_other_each_has_the_bound_of_one_alone() -> None:
    one = emitters([20.3, 60.6], [20.4, 60.2])
    bounds = crowded_crlb(PSF_3D, noise, PIXEL, one, 80, 80)
    x, y = one.x_px_N.frac() - 0.5, one.y_px_N.frac() - 0.5
    assert one.background_N is not None
    alone = crlb(PSF_3D, noise, PIXEL, one.z_nm_N, one.photons_N, one.background_N, x, y)
    for name in ("x_nm", "y_nm", "z_nm", "photons", "background"):
        for bound in (bounds.crowded, bounds.alone):
            torch.testing.assert_close(getattr(bound, name), getattr(alone, name), rtol=0.03, atol=0)


def test_a_neighbour_costs_precision_and_one_of_another_image_nothing() -> None:
    near = crowded_crlb(PSF_3D, noise, PIXEL, emitters([20.0, 22.0], [20.0, 21.0]), 40, 40)
    assert (near.crowded.x_nm > 1.05 * near.alone.x_nm).all()
    assert (near.crowded.z_nm > 1.05 * near.alone.z_nm).all()
    apart = crowded_crlb(PSF_3D, noise, PIXEL, emitters([20.0, 22.0], [20.0, 21.0], [0, 1]), 40, 40)
    torch.testing.assert_close(apart.crowded.x_nm, apart.alone.x_nm)


def test_at_one_place_or_at_the_frames_edge_it_stays_finite() -> None:
    for one in (
        emitters([20.2, 20.2], [20.0, 20.0]),
        emitters([10.0, 10.0, 11.0], [10.0, 10.0, 10.0]),
        emitters([10.0] * 7, [10.0] * 7),
        emitters([-0.3, -0.1, 2.0], [-0.2, -0.4, 2.0]),
        emitters([0.1, -0.4], [0.2, 39.9]),
    ):
        bounds = crowded_crlb(PSF_3D, noise, PIXEL, one, 40, 40)
        for bound in (bounds.crowded, bounds.alone):
            assert all(torch.isfinite(values).all() and (values > 0).all() for values in vars(bound).values())
    inside = crowded_crlb(PSF_3D, noise, PIXEL, emitters([20.1], [20.2]), 40, 40).crowded
    edge = crowded_crlb(PSF_3D, noise, PIXEL, emitters([0.1], [20.2]), 40, 40).crowded
    assert edge.x_nm > 1.2 * inside.x_nm  # half of its light is lost


def test_a_crowd_keeps_every_matrix_positive() -> None:
    generator = torch.Generator().manual_seed(3)
    n = 400
    place = torch.rand(2, n, generator=generator) * 40
    one = emitters(place[0].tolist(), place[1].tolist(), z=-400.0)
    one = Emitters(**{**vars(one), "z_nm_N": torch.rand(n, generator=generator) * 1200 - 600})
    bounds = crowded_crlb(PSF_3D, noise, PIXEL, one, 40, 40)
    assert all(torch.isfinite(values).all() for values in vars(bounds.crowded).values())
    assert (bounds.crowded.x_nm >= 0.99 * bounds.alone.x_nm).all()


def test_none_have_no_bound() -> None:
    assert len(crowded_crlb(PSF_3D, noise, PIXEL, emitters([], []), 40, 40).crowded.x_nm) == 0


def test_a_background_of_nothing_or_less_gives_no_endless_certainty() -> None:
    one = emitters([5.3, 8.1], [5.2, 7.7])
    for background in (0.0, -5.0):
        dark = replace(one, background_N=torch.full((2,), background), photons_N=torch.tensor([0.0, 900.0]))
        bound = crowded_crlb(PSF_3D, lambda photons: photons, PIXEL, dark, 16, 16).crowded
        for sigma_N in (bound.x_nm, bound.z_nm, bound.photons, bound.background):
            assert (sigma_N.isfinite() & (sigma_N > 0)).all()
