"""Binary cross-entropy with logits, summed over the cells: an emitter costs the same at every density.

Counted from its least: a target between 0 and 1 has an entropy that no prediction can take away, and what is left is
0 at best, whatever the targets. For targets of 0 and 1 there is nothing to take off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from emitter.core.errors import require
from emitter.losses.detection.base import DetectionSettings


@dataclass(frozen=True)
class BCESettings(DetectionSettings):
    """``pos_weight``: weight of an emitter's cell; 1 keeps the probability the mean of its targets."""

    kind: ClassVar[str] = "bce"
    takes_quality: ClassVar[bool] = True

    pos_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.pos_weight > 0, f"detection.pos_weight is {self.pos_weight}: give a number above 0")

    @property
    def foreground_ratio(self) -> float:
        """Of an emitter's cell."""
        return self.pos_weight

    def term(self, logits_B: Tensor, target_B: Tensor, progress: float) -> Tensor:
        """(B,) from (B, …)."""
        pos_weight = logits_B.new_tensor(self.pos_weight)
        cells = F.binary_cross_entropy_with_logits(
            logits_B, target_B, pos_weight=pos_weight, reduction="none"
        )
        weighted_B = self.pos_weight * target_B
        least = torch.special.entr  # −t log t
        cells = cells - (least(weighted_B) + least(1 - target_B) - least(weighted_B + 1 - target_B))
        return cells.flatten(1).sum(dim=1)
