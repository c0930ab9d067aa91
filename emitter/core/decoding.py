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

_NEIGHBOURS = ((-1, 0), (1, 0), (0, -1), (0, 1))  # rows down, columns right
_AVERAGED = ("x_px_N", "y_px_N", "z_nm_N", "photons_N", "background_N", "sigma_N4")


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
    """Emitters of scaled maps whose first channel holds logits, with probability and background.

    Where the probability of one emitter is spread over several cells, each of them says where it is if it is in that
    cell: the emitter's values are their mean, weighted by the probability. A cell alone would draw localizations
    towards its centre. So it is with the standard deviations of a network that has channels for them.
    """
    p_BHW = torch.sigmoid(maps_BCHW[:, ch.P].float())
    found_BHW, share_B4HW = _find(p_BHW, thresholds)
    image_N, row_N, column_N = found_BHW.nonzero(as_tuple=True)
    own_N, share_N4 = p_BHW[found_BHW], share_B4HW.permute(0, 2, 3, 1)[found_BHW]
    mass_N = own_N + share_N4.sum(dim=1)
    emitters = emitters_at(maps_BCHW, image_N, row_N, column_N, scaling, cell_px)
    values = {name: getattr(emitters, name) for name in _AVERAGED if getattr(emitters, name) is not None}
    height, width = p_BHW.shape[1:]
    for share_N, (down, right) in zip(share_N4.unbind(dim=1), _NEIGHBOURS, strict=True):
        # where there is no such neighbour its share is 0 and any cell will do
        row, column = (row_N + down).clamp(0, height - 1), (column_N + right).clamp(0, width - 1)
        there = emitters_at(maps_BCHW, image_N, row, column, scaling, cell_px)
        for name in values:
            own, other = getattr(emitters, name), getattr(there, name)
            share, mass = (one_N.view(-1, *[1] * (own.dim() - 1)) for one_N in (share_N, mass_N))
            values[name] = values[name] + torch.where(share > 0, (other - own) * share / mass, 0.0)
    return replace(emitters, **values, probability_N=mass_N.clamp(max=1.0))


def emitters_at(
    maps_BCHW: Tensor,
    image_N: Tensor,
    row_N: Tensor,
    column_N: Tensor,
    scaling: Scaling,
    cell_px: float = 1.0,
) -> Emitters:
    """The emitters that scaled maps hold in these cells, with background, differentiable by the maps; with standard
    deviations where the maps have channels for them."""
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
        sigma_N4=_sigmas_at(maps_BCHW, image_N, row_N, column_N, scaling, cell_px),
    )


def _sigmas_at(
    maps_BCHW: Tensor, image_N: Tensor, row_N: Tensor, column_N: Tensor, scaling: Scaling, cell_px: float
) -> Tensor | None:
    """Standard deviations of x, y (px), z (nm) and photons in these cells, (N, 4); None without channels for them."""
    if maps_BCHW.shape[1] <= ch.N_CHANNELS:
        return None
    raw_N4 = maps_BCHW[:, ch.SIGMAS].permute(0, 2, 3, 1)[image_N, row_N, column_N]
    of = dict(zip(ch.REGRESSION, ch.sigmas(raw_N4.float()).unbind(dim=1), strict=True))
    scale = scaling.per_channel()
    x, y, z, photons = (of[channel] * scale[channel] for channel in (ch.X, ch.Y, ch.Z, ch.PHOTONS))
    return torch.stack([x * cell_px, y * cell_px, z, photons], dim=1)


def _find(p_BHW: Tensor, thresholds: Thresholds) -> tuple[Tensor, Tensor]:
    """Which cells are emitters, and how much of each neighbour's probability is theirs, (B, 4, H, W)."""
    if thresholds.one_cell_each:
        return p_BHW > thresholds.mass, p_BHW.new_zeros(len(p_BHW), 4, *p_BHW.shape[1:])
    peak_BHW = _peaks(p_BHW)
    second_BHW = ~peak_BHW & (p_BHW > thresholds.neighbour)
    free_BHW = p_BHW * ~(peak_BHW | second_BHW)  # mass that no emitter claims for itself
    # peaks that share a free cell divide its mass in proportion to their own
    claim_BHW = p_BHW * peak_BHW
    claims_BHW = _neighbours(claim_BHW).sum(dim=1)
    per_claim_BHW = free_BHW / claims_BHW.clamp(min=1e-6) * (claims_BHW > 0)
    share_B4HW = _neighbours(per_claim_BHW) * claim_BHW[:, None]
    found_BHW = (peak_BHW & (p_BHW + share_B4HW.sum(dim=1) > thresholds.mass)) | second_BHW
    return found_BHW, share_B4HW


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


def _neighbours(x_BHW: Tensor) -> Tensor:
    """What the four neighbours of every cell hold, (B, 4, H, W), 0 outside."""
    height, width = x_BHW.shape[1:]
    around = F.pad(x_BHW, (1, 1, 1, 1))
    return torch.stack(
        [around[:, 1 + down : 1 + down + height, 1 + right :][..., :width] for down, right in _NEIGHBOURS],
        dim=1,
    )
