"""Cross-entropy and Dice together: the one says how sure to be in each cell, the other looks at the whole image.

The published weights of 0.3 and 0.7 stall near 0.6: start at 0.5 and 0.5. Dice alone is slow to raise a missed emitter,
since its slope along a logit goes with p (1 − p), which is nearly 0 at first; the cross-entropy's is 1 − p.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from emitter.core.errors import require
from emitter.losses.detection.bce import BCESettings
from emitter.losses.detection.overlap import DiceSettings


@dataclass(frozen=True)
class BCEDiceSettings(BCESettings):
    """``bce_weight`` · ``bce`` with its settings + ``dice_weight`` · ``dice`` with its defaults, in the same units."""

    kind: ClassVar[str] = "bce_dice"
    takes_quality: ClassVar[bool] = False  # an overlap's best probability is 0 or 1

    bce_weight: float = 0.5
    dice_weight: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("bce_weight", "dice_weight"):
            value = getattr(self, name)
            require(value > 0, f"detection.{name} is {value}: give a number above 0")

    def term(self, logits_B: Tensor, target_B: Tensor, progress: float) -> Tensor:
        """(B,) from (B, …)."""
        bce_B = super().term(logits_B, target_B, progress)
        dice_B = DiceSettings().term(logits_B, target_B, progress)
        return self.bce_weight * bce_B + self.dice_weight * dice_B
