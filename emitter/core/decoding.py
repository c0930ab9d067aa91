"""Predicted maps into emitters.

Shape suffixes: N emitters, B images, C channels (6 or more), H rows and W columns of cells.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from emitter.core import channels as ch
from emitter.core.channels import Scaling
from emitter.core.emitters import Emitters
from emitter.core.errors import require


@dataclass(frozen=True)
class Thresholds:
    """When a cell counts as an emitter.

    ``mass``: a local maximum of the probability does when its own and its four neighbours' probability add up to more
    (an emitter near a cell's edge is shared by two cells). ``neighbour``: a cell beside a stronger one does, as a
    second emitter, when its own probability is higher. ``one_cell_each``: for a network that was taught to show every
    emitter in exactly one cell; a cell then stands for itself, when its own probability is higher than ``mass``.
    """

    mass: float = 0.5
    neighbour: float = 0.6
    one_cell_each: bool = False

    def __post_init__(self) -> None:
        for name in ("mass", "neighbour"):
            value = getattr(self, name)
            require(0 < value < 1, f"the threshold '{name}' is {value}: give a number between 0 and 1")


def decode(maps_BCHW: Tensor, scaling: Scaling, thresholds: Thresholds, cell_px: float = 1.0) -> Emitters:
    """Emitters of scaled maps whose first channel holds logits, with probability and background."""
    found_BHW, probability_BHW = _find(torch.sigmoid(maps_BCHW[:, ch.P].float()), thresholds)
    image_N, row_N, column_N = found_BHW.nonzero(as_tuple=True)
    emitters = emitters_at(maps_BCHW, image_N, row_N, column_N, scaling, cell_px)
    return replace(emitters, probability_N=probability_BHW[found_BHW])


def emitters_at(
    maps_BCHW: Tensor,
    image_N: Tensor,
    row_N: Tensor,
    column_N: Tensor,
    scaling: Scaling,
    cell_px: float = 1.0,
) -> Emitters:
    """The emitters that scaled maps hold in these cells, with background, differentiable by the maps.

    Channels after the six are of no account.
    """
    scale_6 = torch.tensor(scaling.per_channel(), device=maps_BCHW.device)
    maps_BHW6 = maps_BCHW[:, : ch.N_CHANNELS].permute(0, 2, 3, 1)
    values_N6 = maps_BHW6[image_N, row_N, column_N].float() * scale_6
    return Emitters(
        n_images=len(maps_BCHW),
        image_N=image_N,
        x_px_N=(column_N + 0.5 + values_N6[:, ch.X]) * cell_px,
        y_px_N=(row_N + 0.5 + values_N6[:, ch.Y]) * cell_px,
        z_nm_N=values_N6[:, ch.Z],
        photons_N=values_N6[:, ch.PHOTONS],
        background_N=values_N6[:, ch.BACKGROUND],
    )


def _find(p_BHW: Tensor, thresholds: Thresholds) -> tuple[Tensor, Tensor]:
    """Which cells are emitters, and the probability of each."""
    if thresholds.one_cell_each:
        return p_BHW > thresholds.mass, p_BHW
    peak_BHW = _peaks(p_BHW)
    second_BHW = ~peak_BHW & (p_BHW > thresholds.neighbour)
    free_BHW = p_BHW * ~(peak_BHW | second_BHW)  # mass that no emitter claims for itself
    # peaks that share a free cell divide its mass in proportion to their own
    claims_BHW = _sum_of_neighbours(p_BHW * peak_BHW)
    share_BHW = _sum_of_neighbours(free_BHW / claims_BHW.clamp(min=1e-6) * (claims_BHW > 0))
    mass_BHW = p_BHW * (1.0 + share_BHW)
    found_BHW = (peak_BHW & (mass_BHW > thresholds.mass)) | second_BHW
    return found_BHW, torch.where(peak_BHW, mass_BHW, p_BHW).clamp(max=1.0)


def _peaks(p_BHW: Tensor) -> Tensor:
    """Local maxima of the 3×3 neighbourhood; of equal neighbours the first in reading order."""
    height, width = p_BHW.shape[1:]
    around = F.pad(p_BHW, (1, 1, 1, 1), value=-1.0)
    peak_BHW = torch.ones_like(p_BHW, dtype=torch.bool)
    for row, column in itertools.product(range(3), range(3)):
        other_BHW = around[:, row : row + height, column : column + width]
        if (row, column) < (1, 1):
            peak_BHW &= p_BHW > other_BHW
        elif (row, column) > (1, 1):
            peak_BHW &= p_BHW >= other_BHW
    return peak_BHW


def _sum_of_neighbours(x_BHW: Tensor) -> Tensor:
    """Sum over the four neighbours."""
    around = F.pad(x_BHW, (1, 1, 1, 1))
    return around[:, :-2, 1:-1] + around[:, 2:, 1:-1] + around[:, 1:-1, :-2] + around[:, 1:-1, 2:]
