"""PPXYZB: the loss of the unified six channels.

Channel 0: a detection term, by default the binary cross-entropy with logits summed over the image's cells. Photons,
x, y, z: squared error (or l1, smooth l1) of the scaled values, summed over the cells where an emitter is (the weight
map ``region``). Background: squared error, averaged over the image's cells: it is one smooth quantity, measured by
every cell.

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
from emitter.core.errors import require
from emitter.losses.base import Loss, LossSettings, Truth
from emitter.losses.detection.base import DetectionSettings

_REGRESSION = {"mse": F.mse_loss, "smooth_l1": F.smooth_l1_loss, "l1": F.l1_loss}


@dataclass(frozen=True)
class PPXYZBSettings(LossSettings):
    """``regression``: the error of channels 1-5. ``region_cells``: 1 trains photons, x, y, z on the emitter's own
    cell, 3 on its 3×3 neighbourhood."""

    kind: ClassVar[str] = "ppxyzb"
    own_detection: ClassVar[bool] = False

    regression: Literal["mse", "smooth_l1", "l1"] = "mse"
    region_cells: int = 1

    def __post_init__(self) -> None:
        known = ", ".join(_REGRESSION)
        require(
            self.regression in _REGRESSION, f"loss.regression is '{self.regression}': choose one of {known}"
        )
        require(self.region_cells in (1, 3), f"loss.region_cells is {self.region_cells}: give 1 or 3")

    def build(self, detection: DetectionSettings) -> PPXYZB:
        """The loss for one scale."""
        return PPXYZB(self, detection)


class PPXYZB(Loss):
    """Detection term, regression in the emitters' regions, background everywhere."""

    def __init__(self, settings: PPXYZBSettings, detection: DetectionSettings) -> None:
        super().__init__()
        self.settings = settings
        self.detection = detection

    def forward(self, maps_B6HW: Tensor, truth: Truth, progress: float) -> Tensor:
        """(B, 6)."""
        maps = maps_B6HW.float()
        targets = truth.targets(self.settings.region_cells)
        target = targets.maps_B6HW
        p_B = self.detection.loss(maps[:, ch.P], target[:, ch.P], progress)
        values = slice(ch.PHOTONS, ch.BACKGROUND + 1)
        error_B5HW = _REGRESSION[self.settings.regression](
            maps[:, values], target[:, values], reduction="none"
        )
        # chosen, not multiplied by 0: far from any emitter a prediction's square may be infinite
        regression_B4 = torch.where(targets.region_B1HW > 0, error_B5HW[:, :-1], 0.0).sum(dim=(2, 3))
        background_B1 = error_B5HW[:, -1:].mean(dim=(2, 3))
        return torch.cat((p_B[:, None], regression_B4, background_B1), dim=1)
