"""Dice and the weighted error of the probability together: overlap of the whole image, and every cell's value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from emitter.core.errors import require
from emitter.losses.detection.overlap import DiceSettings
from emitter.losses.detection.weighted import WeightedSettings


@dataclass(frozen=True)
class CombinedSettings(WeightedSettings):
    """``dice_weight`` · ``dice`` with its defaults + ``recon_weight`` · ``weighted`` with its settings, in the same
    units."""

    kind: ClassVar[str] = "combined"

    dice_weight: float = 0.5
    recon_weight: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("dice_weight", "recon_weight"):
            value = getattr(self, name)
            require(value > 0, f"detection.{name} is {value}: give a number above 0")

    def term(self, logits_B: Tensor, target_B: Tensor, progress: float) -> Tensor:
        """(B,) from (B, …)."""
        dice_B = DiceSettings().term(logits_B, target_B, progress)
        weighted_B = super().term(logits_B, target_B, progress)
        return self.dice_weight * dice_B + self.recon_weight * weighted_B
