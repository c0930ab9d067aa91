"""From the cross-entropy to Dice over the training: λ(t) · CE + (1 − λ(t)) · Dice, λ linear from 1 to 0.

The cross-entropy has a slope wherever a cell is wrong and finds the emitters; Dice then trades false positives against
missed emitters over the whole image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from emitter.core.errors import require
from emitter.losses.detection.bce import BCESettings
from emitter.losses.detection.overlap import DiceSettings


@dataclass(frozen=True)
class CEToDiceSettings(BCESettings):
    """``bce`` with its settings until ``begin``, ``dice`` with its defaults from ``end`` on, both as fractions of the
    training; linear in between."""

    kind: ClassVar[str] = "ce_to_dice"
    takes_quality: ClassVar[bool] = False  # an overlap's best probability is 0 or 1

    begin: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            0 <= self.begin < self.end <= 1,
            f"detection.begin is {self.begin} and detection.end {self.end}: give fractions of the training, 0 to 1, "
            "begin before end",
        )

    def cross_entropy_share(self, progress: float) -> float:
        """λ: 1 until ``begin``, 0 from ``end`` on."""
        return 1 - min(max((progress - self.begin) / (self.end - self.begin), 0.0), 1.0)

    def term(self, logits_B: Tensor, target_B: Tensor, progress: float) -> Tensor:
        """(B,) from (B, …)."""
        share = self.cross_entropy_share(progress)
        bce_B = super().term(logits_B, target_B, progress)
        dice_B = DiceSettings().term(logits_B, target_B, progress)
        return share * bce_B + (1 - share) * dice_B
