"""Focal loss (Lin et al. 2017), summed over the cells: the cross-entropy of the cells that are not yet right.

Σ −α_t (1 − p_t)^γ log p_t, where p_t is the probability given to what is there: p and α in an emitter's cell, 1 − p and
1 − α elsewhere. With the margin m = logit in an emitter's cell and −logit elsewhere, log p_t = logsigmoid(m) and
(1 − p_t)^γ = exp(γ logsigmoid(−m)): neither overflows, and no gradient is 0 · ∞ where p_t is 1.

γ = 0 and α = 0.5 is half the cross-entropy. With α = 0.5 a cell's best probability is 0.5 exactly where an emitter is
as likely as not, whatever γ; with the paper's 0.25 that takes a chance of 0.75. Below it, γ > 0 makes probabilities
too high: they order the cells, but are not calibrated. A target between 0 and 1 is the chance of either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from emitter.core.errors import require
from emitter.losses.detection.base import DetectionSettings


@dataclass(frozen=True)
class FocalSettings(DetectionSettings):
    """``gamma``: how strongly cells that are already right are left out; ``alpha``: share of an emitter's cell in the
    weight, the other cells have 1 − alpha."""

    kind: ClassVar[str] = "focal"
    takes_quality: ClassVar[bool] = True

    gamma: float = 2.0
    alpha: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.gamma >= 0, f"detection.gamma is {self.gamma}: give 0 or more")
        require(
            0 < self.alpha < 1,
            f"detection.alpha is {self.alpha}: give a number between 0 and 1, both excluded",
        )

    @property
    def foreground_ratio(self) -> float:
        """Of an emitter's cell, relative to an empty one."""
        return self.alpha / (1 - self.alpha)

    def term(self, logits_B: Tensor, target_B: Tensor, progress: float) -> Tensor:
        """(B,) from (B, …)."""
        there_B = self.alpha * self._cell(logits_B)
        empty_B = (1 - self.alpha) * self._cell(-logits_B)
        return (target_B * there_B + (1 - target_B) * empty_B).flatten(1).sum(dim=1)

    def _cell(self, margin_B: Tensor) -> Tensor:
        return -(self.gamma * F.logsigmoid(-margin_B)).exp() * F.logsigmoid(margin_B)
