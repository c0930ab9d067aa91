"""Emitters and the cells that may stand for them: every cell of an emitter's neighbourhood, as flat pairs.

A target map has room for one emitter in a cell; a list of pairs keeps all of them, and a loss that works on it costs
the same whatever the frame's size. Geometry as in ``encoding``: x and y are offsets from the pair's own cell.

Shape suffixes: M pairs (of all images of the batch, flat), N emitters inside, B images, C channels, H rows and W
columns of cells, 4 values (photons, x, y, z).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from emitter.core import channels as ch
from emitter.core.channels import Scaling
from emitter.core.emitters import Emitters


@dataclass(frozen=True)
class Candidates:
    """Pairs of an emitter and a cell. ``emitters`` are those inside the frame; ``emitter_M`` counts among them.

    ``values_M4`` is what the maps' channels ``ch.REGRESSION`` should hold in that cell, scaled;
    ``distance_cells_M`` goes from the emitter to the cell's centre.
    """

    emitters: Emitters
    n_rows: int
    n_columns: int
    emitter_M: Tensor
    image_M: Tensor
    row_M: Tensor
    column_M: Tensor
    values_M4: Tensor
    distance_cells_M: Tensor

    def __len__(self) -> int:
        return len(self.emitter_M)

    @property
    def n_cells(self) -> int:
        """Of all images."""
        return self.emitters.n_images * self.n_rows * self.n_columns

    @property
    def cell_M(self) -> Tensor:
        """Flat index of each pair's cell among all images' cells."""
        return (self.image_M * self.n_rows + self.row_M) * self.n_columns + self.column_M

    def within(self, reach_cells: float) -> Candidates:
        """The pairs that are at most ``reach_cells`` apart."""
        near_M = self.distance_cells_M <= reach_cells
        changed = {name: value[near_M] for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **changed)  # type: ignore[arg-type]

    def predicted(self, maps_BCHW: Tensor) -> Tensor:
        """What the maps say in each pair's cell, (M, C)."""
        return maps_BCHW.permute(0, 2, 3, 1).flatten(0, 2).index_select(0, self.cell_M)

    def per_image(self, values_M: Tensor) -> Tensor:
        """Sums over the pairs of each image, (B, …) from (M, …)."""
        sums_B = values_M.new_zeros(self.emitters.n_images, *values_M.shape[1:])
        return sums_B.index_add(0, self.image_M, values_M)


def candidates(
    emitters: Emitters,
    height: int,
    width: int,
    scaling: Scaling,
    cell_px: float = 1.0,
    radius_cells: int = 1,
) -> Candidates:
    """The (2·radius + 1)² cells around each emitter of frames of ``height`` × ``width`` pixels.

    Emitters outside the frame are ignored, cells outside the map left out; every emitter keeps its own cell at least.
    """
    n_rows, n_columns = math.ceil(height / cell_px), math.ceil(width / cell_px)
    inside = emitters.inside(height, width)
    x_N, y_N = inside.x_px_N / cell_px, inside.y_px_N / cell_px
    own_column_N = x_N.floor().long().clamp(max=n_columns - 1)
    own_row_N = y_N.floor().long().clamp(max=n_rows - 1)
    side = 2 * radius_cells + 1
    step = torch.arange(-radius_cells, radius_cells + 1, device=x_N.device)
    row_NK = own_row_N[:, None] + step.repeat_interleave(side)
    column_NK = own_column_N[:, None] + step.repeat(side)
    valid_NK = (row_NK >= 0) & (row_NK < n_rows) & (column_NK >= 0) & (column_NK < n_columns)
    emitter_M = valid_NK.nonzero()[:, 0]
    row_M, column_M = row_NK[valid_NK], column_NK[valid_NK]
    dx_M = x_N[emitter_M] - (column_M + 0.5)
    dy_M = y_N[emitter_M] - (row_M + 0.5)
    values = {
        ch.PHOTONS: inside.photons_N[emitter_M],
        ch.X: dx_M,
        ch.Y: dy_M,
        ch.Z: inside.z_nm_N[emitter_M],
    }
    scale = scaling.per_channel()
    values_M4 = torch.stack([values[channel] / scale[channel] for channel in ch.REGRESSION], dim=1)
    return Candidates(
        inside,
        n_rows,
        n_columns,
        emitter_M,
        inside.image_N[emitter_M],
        row_M,
        column_M,
        values_M4,
        torch.hypot(dx_M, dy_M),
    )


def softmax_within(values_M: Tensor, group_M: Tensor, n_groups: int, other: float = -math.inf) -> Tensor:
    """Softmax over the members of each group, (M,); every group has one more member, of value ``other``."""
    largest_G = values_M.new_full((n_groups,), other).scatter_reduce(0, group_M, values_M, "amax")
    exponential_M = (values_M - largest_G[group_M]).exp()
    sums_G = (other - largest_G).exp().index_add(0, group_M, exponential_M)
    return exponential_M / sums_G[group_M]
