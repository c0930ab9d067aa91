"""Weights that follow the rate of learning: a channel that stands still gets more, one that falls fast less.

Every ``window_epochs`` (10) epochs the mean of the last 10 is held against the mean of the 10 before: above 0.95 times
it the weight is multiplied by 1.1, below 0.8 times by 0.9, then all are bounded and brought to the preset's sum. The
first decision falls after two windows: at step 1000 with epochs of 50 steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from emitter.core.errors import require
from emitter.losses.channel_weights import ChannelWeights
from emitter.losses.weighting.base import EPS, Weighting, WeightingSettings, bounded
from emitter.losses.weighting.history import PartsHistory


@dataclass(frozen=True)
class RateSettings(WeightingSettings):
    """``slow`` and ``fast``: ratios of recent to earlier loss beyond which a weight is raised or lowered."""

    kind: ClassVar[str] = "rate"

    window_epochs: int = 10
    slow: float = 0.95
    fast: float = 0.8
    raise_by: float = 1.1
    lower_by: float = 0.9

    def __post_init__(self) -> None:
        require(self.window_epochs >= 1, f"weighting.window_epochs is {self.window_epochs}: give 1 or more")
        require(
            0 < self.fast < self.slow,
            f"weighting.fast is {self.fast} and weighting.slow is {self.slow}: give 0 < fast < slow",
        )
        require(
            self.raise_by >= 1 >= self.lower_by > 0,
            f"weighting.raise_by is {self.raise_by} and weighting.lower_by is {self.lower_by}: "
            "give raise_by ≥ 1 ≥ lower_by > 0",
        )

    def build(self, preset: ChannelWeights) -> RateWeighting:
        """The weighting."""
        return RateWeighting(self, preset)


class RateWeighting(Weighting):
    """Raised where the loss stands, lowered where it falls."""

    def __init__(self, settings: RateSettings, preset: ChannelWeights) -> None:
        super().__init__(preset)
        self.settings = settings
        self.history = PartsHistory(2 * settings.window_epochs)

    def on_epoch(self, parts_6: Tensor) -> None:
        """Judge, once every window."""
        settings = self.settings
        window = settings.window_epochs
        if not self.history.add(parts_6):
            return  # what was judged is not judged again
        seen = int(self.history.count)
        if seen < 2 * window or seen % window:
            return
        recent_6, earlier_6 = self.history.last(window), self.history.last(window, before=window)
        ratio_6 = 1 + (recent_6 - earlier_6) / earlier_6.abs().clamp(min=EPS)  # of a likelihood below 0, too
        factor_6 = torch.ones_like(ratio_6)
        factor_6[ratio_6 > settings.slow] = settings.raise_by
        factor_6[ratio_6 < settings.fast] = settings.lower_by
        self.weights_6 = bounded(self.weights_6 * factor_6, self.preset_6)
