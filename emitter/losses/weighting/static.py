"""The preset's weights, unchanged: loss = Σ w_c L_c."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from emitter.losses.channel_weights import ChannelWeights
from emitter.losses.weighting.base import Weighting, WeightingSettings


@dataclass(frozen=True)
class StaticSettings(WeightingSettings):
    """Nothing to set."""

    kind: ClassVar[str] = "static"

    def build(self, preset: ChannelWeights) -> StaticWeighting:
        """The weighting."""
        return StaticWeighting(preset)


class StaticWeighting(Weighting):
    """Fixed weights."""
