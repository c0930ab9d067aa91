"""The interface of the weightings, and what keeps adaptive weights from running away.

A weighting sees the same numbers on every rank (parts and norms reduced over ranks), is a pure function of them, and
keeps its state in buffers: the weights are equal on all ranks and the same after a resume.

Shape suffix: 6 channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from emitter.losses.channel_weights import ChannelWeights

EPS = 1e-4
SMALLEST, LARGEST = 0.1, 10.0  # of an adaptive weight, relative to the preset's


class Weighting(nn.Module, ABC):
    """Weights of the six channels. ``weights_6`` starts as the preset and is what the log shows."""

    norms_every_steps: ClassVar[int | None] = (
        None  # how often the weighting wants the channels' gradient norms
    )

    def __init__(self, preset: ChannelWeights) -> None:
        super().__init__()
        self.preset_6: Tensor
        self.weights_6: Tensor
        self.register_buffer("preset_6", torch.tensor(preset.per_channel()), persistent=False)
        self.register_buffer("weights_6", torch.tensor(preset.per_channel()))
        self.mean_over_ranks: Callable[[Tensor], Tensor] = lambda values: values  # the trainer's, in a fit

    def forward(self, parts_6: Tensor) -> Tensor:
        """What each channel contributes to the loss, (6,), from the channels' parts."""
        return self.effective_6() * parts_6

    def beside(self, loss: Tensor, weight: float) -> Tensor:
        """What a loss that is of no channel (the reconstruction's) contributes, a scalar."""
        return weight * loss

    def penalty(self) -> Tensor | float:
        """What the weighting itself adds to the loss, whatever the parts."""
        return 0.0

    def effective_6(self) -> Tensor:
        """The weights in force."""
        return self.weights_6

    def on_epoch(self, parts_6: Tensor) -> None:
        """Parts averaged over an epoch and all ranks, without the scales' weights."""

    def on_norms(self, norms_6: Tensor) -> None:
        """Every channel's gradient norm at the head's input, of all ranks."""


@dataclass(frozen=True)
class WeightingSettings(ABC):
    """What the configuration says of a weighting; subclasses have a ``kind``."""

    kind: ClassVar[str]
    takes_negative_parts: ClassVar[bool] = True  # likelihoods pass through 0

    @abstractmethod
    def build(self, preset: ChannelWeights) -> Weighting:
        """The weighting that starts from a preset."""


def bounded(weights_6: Tensor, preset_6: Tensor) -> Tensor:
    """Weights scaled to the preset's sum, each within [0.1, 10] times the preset's own; a preset of 0 stays 0.

    Σ preset · clip(s · weight / preset) grows with s and holds the preset's sum between its ends: s is bisected, in
    float64, so that bounds and sum hold together.
    """
    preset = preset_6.double()
    ratio = torch.where(preset > 0, weights_6.double() / preset.clamp(min=1e-12), torch.ones_like(preset))
    ratio = ratio.clamp(min=1e-12, max=1e12)
    low, high = (SMALLEST / ratio.max()).log(), (LARGEST / ratio.min()).log()
    for _ in range(60):
        middle = (low + high) / 2
        above = (preset * (middle.exp() * ratio).clamp(SMALLEST, LARGEST)).sum() > preset.sum()
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return (preset * (low.exp() * ratio).clamp(SMALLEST, LARGEST)).to(weights_6.dtype)
