"""The Cramér-Rao bound of emitters in a crowd: each together with those whose images overlap its own.

Fisher information I_jk = Σ_px ∂_jμ ∂_kμ / var(μ) as in ``emitter.metrics.crlb``, with μ the sum of all emitters of the
frame and a background. For every emitter the matrix of itself, its nearest neighbours and its background is inverted:
what its neighbours' unknown positions and photons cost is in its bound. A weak prior keeps the matrix of two emitters
at one place from being singular: nobody looks for an emitter further away than that (a Bayesian bound; Van Trees,
Detection, Estimation and Modulation Theory, 1968).

Shape suffixes: N emitters, K neighbours, B images, H rows, W columns, P patch side, p pixels of a patch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from emitter.core.emitters import Emitters
from emitter.core.units import PixelSize
from emitter.metrics.crlb import CRLB, NoiseVariance
from emitter.psf.base import PSF
from emitter.psf.render import render

MOST_NEIGHBOURS = 4
_CHUNK_BYTES = 1 << 25  # of the neighbours' slopes at a time
_INSIDE_PX = 1e-3
_OWN = 4  # parameters of a neighbour: x, y, z, photons; an emitter's own are followed by the background


@dataclass(frozen=True)
class CrowdedCRLB:
    """The bounds of the same emitters among their neighbours, and each ``alone``."""

    crowded: CRLB
    alone: CRLB


@dataclass(frozen=True)
class _Patches:
    """Of every emitter: slopes (N, 5, p) of the expected photons by x (px), y (px), z (nm), photons and background,
    over the pixel's noise and 0 outside of the frame, so that products of them are information; corner of the patch
    (N, 2) as row and column."""

    slopes_N5p: Tensor
    corner_N2: Tensor
    side: int

    def rows(self, rows: Tensor) -> _Patches:
        """Of some emitters."""
        return _Patches(self.slopes_N5p[rows], self.corner_N2[rows], self.side)


def crowded_crlb(
    psf: PSF,
    noise_variance: NoiseVariance,
    pixel_size: PixelSize,
    emitters: Emitters,
    height: int,
    width: int,
    free_z: bool = True,
    most_neighbours: int = MOST_NEIGHBOURS,
) -> CrowdedCRLB:
    """The bound of every emitter, its neighbours' positions and photons being unknown too.

    Args:
        psf: the PSF model.
        noise_variance: variance in photons² of a pixel with the given expected photons.
        pixel_size: for nm.
        emitters: with photons and background, of images of ``height`` × ``width`` pixels; one outside counts at the
            edge.
        free_z: False when z is known.
        most_neighbours: the nearest so many count; further ones hardly overlap or are behind these.

    Returns:
        Standard deviations, nm and photons, (N,) float64 in the emitters' order: in the crowd, and as if each was
        alone. At most the prior's: a pixel and a half laterally, the PSF's depth axially, the emitter's photons.
    """
    n = len(emitters)
    if n == 0:
        none = torch.zeros(0, dtype=torch.float64)
        return CrowdedCRLB(*(CRLB(none, none, none, none, none) for _ in range(2)))
    low_nm, high_nm = psf.z_range_nm
    emitters = replace(
        emitters,
        x_px_N=emitters.x_px_N.clamp(0, width - _INSIDE_PX),
        y_px_N=emitters.y_px_N.clamp(0, height - _INSIDE_PX),
        z_nm_N=emitters.z_nm_N.clamp(low_nm, high_nm),  # beyond it no PSF depends on z
    )
    patches = _patches(psf, noise_variance, emitters, height, width)
    prior_N5 = _prior_information(psf, emitters)
    if not free_z:
        patches.slopes_N5p[:, 2] = 0.0
    has_z = bool(patches.slopes_N5p[:, 2].any())
    neighbour_NK = _neighbours(emitters, psf.radius_px, most_neighbours)
    variance_N5 = torch.empty(n, 5, dtype=torch.float64)
    own_N55 = _own_information(patches) + torch.diag_embed(prior_N5)
    count_N = (neighbour_NK < n).sum(dim=1)
    links = _Links.of(patches, neighbour_NK)
    for count in count_N.unique().tolist():
        row_M = (count_N == count).nonzero()[:, 0]
        information = _assembled(own_N55, links, row_M, neighbour_NK[row_M, :count])
        variance_N5[row_M] = _inverse_diagonal(information)

    def named(variance_N5: Tensor) -> CRLB:
        x, y, z, photons, background = variance_N5.sqrt().unbind(dim=1)
        z = z if has_z else torch.full_like(z, torch.nan)
        return CRLB(x * pixel_size.x_nm, y * pixel_size.y_nm, z, photons, background)

    return CrowdedCRLB(named(variance_N5), named(_inverse_diagonal(own_N55)))


def _patches(
    psf: PSF, noise_variance: NoiseVariance, emitters: Emitters, height: int, width: int
) -> _Patches:
    assert emitters.background_N is not None
    side = psf.patch_px
    column_N, row_N = emitters.x_px_N.floor().long(), emitters.y_px_N.floor().long()
    patch_NPP, slope_N3PP = psf.derivatives(
        (emitters.x_px_N - column_N - 0.5).float(),
        (emitters.y_px_N - row_N - 0.5).float(),
        emitters.z_nm_N.float(),
    )
    photons_N111 = emitters.photons_N.float()[:, None, None, None]
    slopes = [slope_N3PP * photons_N111, patch_NPP[:, None], torch.ones_like(patch_NPP)[:, None]]
    margin = psf.radius_px
    light_BHW = render(psf, emitters, height, width)
    light_BHW = torch.nn.functional.pad(light_BHW, (margin,) * 4, value=-1.0)  # a pixel outside knows nothing
    step_P = torch.arange(side)
    light_NPP = light_BHW[
        emitters.image_N[:, None, None],
        (row_N[:, None] + step_P)[:, :, None],
        (column_N[:, None] + step_P)[:, None, :],
    ]
    variance_NPP = noise_variance(light_NPP.clamp(min=0) + emitters.background_N.float()[:, None, None])
    one_over_noise_NPP = (light_NPP >= 0) * variance_NPP.rsqrt()
    corner_N2 = torch.stack([row_N, column_N], dim=1)
    return _Patches((torch.cat(slopes, dim=1) * one_over_noise_NPP[:, None]).flatten(2), corner_N2, side)


def _prior_information(psf: PSF, emitters: Emitters) -> Tensor:
    """(N, 5) float64: one over the square of what is believed before a look at the frame."""
    assert emitters.background_N is not None
    depth_nm = psf.z_range_nm[1] - psf.z_range_nm[0]
    lateral = torch.full_like(emitters.photons_N, 1.5)
    believed_N5 = torch.stack(
        [
            lateral,
            lateral,
            torch.full_like(lateral, max(depth_nm, 1.0)),
            emitters.photons_N.clamp(min=1.0),
            emitters.background_N.clamp(min=1.0),
        ],
        dim=1,
    )
    return believed_N5.double() ** -2


def _own_information(patches: _Patches) -> Tensor:
    """(N, 5, 5) float64."""
    return (patches.slopes_N5p @ patches.slopes_N5p.transpose(1, 2)).double()


def _neighbours(emitters: Emitters, reach_px: int, most: int) -> Tensor:
    """(N, K) rows of the nearest emitters of the same image within reach, nearest first; N where there is
    none."""
    far = 4.0 * reach_px + float(max(emitters.x_px_N.abs().max(), emitters.y_px_N.abs().max()))
    place_N3 = torch.stack([emitters.x_px_N, emitters.y_px_N, emitters.image_N * far], dim=1).double().numpy()
    _, found = cKDTree(place_N3).query(place_N3, k=range(1, most + 2), distance_upper_bound=reach_px)
    row_NK = torch.from_numpy(np.asarray(found))
    n = len(emitters)
    itself_NK = row_NK == torch.arange(n)[:, None]  # of several at one place any may come first
    itself_NK[:, -1] |= ~itself_NK.any(dim=1)  # or it is not among the nearest at all: the last makes room
    order_NK = itself_NK.int().argsort(dim=1, stable=True)
    return row_NK.gather(1, order_NK)[:, :most]


@dataclass(frozen=True)
class _Links:
    """Information (L, 5, 5) that ties the five parameters of an emitter to those of another, of higher row, by sorted
    ``key`` (lower row × N + higher row)."""

    key_L: Tensor
    information_L55: Tensor
    n: int

    @classmethod
    def of(cls, patches: _Patches, neighbour_NK: Tensor) -> _Links:
        """Of every emitter with its neighbours, and of these with each other."""
        n, most = neighbour_NK.shape
        group_NM = torch.cat([torch.arange(n)[:, None], neighbour_NK], dim=1)
        pairs = [(group_NM[:, a], group_NM[:, b]) for a in range(most + 1) for b in range(a)]
        one_M, other_M = (torch.cat(side) for side in zip(*pairs, strict=True))
        there_M = torch.maximum(one_M, other_M) < n
        key_M = torch.minimum(one_M, other_M) * n + torch.maximum(one_M, other_M)
        key_L = key_M[there_M].unique()
        step = max(1, _CHUNK_BYTES // (4 * 5 * patches.side**2))
        parts = [torch.zeros(0, 5, 5, dtype=torch.float64)]
        for key in key_L.split(step):
            parts.append(_link(patches.rows(key // n), patches.rows(key % n)))
        return cls(key_L, torch.cat(parts), n)

    def between(self, one_M: Tensor, other_M: Tensor) -> Tensor:
        """(M, 5, 4): of an emitter's own parameters and another's without its background."""
        key_M = torch.minimum(one_M, other_M) * self.n + torch.maximum(one_M, other_M)
        information_M55 = self.information_L55[torch.searchsorted(self.key_L, key_M)]
        turned_M55 = information_M55.transpose(1, 2)
        return torch.where((one_M < other_M)[:, None, None], information_M55, turned_M55)[..., :_OWN]


def _link(one: _Patches, other: _Patches) -> Tensor:
    """(L, 5, 5) float64: Σ over the pixels that both patches hold of the slopes' products."""
    side = one.side
    shift_L2 = one.corner_N2 - other.corner_N2
    step_P = torch.arange(side)
    row_LP, column_LP = shift_L2[:, :1] + step_P, shift_L2[:, 1:] + step_P
    inside_LPP = ((row_LP >= 0) & (row_LP < side))[:, :, None] & ((column_LP >= 0) & (column_LP < side))[
        :, None
    ]
    place_LPP = row_LP.clamp(0, side - 1)[:, :, None] * side + column_LP.clamp(0, side - 1)[:, None]
    place_L5p = place_LPP.flatten(1)[:, None].expand(-1, 5, -1)
    there_L5p = other.slopes_N5p.gather(2, place_L5p) * inside_LPP.flatten(1)[:, None]
    return (one.slopes_N5p @ there_L5p.transpose(1, 2)).double()


