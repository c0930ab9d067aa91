"""The Cramér-Rao bound of emitters in a crowd: each together with those whose images overlap its own.

Fisher information I_jk = Σ_px ∂_jμ ∂_kμ / var(μ) as in ``emitter.metrics.crlb``, with μ the sum of all emitters of the
frame and a background. For every emitter the matrix of itself, its nearest neighbours and its background is inverted:
what its neighbours' unknown positions and photons cost is in its bound. A weak prior keeps the matrix of two emitters
at one place from being singular: nobody looks for an emitter further away than that (a Bayesian bound; Van Trees,
Detection, Estimation and Modulation Theory, 1968).

Shape suffixes: N emitters, K neighbours, M members of an emitter's group (its neighbours and itself), X pairs of
members, L pairs of emitters, R emitters and pairs, G groups of equal size, C parameters of an emitter, Q of
a group, f of an emitter without the background, squared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from emitter.core.emitters import Emitters
from emitter.core.threads import one_thread
from emitter.core.units import PixelSize
from emitter.metrics.crlb import CRLB, NoiseVariance
from emitter.metrics.noise_slopes import NoiseSlopes, noise_slopes
from emitter.psf.base import PSF

MOST_NEIGHBOURS = 4
_INSIDE_PX = 1e-3
_ROUNDING = 2e-6  # of float32 sums: so much more information on the diagonal keeps every matrix positive


@dataclass(frozen=True)
class CrowdedCRLB:
    """The bounds of the same emitters among their neighbours, and each ``alone``."""

    crowded: CRLB
    alone: CRLB


@one_thread()
def crowded_crlb(
    psf: PSF,
    noise_variance: NoiseVariance,
    pixel_size: PixelSize,
    emitters: Emitters,
    height: int,
    width: int,
    free_z: bool = True,
    most_neighbours: int = MOST_NEIGHBOURS,
    reach_px: int | None = None,
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
        reach_px: and those as near as this; None: as the PSF's patches reach.

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
    free_z = free_z and high_nm > low_nm
    slopes = noise_slopes(psf, noise_variance, emitters, height, width, free_z)
    own_NCC = _with_prior(slopes.own(), psf, emitters, free_z)
    alone_NC = _variances(own_NCC.double(), own_NCC.shape[-1])
    reach_px = psf.radius_px if reach_px is None else reach_px
    crowded_NC = _crowded(slopes, own_NCC, _neighbours(emitters, reach_px, most_neighbours))

    def named(variance_NC: Tensor) -> CRLB:
        x, y, *z, photons, background = variance_NC.sqrt().unbind(dim=1)
        depth = z[0] if free_z else torch.full_like(x, torch.nan)
        return CRLB(x * pixel_size.x_nm, y * pixel_size.y_nm, depth, photons, background)

    return CrowdedCRLB(named(crowded_NC), named(alone_NC))


def _with_prior(own_NCC: Tensor, psf: PSF, emitters: Emitters, free_z: bool) -> Tensor:
    """(N, C, C): with one over the square of what is believed before a look at the frame."""
    assert emitters.background_N is not None
    lateral_N = torch.full_like(emitters.photons_N, 1.5)
    depth_nm = max(psf.z_range_nm[1] - psf.z_range_nm[0], 1.0)
    believed = [lateral_N, lateral_N]
    believed += [torch.full_like(lateral_N, depth_nm)] if free_z else []
    believed += [emitters.photons_N.clamp(min=1.0), emitters.background_N.clamp(min=1.0)]
    diagonal_NC = own_NCC.diagonal(dim1=1, dim2=2)
    diagonal_NC += diagonal_NC * _ROUNDING + torch.stack(believed, dim=1) ** -2
    return own_NCC


def _crowded(slopes: NoiseSlopes, own_NCC: Tensor, neighbour_NK: Tensor) -> Tensor:
    """(N, C): variances of every emitter's parameters, its neighbours' photons and positions being unknown too."""
    n, most = neighbour_NK.shape
    links = _Links.of(slopes, own_NCC, torch.cat([neighbour_NK, torch.arange(n)[:, None]], dim=1))
    variance_NC = torch.empty(own_NCC.shape[:2], dtype=torch.float64)
    count_N = (neighbour_NK < n).sum(dim=1)
    for count in count_N.unique().tolist():
        row_G = (count_N == count).nonzero()[:, 0]
        information_GQQ = links.assembled(row_G, [*range(count), most])
        variance_NC[row_G] = _variances(information_GQQ, own_NCC.shape[-1])
    return variance_NC


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
    """Information on the parameters of two members of an emitter's group (its neighbours, and last itself).

    ``information_RCC``: of every emitter, and of every pair that some group holds, once and turned; ``inner_Rf``: the
    same without the background, flat. ``place_NMM``: where in them a group's are, with the first member's parameters as
    the rows; above the diagonal anywhere.
    """

    information_RCC: Tensor
    inner_Rf: Tensor
    place_NMM: Tensor

    @classmethod
    def of(cls, slopes: NoiseSlopes, own_NCC: Tensor, member_NM: Tensor) -> _Links:
        """Of groups, N standing for nobody."""
        n, m = member_NM.shape
        one_X, other_X = torch.tril_indices(m, m, -1)
        one_NX, other_NX = member_NM[:, one_X], member_NM[:, other_X]
        low_NX, high_NX = torch.minimum(one_NX, other_NX), torch.maximum(one_NX, other_NX)
        key_L, link_NX = torch.where(high_NX < n, low_NX * n + high_NX, -1).unique(return_inverse=True)
        between_LCC = slopes.between(key_L.clamp(min=0) // n, key_L.clamp(min=0) % n)
        place_NMM = member_NM.clamp(max=n - 1)[:, :, None].repeat(1, 1, m)
        place_NMM[:, one_X, other_X] = n + link_NX + len(key_L) * (one_NX > other_NX)
        information_RCC = torch.cat([own_NCC, between_LCC, between_LCC.transpose(1, 2)])
        return cls(information_RCC, information_RCC[:, :-1, :-1].flatten(1), place_NMM)

    def assembled(self, row_G: Tensor, named: list[int]) -> Tensor:
        """(G, Q, Q) float64, of which the lower half holds: the information of the groups of these emitters, of the
        named members of each, the emitter itself, with its background, last."""
        member = torch.tensor(named)
        place_GMM = self.place_NMM.index_select(0, row_G).index_select(1, member).index_select(2, member)
        g, m, _ = place_GMM.shape
        last = self.information_RCC.shape[-1] - 1  # the background, of the emitter itself alone
        full_GQQ = torch.zeros(g, m * last + 1, m * last + 1, dtype=torch.float64)
        blocks = self.inner_Rf.index_select(0, place_GMM.flatten()).view(g, m, m, last, last)
        full_GQQ[:, :-1, :-1].unflatten(2, (m, last)).unflatten(1, (m, last)).copy_(blocks.transpose(2, 3))
        rows = self.information_RCC[:, last].index_select(0, place_GMM[:, -1].flatten()).view(g, m, last + 1)
        full_GQQ[:, -1, :-1] = rows[:, :, :last].flatten(1)
        full_GQQ[:, -1, -1] = rows[:, -1, last]
        return full_GQQ


def _variances(information_GQQ: Tensor, n_last: int) -> Tensor:
    """(G, n_last): of the last parameters. From the lower half of their information."""
    factor_GQQ = torch.linalg.cholesky(information_GQQ)
    last_GCC = factor_GQQ[:, -n_last:, -n_last:]  # its inverse is the last block of the whole's
    one = torch.eye(n_last, dtype=torch.float64).expand_as(last_GCC)
    return torch.linalg.solve_triangular(last_GCC, one, upper=False).square().sum(dim=1)
