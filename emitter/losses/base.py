"""The interface of every loss on the unified six channels.

Shape suffixes: B images, C channels of the maps, H rows and W columns of cells, 6 parts (one for each channel).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from emitter.core import channels as ch
from emitter.core.channels import Scaling
from emitter.core.emitters import Emitters
from emitter.core.encoding import Targets, background_at, encode
from emitter.losses.detection.base import DetectionSettings


@dataclass(frozen=True)
class Truth:
    """What a batch of images shows, seen at one scale.

    ``emitters`` in pixels of the frame, ``background_BHW`` in photons per pixel of the frame; ``cell_px`` is the side
    of this scale's cells and ``scaling`` what a unit of the maps is worth. ``axial``: whether z is trained.
    """

    emitters: Emitters
    background_BHW: Tensor
    scaling: Scaling
    cell_px: float = 1.0
    axial: bool = True

    def targets(self, region_cells: int = 1) -> Targets:
        """Target maps at this scale."""
        return encode(self.emitters, self.background_BHW, self.scaling, self.cell_px, region_cells)


class Loss(nn.Module, ABC):
    """Maps of one scale against the truth.

    Returns one part for every image and channel, (B, 6) in float32, in the order of the channels and before any
    channel weight. Their plain sum is the loss; parts let weights act on it and say where it comes from. A loss may
    own trained parameters. ``n_maps``: how many channels the maps must have (more than 6 with sigma channels).
    ``one_cell_each``: whether it teaches to show every emitter in exactly one cell, so that none are to be merged.
    """

    n_maps: ClassVar[int] = ch.N_CHANNELS
    one_cell_each: ClassVar[bool] = False

    @abstractmethod
    def forward(self, maps_BCHW: Tensor, truth: Truth, progress: float) -> Tensor:
        """``progress``: 0 at the start of training, 1 at its end."""


@dataclass(frozen=True)
class LossSettings(ABC):
    """What the configuration says of a loss; subclasses have a ``kind``."""

    kind: ClassVar[str]
    own_detection: ClassVar[bool]  # whether the loss detects in its own way and takes no detection term

    @abstractmethod
    def build(self, detection: DetectionSettings) -> Loss:
        """The loss for one scale."""


def background_part(maps_BCHW: Tensor, truth: Truth) -> Tensor:
    """Mean squared error of the scaled background, (B,)."""
    target_BHW = background_at(truth.background_BHW.float(), truth.cell_px) / truth.scaling.background
    return F.mse_loss(maps_BCHW[:, ch.BACKGROUND], target_BHW, reduction="none").mean(dim=(1, 2))