def _assembled(own_N55: Tensor, links: _Links, row_M: Tensor, neighbour_MK: Tensor) -> Tensor:
    """(M, 5 + 4 K, 5 + 4 K): the emitter's own parameters first, then those of its K neighbours."""
    n_rows, count = neighbour_MK.shape
    size = 5 + _OWN * count
    full = torch.zeros(n_rows, size, size, dtype=torch.float64)
    full[:, :5, :5] = own_N55[row_M]
    for a in range(count):
        at_a = slice(5 + _OWN * a, 5 + _OWN * (a + 1))
        block_M54 = links.between(row_M, neighbour_MK[:, a])
        full[:, :5, at_a] = block_M54
        full[:, at_a, :5] = block_M54.transpose(1, 2)
        full[:, at_a, at_a] = own_N55[neighbour_MK[:, a], :_OWN, :_OWN]
        for b in range(a):
            at_b = slice(5 + _OWN * b, 5 + _OWN * (b + 1))
            block_M44 = links.between(neighbour_MK[:, a], neighbour_MK[:, b])[:, :_OWN]
            full[:, at_a, at_b] = block_M44
            full[:, at_b, at_a] = block_M44.transpose(1, 2)
    return full


def _inverse_diagonal(information_MQQ: Tensor) -> Tensor:
    """(M, 5): the first five of the inverse's diagonal."""
    scale_MQ = information_MQQ.diagonal(dim1=1, dim2=2).sqrt()
    unit_MQQ = information_MQQ / (scale_MQ[:, :, None] * scale_MQ[:, None, :])
    variance_MQ = torch.linalg.inv(unit_MQQ).diagonal(dim1=1, dim2=2) / scale_MQ**2
    return variance_MQ[:, :5]
