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
    canvas = torch.zeros(emitters.n_images * padded_H * padded_W, device=near_N.device)
    row_P = torch.arange(psf.patch_px, device=near_N.device)
    offset_PP = row_P[:, None] * padded_W + row_P
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
        first_N = first_row_N * padded_W + column_N.long() + r
        place_NPP = first_N[:, None, None] + offset_PP
        canvas.scatter_add_(0, place_NPP.view(-1), patches_NPP.view(-1))
    padded_BHW = canvas.view(emitters.n_images, padded_H, padded_W)
    return padded_BHW[:, 2 * r : 2 * r + height, 2 * r : 2 * r + width].contiguous()
