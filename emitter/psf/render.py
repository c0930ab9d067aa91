"""Expected images of emitters: one local patch each, added into the frames.

Shape suffixes: B images, H rows, W columns, N emitters, P patch side.
"""

from __future__ import annotations

import torch
from torch import Tensor

from emitter.core.emitters import Emitters
from emitter.psf.base import PSF

# Pixels of patches in work at a time: 1 MB of float32 stays in the cache and bounds the memory of a dense
# movie.
_CHUNK_PIXELS = 1 << 18


def render(psf: PSF, emitters: Emitters, height: int, width: int) -> Tensor:
    """Expected photons in every pixel, without background, (B, H, W) float32 with B = ``emitters.n_images``.

    An emitter outside the frame lights the pixels of its patch that lie inside; one whose patch does not
    reach the frame lights none. Positions and photons must be finite.
    """
    r = psf.radius_px
    near_N = (emitters.x_px_N >= -r) & (emitters.x_px_N < width + r)
    near_N &= (emitters.y_px_N >= -r) & (emitters.y_px_N < height + r)
    emitters = emitters.select(near_N)
    # Patches of emitters up to r outside reach 2 r outside: with that margin no patch pixel needs a check.
    padded_H, padded_W = height + 4 * r, width + 4 * r
    padded_BHW = torch.zeros(emitters.n_images, padded_H, padded_W, device=near_N.device)
    step = max(1, _CHUNK_PIXELS // psf.patch_px**2)
    for start in range(0, len(emitters), step):
        part = slice(start, start + step)
        x_px_N, y_px_N = emitters.x_px_N[part].float(), emitters.y_px_N[part].float()
        column_N, row_N = x_px_N.floor(), y_px_N.floor()
        patches_NPP = psf.patches(
            x_px_N - column_N - 0.5, y_px_N - row_N - 0.5, emitters.z_nm_N[part].float()
        )
        patches_NPP *= emitters.photons_N[part].float()[:, None, None]
        first_row_N = emitters.image_N[part] * padded_H + row_N.long() + r
        add_patches(padded_BHW, first_row_N * padded_W + column_N.long() + r, patches_NPP)
    return padded_BHW[:, 2 * r : 2 * r + height, 2 * r : 2 * r + width].contiguous()


def add_patches(images_BHW: Tensor, first_N: Tensor, patches_NPP: Tensor) -> None:
    """Add patches to images in place; ``first_N`` is the flat index of each patch's first pixel."""
    step_P = torch.arange(patches_NPP.shape[-1], device=first_N.device)
    place_NPP = first_N[:, None, None] + (step_P[:, None] * images_BHW.shape[-1] + step_P)
    images_BHW.view(-1).scatter_add_(0, place_NPP.view(-1), patches_NPP.view(-1))


def cut_patches(images_BHW: Tensor, first_N: Tensor, side: int) -> Tensor:
    """The patches (N, side, side) of images that begin at the flat indices ``first_N``."""
    row_NP = first_N[:, None] + torch.arange(side, device=first_N.device) * images_BHW.shape[-1]
    # a patch's row is ``side`` pixels in a row: copied as one piece, many times faster than pixel by pixel
    runs = images_BHW.as_strided((images_BHW.numel() - side + 1, side), (1, 1))
    return runs.index_select(0, row_NP.flatten()).view(-1, side, side)
