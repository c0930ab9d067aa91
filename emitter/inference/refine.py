"""Localizations moved to where the frame itself makes them most probable, with the network's own answer as the prior.

Maximum a posteriori by Fisher scoring: with u the distance from the network's values in its own standard deviations σ,
J the slopes of the expected photons by u over the noise's standard deviation, and r the residual over the same,

    (1 + JᵀJ) δ = Jᵀ r − u,        u ← u + δ

for x, y, z and photons of all emitters of a frame at once, their images added up (Kay, Fundamentals of Statistical
Signal Processing: Estimation Theory, 1993, ch. 7 and 11). The background is the network's.

The network has seen this frame already, and its neighbours besides: what it says and what the frame says are not
independent, and the maximum a posteriori alone counts the frame twice. So only a share of the way is gone, the
``gains``, fitted on simulated frames (``refine_fit.py``) by how dense they are; 0, where the frame has nothing to add.
Nor is a long way believed: see ``redescended``.

Shape suffixes: N emitters, 4 parameters (x and y in px, z in nm, photons), K knots, B images, H rows, W columns, p
pixels of a patch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from emitter.core import channels as ch
from emitter.core.channels import Scaling
from emitter.core.emitters import Emitters
from emitter.core.table import PRECISION_COLUMNS
from emitter.inference.uncertainty import AXES, LEAST_DENSITY, Uncertainty, hats
from emitter.metrics.crlb import NoiseVariance
from emitter.psf.base import PSF

DENSITY_KNOTS = tuple(math.log(density) for density in (LEAST_DENSITY, 1.0, 4.0))  # emitters per µm²
_STEPS = 3
_SOLVER_STEPS = 10
_FARTHEST, _SHORT = 3.0, 1.0  # standard deviations from the network's values
_FEWEST_PHOTONS = 1.0


@dataclass(frozen=True)
class Refiner:
    """``gains``, ``spreads`` (K,) by axis over ``DENSITY_KNOTS``: which share of the way is gone, and what is left of
    the standard deviation."""

    uncertainty: Uncertainty
    gains: Mapping[str, tuple[float, ...]]
    spreads: Mapping[str, tuple[float, ...]]

    def __call__(
        self,
        emitters: Emitters,
        columns: Mapping[str, np.ndarray],
        frames_BHW: Tensor,
        background_BHW: Tensor,
    ) -> tuple[Emitters, dict[str, np.ndarray]]:
        """Emitters and their precision columns, refined.

        Args:
            emitters: decoded.
            columns: of ``Uncertainty.columns``.
            frames_BHW: in photons.
            background_BHW: photons per pixel.
        """
        emitters = emitters.to("cpu")
        std_N4 = deviations(columns, self.uncertainty)
        moved_N4 = std_N4 * self.ways(emitters, columns, frames_BHW, background_BHW)
        knots_NK = density_weights(self.uncertainty, emitters, *frames_BHW.shape[1:])
        columns = dict(columns)
        for k, (axis, name) in enumerate(zip(AXES, PRECISION_COLUMNS, strict=True)):
            gain_N = knots_NK @ np.asarray(self.gains.get(axis, np.zeros(len(DENSITY_KNOTS))))
            moved_N4[:, k] *= torch.from_numpy(gain_N).to(moved_N4)
            spread_N = knots_NK @ np.asarray(self.spreads.get(axis, np.ones(len(DENSITY_KNOTS))))
            columns[name] = columns[name] * spread_N
        return with_values(emitters, values(emitters) + moved_N4), columns

    def ways(
        self,
        emitters: Emitters,
        columns: Mapping[str, np.ndarray],
        frames_BHW: Tensor,
        background_BHW: Tensor,
    ) -> Tensor:
        """(N, 4) in standard deviations: the way to the maximum a posteriori, ``redescended``."""
        known, emitters = self.uncertainty, emitters.to("cpu")  # where PSF and camera are
        std_N4 = deviations(columns, known)
        most_probable = refined(
            known.psf,
            known.noise_variance,
            emitters,
            std_N4,
            frames_BHW.cpu(),
            background_BHW.cpu(),
        )
        way_N4 = (values(most_probable) - values(emitters)) / std_N4.clamp(min=1e-9)
        return redescended(torch.where(std_N4 > 0, way_N4, 0.0))


def deviations(columns: Mapping[str, np.ndarray], known: Uncertainty) -> Tensor:
    """(N, 4) standard deviations in px, px, nm and photons; 0 for a z that is not estimated."""
    std_N4 = np.stack([columns[name] for name in PRECISION_COLUMNS], axis=1)
    std_N4 = std_N4 / (known.pixel_size.x_nm, known.pixel_size.y_nm, 1.0, 1.0)
    return torch.from_numpy(np.nan_to_num(std_N4, nan=0.0)).float()


def redescended(way_N4: Tensor) -> Tensor:
    """A way of up to one standard deviation (the longest of its four) as it is, a longer one shorter the longer it is,
    one of three standard deviations not at all: a frame that contradicts the network so much is misunderstood by the
    emitters in it, as where one of them is not found. (The redescending function of Hampel, Journal of the American
    Statistical Association 69, 383, 1974, with its corners at 1, 1 and 3.)"""
    length_N1 = way_N4.abs().amax(dim=1, keepdim=True)
    left_N1 = ((_FARTHEST - length_N1) / (_FARTHEST - _SHORT)).clamp(0.0, 1.0)
    return way_N4 * left_N1 / length_N1.clamp(min=_SHORT)


def density_weights(known: Uncertainty, emitters: Emitters, height: int, width: int) -> np.ndarray:
    """(N, K): weights of ``DENSITY_KNOTS`` for emitters of images of this size."""
    return hats(known.log_density(emitters.to("cpu"), height, width), DENSITY_KNOTS)


def background(maps_BCHW: Tensor, scaling: Scaling, height: int, width: int) -> Tensor:
    """(B, H, W) photons per pixel that scaled maps say, for frames of this size."""
    cells = maps_BCHW[:, ch.BACKGROUND : ch.BACKGROUND + 1].float() * scaling.background
    pixels: Tensor = torch.nn.functional.interpolate(cells, size=(height, width))
    return pixels[:, 0]


def refined(
    psf: PSF,
    noise_variance: NoiseVariance,
    emitters: Emitters,
    std_N4: Tensor,
    frames_BHW: Tensor,
    background_BHW: Tensor,
    steps: int = _STEPS,
) -> Emitters:
    """The emitters at their maximum a posteriori, at most three standard deviations away.

    Args:
        psf, noise_variance: as for ``crlb``.
        emitters: of the frames' images: the prior's means.
        std_N4: the prior's standard deviations; where it is 0 a value stays.
        frames_BHW: in photons.
        background_BHW: photons per pixel.
        steps: of Fisher scoring.
    """
    if not len(emitters):
        return emitters
    start_N4 = values(emitters)
    start_N4[:, 3].clamp_(min=_FEWEST_PHOTONS)
    u_N4 = torch.zeros_like(start_N4)
    for _ in range(steps):
        here = _within(psf, with_values(emitters, start_N4 + std_N4 * u_N4), *frames_BHW.shape[1:])
        model = _linearized(psf, noise_variance, here, std_N4, frames_BHW, background_BHW)
        u_N4 = u_N4 + _solved(model, model.transposed(model.residual_P) - u_N4)
        u_N4 = u_N4.clamp(-_FARTHEST, _FARTHEST)
    return _within(psf, with_values(emitters, start_N4 + std_N4 * u_N4), *frames_BHW.shape[1:])


def values(emitters: Emitters) -> Tensor:
    """(N, 4)."""
    columns = (emitters.x_px_N, emitters.y_px_N, emitters.z_nm_N, emitters.photons_N)
    return torch.stack([column.float() for column in columns], dim=1)


def with_values(emitters: Emitters, values_N4: Tensor) -> Emitters:
    """The same emitters at other places."""
    x_N, y_N, z_N, photons_N = values_N4.unbind(dim=1)
    return replace(emitters, x_px_N=x_N, y_px_N=y_N, z_nm_N=z_N, photons_N=photons_N)


def _within(psf: PSF, emitters: Emitters, height: int, width: int) -> Emitters:
    """No further out than the frame and a pixel, without negative photons, and at a depth that the PSF knows, unless
    the PSF knows none."""
    low_nm, high_nm = psf.z_range_nm
    z_nm_N = emitters.z_nm_N
    return replace(
        emitters,
        x_px_N=emitters.x_px_N.clamp(-1.0, width + 1.0),
        y_px_N=emitters.y_px_N.clamp(-1.0, height + 1.0),
        z_nm_N=z_nm_N.clamp(low_nm, high_nm) if low_nm < high_nm else z_nm_N,
        photons_N=emitters.photons_N.clamp(min=_FEWEST_PHOTONS),
    )


@dataclass(frozen=True)
class _Model:
    """The expected frames as a linear function of u: ``slopes_N4p`` over the noise, 0 outside of the frames, and where
    their pixels are (``place_Np``) on a canvas of all frames with a margin; ``residual_P`` over the noise, of the
    canvas."""

    slopes_N4p: Tensor
    place_Np: Tensor
    residual_P: Tensor
    image_N: Tensor
    n_images: int

    def transposed(self, canvas_P: Tensor) -> Tensor:
        """Jᵀ canvas, (N, 4)."""
        return (self.slopes_N4p @ canvas_P[self.place_Np][:, :, None])[:, :, 0]

    def times(self, u_N4: Tensor) -> Tensor:
        """(1 + JᵀJ) u, (N, 4)."""
        light_Np = (u_N4[:, None] @ self.slopes_N4p)[:, 0]
        canvas_P = torch.zeros_like(self.residual_P).index_add_(
            0, self.place_Np.flatten(), light_Np.flatten()
        )
        return u_N4 + self.transposed(canvas_P)

    def products(self, one_N4: Tensor, other_N4: Tensor) -> Tensor:
        """(B,) scalar products, one for every image."""
        return one_N4.new_zeros(self.n_images).index_add_(0, self.image_N, (one_N4 * other_N4).sum(dim=1))


def _linearized(
    psf: PSF,
    noise_variance: NoiseVariance,
    emitters: Emitters,
    std_N4: Tensor,
    frames_BHW: Tensor,
    background_BHW: Tensor,
) -> _Model:
    r, (n_images, height, width) = psf.radius_px, frames_BHW.shape
    margin = r + 1
    column_N, row_N = emitters.x_px_N.floor(), emitters.y_px_N.floor()
    patch_NPP, slope_N3PP = psf.derivatives(
        emitters.x_px_N - column_N - 0.5, emitters.y_px_N - row_N - 0.5, emitters.z_nm_N
    )
    photons_N = emitters.photons_N
    slopes_N4p = torch.cat([slope_N3PP * photons_N[:, None, None, None], patch_NPP[:, None]], dim=1).flatten(
        2
    )
    rows, columns = height + 2 * margin + 1, width + 2 * margin + 1
    step_P = torch.arange(psf.patch_px, device=row_N.device)
    first_N = (emitters.image_N * rows + row_N.long() + margin - r) * columns + column_N.long() + margin - r
    place_Np = first_N[:, None] + (step_P[:, None] * columns + step_P).flatten()
    light_P = torch.zeros(n_images * rows * columns, device=row_N.device)
    light_P.index_add_(0, place_Np.flatten(), (patch_NPP * photons_N[:, None, None]).flatten())
    inside = (slice(None), slice(margin, margin + height), slice(margin, margin + width))
    expected_BHW = light_P.view(n_images, rows, columns)[inside] + background_BHW.clamp(min=0.0)
    weight_BHW = noise_variance(expected_BHW).clamp(min=1e-3).rsqrt()
    weight_P, residual_P = torch.zeros_like(light_P), torch.zeros_like(light_P)
    weight_P.view(n_images, rows, columns)[inside] = weight_BHW
    residual_P.view(n_images, rows, columns)[inside] = (frames_BHW - expected_BHW) * weight_BHW
    slopes_N4p = slopes_N4p * std_N4[:, :, None] * weight_P[place_Np][:, None]
    return _Model(slopes_N4p, place_Np, residual_P, emitters.image_N, n_images)


def _solved(model: _Model, right_N4: Tensor) -> Tensor:
    """δ of (1 + JᵀJ) δ = right, (N, 4), by conjugate gradients, every image by itself (Hestenes and Stiefel 1952)."""
    solution_N4 = torch.zeros_like(right_N4)
    rest_N4 = right_N4
    direction_N4 = rest_N4
    square_B = model.products(rest_N4, rest_N4)
    for _ in range(_SOLVER_STEPS):
        image_N4 = model.times(direction_N4)
        length_B = square_B / model.products(direction_N4, image_N4).clamp(min=1e-20)
        length_N1 = length_B[model.image_N][:, None]
        solution_N4 = solution_N4 + length_N1 * direction_N4
        rest_N4 = rest_N4 - length_N1 * image_N4
        new_B = model.products(rest_N4, rest_N4)
        turn_B = new_B / square_B.clamp(min=1e-20)
        direction_N4 = rest_N4 + turn_B[model.image_N][:, None] * direction_N4
        square_B = new_B
    return solution_N4
