"""Weights inverse to the losses: every channel comes to contribute its preset's share.

After every epoch w ← m·w + (1 − m)·(preset / (mean of the last 10 epochs + eps)), the new term first brought to the
preset's sum (otherwise the losses' unit would decide how fast w follows), then bounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from emitter.core.errors import require
from emitter.losses.channel_weights import ChannelWeights
from emitter.losses.weighting.base import EPS, Weighting, WeightingSettings, bounded
from emitter.losses.weighting.history import PartsHistory


@dataclass(frozen=True)
class InverseLossSettings(WeightingSettings):
    """``momentum``: share of the old weight that stays, each epoch."""

    kind: ClassVar[str] = "inverse_loss"
    takes_negative_parts: ClassVar[bool] = False

    momentum: float = 0.9
    window_epochs: int = 10

    def __post_init__(self) -> None:
        require(
            0 <= self.momentum < 1, f"weighting.momentum is {self.momentum}: give 0 or more and less than 1"
        )
        require(self.window_epochs >= 1, f"weighting.window_epochs is {self.window_epochs}: give 1 or more")

    def build(self, preset: ChannelWeights) -> InverseLossWeighting:
        """The weighting."""
        return InverseLossWeighting(self, preset)


class InverseLossWeighting(Weighting):
    """Follows 1 / loss."""

    def __init__(self, settings: InverseLossSettings, preset: ChannelWeights) -> None:
        super().__init__(preset)
        self.settings = settings
        self.history = PartsHistory(settings.window_epochs)

    def on_epoch(self, parts_6: Tensor) -> None:
        """One step towards the inverse of the recent losses."""
        if not self.history.add(parts_6):
            return
        recent_6 = self.history.last(self.settings.window_epochs).clamp(min=0)
        goal_6 = bounded(self.preset_6 / (recent_6 + EPS), self.preset_6)
        m = self.settings.momentum
        self.weights_6 = bounded(m * self.weights_6 + (1 - m) * goal_6, self.preset_6)
