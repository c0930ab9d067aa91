"""Predicted maps into emitters.

Shape suffixes: N emitters, B images, H rows and W columns of cells, 6 channels.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    second emitter, when its own probability is higher.
    """

    mass: float = 0.5
    neighbour: float = 0.6

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            require(0 < value < 1, f"the threshold '{name}' is {value}: give a number between 0 and 1")


def decode(maps_B6HW: Tensor, scaling: Scaling, thresholds: Thresholds, cell_px: float = 1.0) -> Emitters:
    """Emitters of scaled maps whose first channel holds logits, with probability and background."""
    p_BHW = torch.sigmoid(maps_B6HW[:, ch.P].float())
    found_BHW, probability_BHW = _find(p_BHW, thresholds)
    image_N, row_N, column_N = found_BHW.nonzero(as_tuple=True)
    scale_6 = torch.tensor(scaling.per_channel(), device=p_BHW.device)
    values_N6 = maps_B6HW.permute(0, 2, 3, 1)[image_N, row_N, column_N].float() * scale_6
    return Emitters(
        n_images=len(p_BHW),
        image_N=image_N,
        x_px_N=(column_N + 0.5 + values_N6[:, ch.X]) * cell_px,
        y_px_N=(row_N + 0.5 + values_N6[:, ch.Y]) * cell_px,
        z_nm_N=values_N6[:, ch.Z],
        photons_N=values_N6[:, ch.PHOTONS],
        background_N=values_N6[:, ch.BACKGROUND],
        probability_N=probability_BHW[found_BHW],
    )


def _find(p_BHW: Tensor, thresholds: Thresholds) -> tuple[Tensor, Tensor]:
    """Which cells are emitters, and the probability of each."""
    peak_BHW = p_BHW >= F.max_pool2d(p_BHW, kernel_size=3, stride=1, padding=1)
    second_BHW = ~peak_BHW & (p_BHW > thresholds.neighbour)
    # only mass that no other emitter claims may be added
    free_BHW = F.pad(p_BHW * ~(peak_BHW | second_BHW), (1, 1, 1, 1))
    vertical = free_BHW[:, :-2, 1:-1] + free_BHW[:, 2:, 1:-1]
    horizontal = free_BHW[:, 1:-1, :-2] + free_BHW[:, 1:-1, 2:]
    mass_BHW = p_BHW + vertical + horizontal
    found_BHW = (peak_BHW & (mass_BHW > thresholds.mass)) | second_BHW
    return found_BHW, torch.where(peak_BHW, mass_BHW, p_BHW).clamp(max=1.0)
