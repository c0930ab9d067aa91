"""Weighted error of the probability, summed over the cells: in the units of the cross-entropy, one per emitter.

Σ w_j |p_j − t_j| or Σ w_j (p_j − t_j)², where w_j is the foreground's weight where the target t_j exceeds the threshold
and the background's elsewhere. With the square, the best probability of a cell that holds an emitter with chance η is
f η / (f η + b (1 − η)): calibrated for f = b, too high for f > b, so that an emitter near a cell's edge is found in
both cells. With the absolute value it is 0 or 1, whichever is likelier after weighting: where most cells are empty, f
must be many times b for anything to be found at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from emitter.core.errors import require
from emitter.losses.detection.base import DetectionSettings

_ERRORS = {"l1": F.l1_loss, "mse": F.mse_loss}


@dataclass(frozen=True)
class WeightedSettings(DetectionSettings):
    """``foreground_weight``: of cells whose target exceeds ``threshold``, what a missed emitter costs;
    ``background_weight``: of the others. ``error``: of the probability, l1 or mse."""

    kind: ClassVar[str] = "weighted"

    foreground_weight: float = 5.0
    background_weight: float = 1.0
    threshold: float = 0.5
    error: Literal["l1", "mse"] = "mse"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("foreground_weight", "background_weight"):
            value = getattr(self, name)
            require(value > 0, f"detection.{name} is {value}: give a number above 0")
        require(
            0 <= self.threshold < 1,
            f"detection.threshold is {self.threshold}: give a number from 0 to below 1",
        )
        require(
            self.error in _ERRORS, f"detection.error is '{self.error}': choose one of {', '.join(_ERRORS)}"
        )

    @property
    def foreground_ratio(self) -> float:
        """Of an emitter's cell to an empty one."""
        return self.foreground_weight / self.background_weight

    def term(self, logits_B: Tensor, target_B: Tensor, progress: float) -> Tensor:
        """(B,) from (B, …)."""
        weight_B = torch.where(target_B > self.threshold, self.foreground_weight, self.background_weight)
        cells_B = weight_B * _ERRORS[self.error](torch.sigmoid(logits_B), target_B, reduction="none")
        return cells_B.flatten(1).sum(dim=1)
