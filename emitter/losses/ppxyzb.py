"""PPXYZB: the loss of the unified six channels.

Channel 0: binary cross-entropy with logits, summed over the image's cells. Photons, x, y, z: squared error (or l1,
smooth l1) of the scaled values, summed over the cells where an emitter is (the weight map ``region``). Background:
squared error, averaged over the image's cells: it is one smooth quantity, measured by every cell. Each is then
averaged over the images and multiplied by its channel's weight.

Summing over cells keeps the balance between detection and regression the same at every density: an emitter costs the
same whether it is alone in the frame or one of a hundred.

Shape suffixes: B images, 6 channels, H rows and W columns of cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from emitter.core import channels as ch
from emitter.core.encoding import Targets
from emitter.core.errors import require


@dataclass(frozen=True)
class ChannelWeights:
    """Weight of every channel's loss."""

    p: float = 1.0
    photons: float = 1.0
    x: float = 1.0
    y: float = 1.0
    z: float = 1.0
    background: float = 1.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            require(value >= 0, f"channel_weights.{name} is {value}: give 0 or more")
        require(
            sum(vars(self).values()) > 0,
            "all channel_weights are 0: give at least one of them a positive weight",
        )

    def per_channel(self) -> tuple[float, ...]:
        """In the order of the channels."""
        return (self.p, self.photons, self.x, self.y, self.z, self.background)


@dataclass(frozen=True)
class PPXYZBSettings:
    """``pos_weight``: weight of an emitter's cell in the cross-entropy. ``regression``: the error of channels 1-5.
    ``region_cells``: 1 trains photons, x, y, z on the emitter's own cell, 3 on its 3×3 neighbourhood."""

    REGRESSIONS: ClassVar[tuple[str, ...]] = ("mse", "smooth_l1", "l1")

    pos_weight: float = 1.0
    regression: Literal["mse", "smooth_l1", "l1"] = "mse"
    region_cells: int = 1

    def __post_init__(self) -> None:
        require(self.pos_weight > 0, f"loss.pos_weight is {self.pos_weight}: give a number above 0")
        known = ", ".join(self.REGRESSIONS)
        require(
            self.regression in self.REGRESSIONS,
            f"loss.regression is '{self.regression}': choose one of {known}",
        )
        require(self.region_cells in (1, 3), f"loss.region_cells is {self.region_cells}: give 1 or 3")


_REGRESSION = {"mse": F.mse_loss, "smooth_l1": F.smooth_l1_loss, "l1": F.l1_loss}


def ppxyzb(maps_B6HW: Tensor, targets: Targets, settings: PPXYZBSettings) -> Tensor:
    """Loss of every image and channel, before the channel weights, (B, 6), in float32."""
    maps = maps_B6HW.float()
    target = targets.maps_B6HW
    pos_weight = torch.tensor(settings.pos_weight, device=maps.device)
    p_BHW = F.binary_cross_entropy_with_logits(
        maps[:, ch.P], target[:, ch.P], pos_weight=pos_weight, reduction="none"
    )
    values = slice(ch.PHOTONS, ch.BACKGROUND + 1)
    error_B5HW = _REGRESSION[settings.regression](maps[:, values], target[:, values], reduction="none")
    regression_B4 = (error_B5HW[:, :-1] * targets.region_B1HW).sum(dim=(2, 3))
    background_B1 = error_B5HW[:, -1:].mean(dim=(2, 3))
    return torch.cat((p_BHW.sum(dim=(1, 2))[:, None], regression_B4, background_B1), dim=1)
