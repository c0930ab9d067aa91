"""loss = Σ w_c log(1 + L_c): a channel's pull, w / (1 + L), falls as its loss grows.

A part below 0 (a log-likelihood may be) counts as it is: the slope there is that of log(1 + L) at 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from emitter.losses.channel_weights import ChannelWeights
from emitter.losses.weighting.base import Weighting, WeightingSettings


@dataclass(frozen=True)
class LogNormalizedSettings(WeightingSettings):
    """Nothing to set."""

    kind: ClassVar[str] = "log_normalized"

    def build(self, preset: ChannelWeights) -> LogNormalizedWeighting:
        """The weighting."""
        return LogNormalizedWeighting(preset)


class LogNormalizedWeighting(Weighting):
    """Logarithms of the parts."""

    def forward(self, parts_6: Tensor) -> Tensor:
        """The loss, with the slopes of the parts' mean over the ranks; the log shows them as weights."""
        mean_6 = self.mean_over_ranks(parts_6.detach())
        self.weights_6 = self.preset_6 / (1 + mean_6.clamp(min=0))
        value = (self.preset_6 * (torch.log1p(mean_6.clamp(min=0)) + mean_6.clamp(max=0))).sum()
        linear = (self.weights_6 * parts_6).sum()
        return value + linear - linear.detach()
