"""loss = Σ w_c log(1 + L_c): a channel's pull, w / (1 + L), falls as its loss grows. So does the reconstruction's.

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
        """Σ of it is the loss. The log shows the slopes as weights."""
        value_6, slope_6 = self._logarithm(parts_6)
        self.weights_6 = self.preset_6 * slope_6
        return self.preset_6 * value_6

    def beside(self, loss: Tensor, weight: float) -> Tensor:
        """weight · log(1 + loss): added as it is, a loss would outweigh the channels' logarithms."""
        return weight * self._logarithm(loss)[0]

    def _logarithm(self, losses: Tensor) -> tuple[Tensor, Tensor]:
        """log(1 + L) of the losses' mean over the ranks, and its slope there, which is the gradient's on every rank."""
        mean = self.mean_over_ranks(losses.detach())
        slope = 1 / (1 + mean.clamp(min=0))
        value = torch.log1p(mean.clamp(min=0)) + mean.clamp(max=0)
        return value + slope * (losses - losses.detach()), slope
