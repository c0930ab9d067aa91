"""PPXYZB: the loss of the unified six channels.

Channel 0: a detection term, by default the binary cross-entropy with logits summed over the image's cells. Its target
is 0 where no emitter is, and where one is the quality of what the other channels say of it (see quality.py), or 1.
Photons, x, y, z: an error of the scaled values, summed over the cells where an emitter is (the weight map ``region``).
Background: the same, averaged over the image's cells: it is one smooth quantity, measured by every cell.

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
from emitter.losses.quality import quality

_REGRESSION = ("mse", "smooth_l1", "l1")


@dataclass(frozen=True)
class PPXYZBSettings(LossSettings):
    """``regression``: the error of channels 1-5. ``smooth_l1_px``, ``smooth_l1_z_nm``: the error in x or y, and in z,
    from which smooth_l1 grows linearly (in photons and background: one unit of the scaling). ``region_cells``: 1 trains
    photons, x, y, z on the emitter's own cell, 3 on its 3×3 neighbourhood. ``quality_px``, ``quality_z_nm``: lateral
    and axial error at which an emitter's target probability has fallen to exp(−½) = 0.61; a ``quality_px`` of None
    keeps it at 1."""

    kind: ClassVar[str] = "ppxyzb"
    own_detection: ClassVar[bool] = False

    regression: Literal["mse", "smooth_l1", "l1"] = "smooth_l1"
    smooth_l1_px: float = 0.2
    smooth_l1_z_nm: float = 75.0
    region_cells: int = 1
    quality_px: float | None = 0.4
    quality_z_nm: float = 80.0

    def __post_init__(self) -> None:
        known = ", ".join(_REGRESSION)
        require(
            self.regression in _REGRESSION, f"loss.regression is '{self.regression}': choose one of {known}"
        )
        require(self.region_cells in (1, 3), f"loss.region_cells is {self.region_cells}: give 1 or 3")
        require(
            self.quality_px is None or self.quality_px > 0,
            f"loss.quality_px is {self.quality_px}: give pixels above 0, or null",
        )
        for name in ("quality_z_nm", "smooth_l1_px", "smooth_l1_z_nm"):
            value = getattr(self, name)
            require(value > 0, f"loss.{name} is {value}: give a number above 0")

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
        p_BHW = target[:, ch.P]
        if self.settings.quality_px is not None and self.detection.takes_quality:
            p_BHW = p_BHW * quality(maps, target, truth, self.settings.quality_px, self.settings.quality_z_nm)
        p_B = self.detection.loss(maps[:, ch.P], p_BHW, progress)
        error_B5HW = self._error(maps, target, truth)
        # chosen, not multiplied by 0: far from any emitter a prediction's square may be infinite
        regression_B4 = torch.where(targets.region_B1HW > 0, error_B5HW[:, :-1], 0.0).sum(dim=(2, 3))
        background_B1 = error_B5HW[:, -1:].mean(dim=(2, 3))
        return torch.cat((p_B[:, None], regression_B4, background_B1), dim=1)

    def _error(self, maps_B6HW: Tensor, target_B6HW: Tensor, truth: Truth) -> Tensor:
        """Of channels 1-5, (B, 5, H, W)."""
        values = slice(ch.PHOTONS, ch.BACKGROUND + 1)
        predicted, target = maps_B6HW[:, values], target_B6HW[:, values]
        if self.settings.regression == "mse":
            return F.mse_loss(predicted, target, reduction="none")
        if self.settings.regression == "l1":
            return F.l1_loss(predicted, target, reduction="none")
        linear_from_511 = predicted.new_tensor(self._linear_from(truth))[:, None, None]
        ratio = F.smooth_l1_loss(predicted / linear_from_511, target / linear_from_511, reduction="none")
        return ratio * linear_from_511

    def _linear_from(self, truth: Truth) -> tuple[float, ...]:
        """Errors of channels 1-5, scaled, from which smooth_l1 is linear."""
        lateral = self.settings.smooth_l1_px / (truth.scaling.offset_cells * truth.cell_px)
        own = {ch.X: lateral, ch.Y: lateral, ch.Z: self.settings.smooth_l1_z_nm / truth.scaling.z_nm}
        return tuple(own.get(channel, 1.0) for channel in range(ch.PHOTONS, ch.BACKGROUND + 1))
