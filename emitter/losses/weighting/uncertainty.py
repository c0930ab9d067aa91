"""Weights learned as the channels' uncertainty (Kendall, Gal and Cipolla 2018).

loss = Σ preset_c · (exp(−2 s_c)·L_c + 2 s_c), s_c = log σ_c trained with the network: twice the published
L/(2σ²) + log σ, so that s = 0 is the preset. s is kept within ±log 10 by a tanh: weights within 0.01-100 times the
preset's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from emitter.core.channels import N_CHANNELS
from emitter.losses.channel_weights import ChannelWeights
from emitter.losses.weighting.base import Weighting, WeightingSettings

_BOUND = math.log(10.0)


@dataclass(frozen=True)
class UncertaintySettings(WeightingSettings):
    """Nothing to set."""

    kind: ClassVar[str] = "uncertainty"
    takes_negative_parts: ClassVar[bool] = False

    def build(self, preset: ChannelWeights) -> UncertaintyWeighting:
        """The weighting."""
        return UncertaintyWeighting(preset)


class UncertaintyWeighting(Weighting):
    """Six trained numbers."""

    def __init__(self, preset: ChannelWeights) -> None:
        super().__init__(preset)
        self.raw_6 = nn.Parameter(torch.zeros(N_CHANNELS))

    def _log_sigma_6(self) -> Tensor:
        return _BOUND * torch.tanh(self.raw_6 / _BOUND)

    def forward(self, parts_6: Tensor) -> Tensor:
        """preset · exp(−2 s) · L."""
        return self.preset_6 * torch.exp(-2 * self._log_sigma_6()) * parts_6

    def penalty(self) -> Tensor:
        """Σ preset · 2 s, on large σ."""
        return (self.preset_6 * 2 * self._log_sigma_6()).sum()

    def effective_6(self) -> Tensor:
        """preset · exp(−2 s)."""
        return (self.preset_6 * torch.exp(-2 * self._log_sigma_6())).detach()
