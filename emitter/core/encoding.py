"""Emitters into target maps, at any scale.

The rules: p is 1 in the emitter's own cell and 0 elsewhere. Photons and z are the emitter's, x and y its offset from
the cell's centre. With a 3×3 region the eight neighbours carry the same emitter with offsets to their own centres;
where two regions overlap nobody is right and the weight is 0, and a centre is never overwritten. Of two emitters in
one cell the brighter one is the target; the other is counted as lost.

Shape suffixes: N emitters, B images, H rows and W columns of cells, 6 channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from emitter.core import channels as ch
from emitter.core.channels import Scaling
from emitter.core.emitters import Emitters


@dataclass(frozen=True)
class Targets:
    """Scaled target maps (B, 6, H, W), the regression channels' weight (B, 1, H, W), and the emitters not encoded."""

    maps_B6HW: Tensor
    region_B1HW: Tensor
    n_lost: int


def encode(
    emitters: Emitters, background_BHW: Tensor, scaling: Scaling, cell_px: float = 1.0, region_cells: int = 1
) -> Targets:
    """Target maps of images whose expected background per pixel is ``background_BHW``.

    ``cell_px`` is the side of a cell: 4 for a quarter of the frame's resolution, 0.5 for twice. Frames that it does
    not divide get a last, partial cell. ``region_cells`` is 1 (centres only) or 3. Emitters outside are ignored.
    """
    n_images, height, width = background_BHW.shape
    rows, columns = math.ceil(height / cell_px), math.ceil(width / cell_px)
    inside = emitters.inside(height, width)
    column_N = (inside.x_px_N / cell_px).floor().long().clamp(max=columns - 1)
    row_N = (inside.y_px_N / cell_px).floor().long().clamp(max=rows - 1)
    brightest = _brightest_per_cell((inside.image_N * rows + row_N) * columns + column_N, inside)
    n_lost = len(inside) - len(brightest)
    chosen, row_N, column_N = inside.select(brightest), row_N[brightest], column_N[brightest]

    maps_BHW6 = background_BHW.new_zeros(n_images, rows, columns, ch.N_CHANNELS)
    region_BHW = background_BHW.new_zeros(n_images, rows, columns)
    if region_cells == 3:
        _write_neighbours(maps_BHW6, region_BHW, chosen, row_N, column_N, cell_px)
    _write(maps_BHW6, chosen, row_N, column_N, cell_px)
    region_BHW[chosen.image_N, row_N, column_N] = 1.0
    maps_BHW6[..., ch.P] = 0.0
    maps_BHW6[chosen.image_N, row_N, column_N, ch.P] = 1.0
    maps_BHW6[..., ch.BACKGROUND] = background_at(background_BHW, cell_px)
    maps_B6HW = maps_BHW6.permute(0, 3, 1, 2)
    return Targets(
        maps_B6HW / ch.channel_tensor(scaling.per_channel(), maps_B6HW), region_BHW[:, None], n_lost
    )


def background_at(background_BHW: Tensor, cell_px: float) -> Tensor:
    """Background per pixel averaged over cells, (B, ceil(H / cell), ceil(W / cell))."""
    if cell_px == 1:
        return background_BHW
    if cell_px > 1:
        side = round(cell_px)
        pooled = F.avg_pool2d(background_BHW[:, None], side, ceil_mode=True, count_include_pad=False)
        return pooled[:, 0]
    repeat = round(1 / cell_px)
    return background_BHW.repeat_interleave(repeat, dim=1).repeat_interleave(repeat, dim=2)


def _brightest_per_cell(cell_N: Tensor, emitters: Emitters) -> Tensor:
    """Indices of one emitter per occupied cell. Ties in photons are broken by position: never by the order given."""
    order = torch.arange(len(cell_N), device=cell_N.device)
    for key_N in (emitters.z_nm_N, emitters.y_px_N, emitters.x_px_N, emitters.photons_N, cell_N):
        order = order[torch.argsort(key_N[order], stable=True)]
    sorted_cell_N = cell_N[order]
    last_N = torch.ones_like(sorted_cell_N, dtype=torch.bool)
    last_N[:-1] = sorted_cell_N[1:] != sorted_cell_N[:-1]
    return order[last_N]


def _write(maps_BHW6: Tensor, emitters: Emitters, row_N: Tensor, column_N: Tensor, cell_px: float) -> None:
    """Write the regression channels of one emitter into one cell each (no cell twice)."""
    place = (emitters.image_N, row_N, column_N)
    maps_BHW6[(*place, ch.PHOTONS)] = emitters.photons_N
    maps_BHW6[(*place, ch.X)] = emitters.x_px_N / cell_px - (column_N + 0.5)
    maps_BHW6[(*place, ch.Y)] = emitters.y_px_N / cell_px - (row_N + 0.5)
    maps_BHW6[(*place, ch.Z)] = emitters.z_nm_N


def _write_neighbours(
    maps_BHW6: Tensor, region_BHW: Tensor, emitters: Emitters, row_N: Tensor, column_N: Tensor, cell_px: float
) -> None:
    """Fill the cells that lie in the 3×3 region of exactly one emitter."""
    rows, columns = region_BHW.shape[1:]
    step = torch.arange(-1, 2, device=row_N.device)
    row_N9 = row_N[:, None] + step.repeat_interleave(3)
    column_N9 = column_N[:, None] + step.repeat(3)
    valid_N9 = (row_N9 >= 0) & (row_N9 < rows) & (column_N9 >= 0) & (column_N9 < columns)
    emitter, _ = valid_N9.nonzero(as_tuple=True)
    row_M, column_M = row_N9[valid_N9], column_N9[valid_N9]
    image_M = emitters.image_N[emitter]
    claims_BHW = torch.zeros_like(region_BHW)
    claims_BHW.index_put_((image_M, row_M, column_M), claims_BHW.new_ones(()), accumulate=True)
    alone_M = claims_BHW[image_M, row_M, column_M] == 1
    _write(maps_BHW6, emitters.select(emitter[alone_M]), row_M[alone_M], column_M[alone_M], cell_px)
    region_BHW[claims_BHW == 1] = 1.0
