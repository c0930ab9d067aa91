"""The Cramér-Rao lower bound: the least standard deviation that an unbiased estimate can have.

Fisher information I_jk = Σ_px ∂_jμ ∂_kμ / var(μ), μ = photons · PSF + background, of one isolated emitter
with x, y, z, photons and background all unknown. (Chao, Ward and Ober, J. Opt. Soc. Am. A 33, B36, 2016; the
variance in place of a Poisson's μ is the Gaussian approximation that camera noise asks for.) Of one frame, or of all
frames that show the same emitter (``joint_crlb``).

Shape suffixes: N emitters, S sub-pixel positions, K parameters, P patch side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize
from emitter.psf.base import PSF

NoiseVariance = Callable[[Tensor], Tensor]  # expected photons per pixel → variance in photons²

_CHUNK = 4096  # emitters at a time: about 100 MB for the largest patches
_MEDIAN_OF_ABS_NORMAL = 0.6744897501960817


@dataclass(frozen=True)
class LocationCRLB:
    """Least standard deviations of the position, (N,) each. ``z_nm`` is NaN where z is not estimated."""

    x_nm: Tensor
    y_nm: Tensor
    z_nm: Tensor


@dataclass(frozen=True)
class CRLB(LocationCRLB):
    """Least standard deviations of all that is estimated of one frame, (N,) each."""

    photons: Tensor
    background: Tensor


def crlb(
    psf: PSF,
    noise_variance: NoiseVariance,
    pixel_size: PixelSize,
    z_nm_N: Tensor,
    photons_N: Tensor,
    background_N: Tensor,
    dx_px_N: Tensor | None = None,
    dy_px_N: Tensor | None = None,
    free_z: bool = True,
) -> CRLB:
    """Bound for isolated emitters on a uniform background, from the pixels of the PSF's patch.

    Args:
        psf: the PSF model.
        noise_variance: variance in photons² of a pixel with the given expected photons: the camera's
            ``noise_variance``; the identity for pure Poisson noise.
        pixel_size: for nm.
        z_nm_N: depth, nm.
        photons_N: photons of the emitter.
        background_N: photons per pixel.
        dx_px_N, dy_px_N: position from the pixel's centre, px (default 0).
        free_z: False when z is known. Where the PSF does not depend on z, z is left out by itself.

    Returns:
        Standard deviations in float64, nm and photons.
    """
    dx_px_N = torch.zeros_like(z_nm_N) if dx_px_N is None else dx_px_N
    dy_px_N = torch.zeros_like(z_nm_N) if dy_px_N is None else dy_px_N
    information_N55 = _information(psf, noise_variance, z_nm_N, photons_N, background_N, dx_px_N, dy_px_N)
    if not free_z:
        information_N55[:, 2] = information_N55[:, :, 2] = 0.0
    x, y, z, photons, background = _standard_deviations(information_N55).unbind(dim=1)
    return CRLB(x * pixel_size.x_nm, y * pixel_size.y_nm, z, photons, background)


def _information(
    psf: PSF,
    noise_variance: NoiseVariance,
    z_nm_N: Tensor,
    photons_N: Tensor,
    background_N: Tensor,
    dx_px_N: Tensor,
    dy_px_N: Tensor,
) -> Tensor:
    """Fisher information of x (px), y (px), z (nm), photons and background, (N, 5, 5) float64."""
    parts = [torch.zeros(0, 5, 5, dtype=torch.float64, device=z_nm_N.device)]
    for rows in torch.arange(len(z_nm_N), device=z_nm_N.device).split(_CHUNK):
        patch_NPP, slope_N3PP = psf.derivatives(dx_px_N[rows], dy_px_N[rows], z_nm_N[rows])
        photons_N11 = photons_N[rows].double()[:, None, None]
        background_N11 = background_N[rows].double()[:, None, None]
        variance_NPP = noise_variance(photons_N11 * patch_NPP.double() + background_N11).double()
        slopes = [
            slope_N3PP.double() * photons_N11[:, None],
            patch_NPP.double()[:, None],
            torch.ones_like(patch_NPP, dtype=torch.float64)[:, None],
        ]
        slope_N5p = torch.cat(slopes, dim=1).flatten(2)
        parts.append((slope_N5p / variance_NPP.flatten(1)[:, None]) @ slope_N5p.transpose(1, 2))
    return torch.cat(parts)


def _standard_deviations(information_NKK: Tensor) -> Tensor:
    """Standard deviations from the inverse Fisher information, (N, K); NaN for a parameter without effect."""
    scale_NK = information_NKK.diagonal(dim1=1, dim2=2).sqrt()
    without_effect_NK = scale_NK == 0
    scale_NK = scale_NK.masked_fill(without_effect_NK, 1.0)
    # Parameters in nm and in photons differ by orders of magnitude: to a unit diagonal before inverting.
    unit_NKK = information_NKK / (scale_NK[:, :, None] * scale_NK[:, None, :])
    unit_NKK = unit_NKK + torch.diag_embed(without_effect_NK.double())
    variance_NK = torch.linalg.inv(unit_NKK).diagonal(dim1=1, dim2=2) / scale_NK**2
    return variance_NK.sqrt().masked_fill(without_effect_NK, math.nan)


def subpixel_mean_crlb(
    psf: PSF,
    noise_variance: NoiseVariance,
    pixel_size: PixelSize,
    z_nm_N: Tensor,
    photons_N: Tensor,
    background_N: Tensor,
    n_side: int = 5,
) -> CRLB:
    """The bound averaged over positions in the pixel: root of the mean square of n_side² of them."""
    shift_S = (torch.arange(n_side, dtype=z_nm_N.dtype, device=z_nm_N.device) + 0.5) / n_side - 0.5
    dy_S, dx_S = (grid.flatten() for grid in torch.meshgrid(shift_S, shift_S, indexing="ij"))

    def each(values_N: Tensor) -> Tensor:
        return values_N.repeat_interleave(len(dx_S))

    n = len(z_nm_N)
    z, photons, background = each(z_nm_N), each(photons_N), each(background_N)
    bound = crlb(psf, noise_variance, pixel_size, z, photons, background, dx_S.repeat(n), dy_S.repeat(n))
    return CRLB(**{name: (std.view(n, -1) ** 2).mean(dim=1).sqrt() for name, std in vars(bound).items()})


def table_crlb(table: EmitterTable, psf: PSF, noise_variance: NoiseVariance, pixel_size: PixelSize) -> CRLB:
    """The bound of every row of a table whose photons and background are known, each as if it were alone."""
    z, photons, background, dx, dy = _columns(table, pixel_size)
    return crlb(psf, noise_variance, pixel_size, z, photons, background, dx, dy)


def joint_crlb(
    table: EmitterTable,
    emitter_N: np.ndarray,
    psf: PSF,
    noise_variance: NoiseVariance,
    pixel_size: PixelSize,
) -> LocationCRLB:
    """The bound from all frames that show an emitter: x, y and z are the same in all of them and their information
    adds up, while photons and background are unknown in every frame anew.

    Where brightness or background in fact keep from frame to frame, who knows that can do a little better.

    Args:
        table: one row for every emitter and frame, photons and background known.
        emitter_N: (N,) whole numbers from 0: rows with the same one show the same emitter.
        psf, noise_variance, pixel_size: as for ``crlb``.

    Returns:
        Standard deviations in float64, nm, for every row that of its emitter; NaN without light in any frame.
    """
    information_N55 = _information(psf, noise_variance, *_columns(table, pixel_size))
    # What a frame says of the position, its own photons and background unknown: their block is eliminated (Schur).
    place_N33, cross_N32 = information_N55[:, :3, :3], information_N55[:, :3, 3:]
    own_N22 = information_N55[:, 3:, 3:]
    place_N33 = place_N33 - cross_N32 @ torch.linalg.solve(own_N22, cross_N32.transpose(1, 2))
    emitter = torch.as_tensor(emitter_N, dtype=torch.long)
    n_emitters = int(emitter.max()) + 1 if len(emitter) else 0
    sum_M33 = place_N33.new_zeros(n_emitters, 3, 3).index_add_(0, emitter, place_N33)
    x, y, z = _standard_deviations(sum_M33)[emitter].unbind(dim=1)
    return LocationCRLB(x * pixel_size.x_nm, y * pixel_size.y_nm, z)


def _columns(table: EmitterTable, pixel_size: PixelSize) -> tuple[Tensor, ...]:
    """z, photons, background and the position within the pixel, (N,) each."""
    x_px, y_px = pixel_size.to_px(table.x_nm, table.y_nm)
    columns = (table.z_nm, table.photons, table.background, x_px % 1 - 0.5, y_px % 1 - 0.5)
    return tuple(torch.as_tensor(column, dtype=torch.float32) for column in columns)


def crlb_ratios(predicted: EmitterTable, truth: EmitterTable, bound: LocationCRLB) -> dict[str, float]:
    """How near to the bound matched predictions come: ``crlb_ratio_x``, ``crlb_ratio_y``, ``crlb_ratio_z``.

    ``robust_ratio`` of every axis. The plain ratio of RMSE to CRLB would hang on few pairs: on the dimmest,
    whose bound is far beyond the matching radius that cuts their errors off, and on bright ones paired with
    the wrong neighbour. Overlap raises the figures above 1, context from neighbouring frames lowers them.

    Args:
        predicted, truth, bound: row i of each belongs to pair i; ``bound`` from ``table_crlb(truth, …)``
            or ``joint_crlb``.
    """
    ratios = {}
    for axis in ("x", "y", "z"):
        error = getattr(predicted, f"{axis}_nm") - getattr(truth, f"{axis}_nm")
        ratios[f"crlb_ratio_{axis}"] = robust_ratio(error, getattr(bound, f"{axis}_nm").cpu().numpy())
    return ratios


def robust_ratio(error_N: np.ndarray, std_N: np.ndarray) -> float:
    """Median of |error| / standard deviation, divided by the median of |standard normal|: 1 for Gaussian errors of
    these standard deviations; pairs where either is unknown are left out, NaN without any."""
    relative = np.abs(error_N) / std_N
    relative = relative[np.isfinite(relative)]
    return float(np.median(relative)) / _MEDIAN_OF_ABS_NORMAL if len(relative) else math.nan
