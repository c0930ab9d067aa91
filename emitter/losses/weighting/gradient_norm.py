"""Weights inverse to each channel's gradient norm at the head's input, so that all pull equally at the backbone.

w ← m·w + (1 − m)·(preset / (norm + eps)), the new term first brought to the preset's sum, then bounded. The norms come
from backward passes through the head alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from emitter.core.errors import require
from emitter.losses.channel_weights import ChannelWeights
from emitter.losses.weighting.base import EPS, Weighting, WeightingSettings, bounded


@dataclass(frozen=True)
class GradientNormSettings(WeightingSettings):
    """``momentum``: share of the old weight that stays, each time the norms are taken (every 20 steps)."""

    kind: ClassVar[str] = "gradient_norm"

    momentum: float = 0.9

    def __post_init__(self) -> None:
        require(
            0 <= self.momentum < 1, f"weighting.momentum is {self.momentum}: give 0 or more and less than 1"
        )

    def build(self, preset: ChannelWeights) -> GradientNormWeighting:
        """The weighting."""
        return GradientNormWeighting(self, preset)


class GradientNormWeighting(Weighting):
    """Follows 1 / gradient norm."""

    norms_every_steps = 20

    def __init__(self, settings: GradientNormSettings, preset: ChannelWeights) -> None:
        super().__init__(preset)
        self.settings = settings

    def on_norms(self, norms_6: Tensor) -> None:
        """One step towards the inverse of the norms; norms that are not finite are left out."""
        if not bool(torch.isfinite(norms_6).all()):
            return
        goal_6 = bounded(self.preset_6 / (norms_6 + EPS), self.preset_6)
        m = self.settings.momentum
        self.weights_6 = bounded(m * self.weights_6 + (1 - m) * goal_6, self.preset_6)
