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

_CHUNK_PIXELS = 1 << 17  # of patches at a time: some five arrays of them stay in the cache


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
        other (columns)."""
        n_parameters = self.slopes_NCp.shape[1]
        information_LCC = torch.empty(len(one_L), n_parameters, n_parameters)
        for part in torch.arange(len(one_L)).split(max(1, _CHUNK_PIXELS // self.side**2)):
            self._between(one_L[part], other_L[part], information_LCC[part[0] : part[-1] + 1])
        return information_LCC

    def _between(self, one_L: Tensor, other_L: Tensor, out_LCC: Tensor) -> None:
        """A pixel that is the k-th of one patch is the k + shift-th of the other: every patch is moved as a whole, and
        what was none of the other's pixels is multiplied by 0."""
        side, slopes_NCp = self.side, self.slopes_NCp
        apart_L2 = self.corner_N2[one_L] - self.corner_N2[other_L]
        place_L2P = apart_L2[:, :, None] + torch.arange(side)
        shared_L2P = ((place_L2P >= 0) & (place_L2P < side)).float()
        shared_LPP = shared_L2P[:, 0, :, None] * shared_L2P[:, 1, None, :]
        one_LCp = slopes_NCp.index_select(0, one_L).mul_(shared_LPP.flatten(1)[:, None])
        n_values = slopes_NCp[0].numel()
        moved = self.flat.as_strided((len(self.flat) - n_values + 1, n_values), (1, 1))
        start_L = other_L * n_values + side**2 + apart_L2[:, 0] * side + apart_L2[:, 1]
        start_L = torch.where((apart_L2.abs() < side).all(dim=1), start_L, 0)
        other_LCp = moved.index_select(0, start_L).view_as(one_LCp)
        torch.bmm(one_LCp, other_LCp.transpose(1, 2), out=out_LCC)


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
    slopes = NoiseSlopes.empty(torch.stack([row_N, column_N], dim=1), 5 if free_z else 4, side)
    pitch = width + 2 * margin
    first_N = (emitters.image_N * (height + 2 * margin) + row_N) * pitch + column_N
    light_BHW = torch.zeros(emitters.n_images, height + 2 * margin, pitch)
    parts = torch.arange(len(emitters)).split(max(1, _CHUNK_PIXELS // side**2))
    for part in parts:
        photons_N11 = emitters.photons_N[part].float()[:, None, None]
        patch_NPP, slope_N3PP = psf.derivatives(
            (emitters.x_px_N[part] - column_N[part] - 0.5).float(),
            (emitters.y_px_N[part] - row_N[part] - 0.5).float(),
            emitters.z_nm_N[part].float(),
        )
        of_part = slopes.slopes_NCp[part[0] : part[-1] + 1]
        torch.mul(slope_N3PP.flatten(2)[:, : of_part.shape[1] - 2], photons_N11, out=of_part[:, :-2])
        of_part[:, -2] = patch_NPP.flatten(1)
        add_patches(light_BHW, first_N[part], patch_NPP * photons_N11)
    for outside in (light_BHW[:, :margin], light_BHW[:, margin + height :]):
        outside.fill_(-1.0)  # a pixel there knows nothing
    for outside in (light_BHW[:, :, :margin], light_BHW[:, :, margin + width :]):
        outside.fill_(-1.0)
    for part in parts:
        light_Np = cut_patches(light_BHW, first_N[part], side).flatten(1)
        photons_Np = light_Np.clamp(min=0) + emitters.background_N[part].float()[:, None]
        one_over_noise_Np = noise_variance(photons_Np).rsqrt() * (light_Np >= 0)
        of_part = slopes.slopes_NCp[part[0] : part[-1] + 1]
        of_part[:, :-1] *= one_over_noise_Np[:, None]
        of_part[:, -1] = one_over_noise_Np
    return slopes
