"""How the expected photons of a frame change with every emitter, pixel by pixel, over the pixels' noise: products of
these slopes, summed over pixels, are Fisher information.

Shape suffixes: N emitters, C parameters of an emitter, L pairs of emitters, B images, H rows, W columns, P patch side,
p pixels of a patch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from emitter.core.emitters import Emitters
from emitter.metrics.crlb import NoiseVariance
from emitter.psf.base import PSF
from emitter.psf.render import add_patches, cut_patches

# Pixels of patches in work at a time, so that they stay in the cache: when slopes are made, and when multiplied.
_CHUNK_PIXELS, _LINKED_PIXELS = 1 << 17, 1 << 16
# photons²: a network may say a background of 0 or less, and no pixel is without noise.
_LEAST_VARIANCE = 0.01


@dataclass(frozen=True)
class NoiseSlopes:
    """The slopes of N emitters by their C parameters: x (px), y (px), z (nm) where it is one of them, photons, and
    last the background; 0 outside of the frame.

    ``flat``: those (N, C, p) in a row, with p zeros more at either end. ``corner_N2``: the patch's first row and
    column.
    """

    flat: Tensor
    corner_N2: Tensor
    side: int

    @classmethod
    def empty(cls, corner_N2: Tensor, n_parameters: int, side: int) -> NoiseSlopes:
        """To be filled."""
        n_pixels = side**2
        flat = torch.empty((len(corner_N2) * n_parameters + 2) * n_pixels)
        flat[:n_pixels] = flat[-n_pixels:] = 0.0
        return cls(flat, corner_N2, side)

    @property
    def slopes_NCp(self) -> Tensor:
        """A view of the slopes."""
        n_pixels = self.side**2
        return self.flat[n_pixels:-n_pixels].view(len(self.corner_N2), -1, n_pixels)

    def own(self) -> Tensor:
        """(N, C, C): what an emitter's patch says of it."""
        return self.slopes_NCp @ self.slopes_NCp.transpose(1, 2)

    def between(self, one_L: Tensor, other_L: Tensor) -> Tensor:
        """(L, C, C): what the pixels that two emitters' patches share say of the parameters of one (rows) and of the
        other (columns).

        A pixel that is the k-th of one patch is the k + shift-th of the other: the other's patch is moved as a whole,
        and what was none of its pixels is multiplied by 0.
        """
        side, slopes_NCp = self.side, self.slopes_NCp
        apart_L2 = self.corner_N2[one_L] - self.corner_N2[other_L]
        place_L2P = apart_L2[:, :, None] + torch.arange(side)
        row_LP, column_LP = ((place_L2P >= 0) & (place_L2P < side)).float().unbind(dim=1)
        n_parameters, n_values = slopes_NCp.shape[1], slopes_NCp[0].numel()
        start_L = other_L * n_values + side**2 + apart_L2[:, 0] * side + apart_L2[:, 1]
        start_L = torch.where((apart_L2.abs() < side).all(dim=1), start_L, 0)
        moved = self.flat.as_strided((len(self.flat) - n_values + 1, n_values), (1, 1))
        information_LCC = torch.empty(len(one_L), n_parameters, n_parameters)
        for part in _parts(len(one_L), _LINKED_PIXELS // side**2):
            shared_Lp = (row_LP[part, :, None] * column_LP[part, None]).flatten(1)
            one_LCp = slopes_NCp.index_select(0, one_L[part]).mul_(shared_Lp[:, None])
            other_LCp = moved.index_select(0, start_L[part]).view_as(one_LCp)
            torch.bmm(one_LCp, other_LCp.transpose(1, 2), out=information_LCC[part])
        return information_LCC


def noise_slopes(
    psf: PSF, noise_variance: NoiseVariance, emitters: Emitters, height: int, width: int, free_z: bool
) -> NoiseSlopes:
    """The slopes at the given values, all images added up.

    Args:
        psf, noise_variance: as for ``emitter.metrics.crlb.crlb``.
        emitters: with background, inside of images of ``height`` × ``width`` pixels.
        free_z: whether z is one of the parameters.
    """
    assert emitters.background_N is not None
    side, margin = psf.patch_px, psf.radius_px
    column_N, row_N = emitters.x_px_N.floor().long(), emitters.y_px_N.floor().long()
    first_N = (emitters.image_N * (height + 2 * margin) + row_N) * (width + 2 * margin) + column_N
    light_BHW = torch.zeros(emitters.n_images, height + 2 * margin, width + 2 * margin)
    parts = _parts(len(emitters), _CHUNK_PIXELS // side**2)
    patches = []
    for part in parts:
        patch_NPP, slope_N3PP = psf.derivatives(
            (emitters.x_px_N[part] - column_N[part] - 0.5).float(),
            (emitters.y_px_N[part] - row_N[part] - 0.5).float(),
            emitters.z_nm_N[part].float(),
        )
        photons_N11 = emitters.photons_N[part].float()[:, None, None]
        add_patches(light_BHW, first_N[part], patch_NPP * photons_N11)
        patches.append((patch_NPP.flatten(1), slope_N3PP.flatten(2), photons_N11))
    inside = torch.nn.functional.pad(torch.ones(height, width), (margin,) * 4) > 0
    light_BHW.masked_fill_(~inside, torch.inf)  # with infinite noise: a pixel there knows nothing
    slopes = NoiseSlopes.empty(torch.stack([row_N, column_N], dim=1), 5 if free_z else 4, side)
    for part, (patch_Np, slope_N3p, photons_N11) in zip(parts, patches, strict=True):
        light_Np = cut_patches(light_BHW, first_N[part], side).flatten(1)
        photons_Np = light_Np.clamp(min=0).add_(emitters.background_N[part].float()[:, None])
        per_noise_Np = noise_variance(photons_Np).clamp_(min=_LEAST_VARIANCE).rsqrt()
        by_NCp = slopes.slopes_NCp[part]
        torch.mul(
            slope_N3p[:, : by_NCp.shape[1] - 2], per_noise_Np[:, None] * photons_N11, out=by_NCp[:, :-2]
        )
        torch.mul(patch_Np, per_noise_Np, out=by_NCp[:, -2])
        by_NCp[:, -1] = per_noise_Np
    return slopes


def _parts(n: int, size: int) -> list[slice]:
    return [slice(start, start + max(1, size)) for start in range(0, n, max(1, size))]
