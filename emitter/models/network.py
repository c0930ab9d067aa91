"""The network: frames in photons → normalisation → backbone → the unified six-channel head at every scale.

Shape suffixes: B images, T frames of an image, H rows, W columns, 6 channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emitter.core import channels as ch
from emitter.core.errors import require
from emitter.models.backbone import Backbone, map_of, rows_of, windows_of
from emitter.models.settings import ModelSettings, VarSettings
from emitter.models.unet import UNetBackbone
from emitter.models.var import VarBackbone


@dataclass(frozen=True)
class InputScaling:
    """Frames enter the network as (photons - offset) / scale."""

    offset: float = 50.0
    scale: float = 100.0

    def __post_init__(self) -> None:
        require(self.scale > 0, f"the input scale is {self.scale}: give photons, above 0")


class Head(nn.Module):
    """Six channels of every cell, the same weights at every scale. Runs in float32: ties and logits need the digits."""

    def __init__(self, channels: int, emitters_per_cell: float, n_maps: int) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(channels, channels, 1)
        self.out = nn.Conv2d(channels, n_maps, 1)
        nn.init.normal_(self.out.weight, std=0.01)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]
        with torch.no_grad():  # start at the prior: nearly every cell is empty
            self.out.bias[ch.P] = math.log(emitters_per_cell / (1 - emitters_per_cell))  # type: ignore[index]

    def forward(self, estimate_BCHW: Tensor) -> Tensor:
        hidden_NC = F.linear(rows_of(estimate_BCHW), self.hidden.weight.flatten(1), self.hidden.bias).relu_()
        with torch.autocast(hidden_NC.device.type, enabled=False):
            maps_N6 = F.linear(hidden_NC.float(), self.out.weight.flatten(1), self.out.bias)
        return map_of(maps_N6, estimate_BCHW)


class EmitterNetwork(nn.Module):
    """Frames of any size, in photons, to scaled maps at every scale (coarse to fine).

    ``n_maps``: the six channels, or more for a loss that has channels of its own after them.
    """

    def __init__(
        self,
        settings: ModelSettings,
        n_frames: int,
        input_scaling: InputScaling,
        n_maps: int = ch.N_CHANNELS,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.n_frames = n_frames
        self.n_maps = n_maps
        self.input_scaling = input_scaling
        self.backbone: Backbone = (
            VarBackbone(settings, n_frames)
            if isinstance(settings, VarSettings)
            else UNetBackbone(settings, n_frames)
        )
        self.head = Head(self.backbone.latent_channels, emitters_per_cell=0.01, n_maps=n_maps)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def untrained(self, seed: int) -> EmitterNetwork:
        """A network of the same kind with fresh weights of this seed; torch's random state stays as it is."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            fresh = EmitterNetwork(self.settings, self.n_frames, self.input_scaling, self.n_maps)
        return fresh.to(next(self.parameters()).device)

    @property
    def cells_px(self) -> tuple[float, ...]:
        """Side of a cell at every scale, coarse to fine."""
        return self.backbone.cells_px

    @property
    def stride(self) -> int:
        """Tiles start at multiples of this many pixels."""
        return self.backbone.stride

    @property
    def receptive_radius_px(self) -> int:
        """A prediction does not depend on pixels farther away."""
        return self.backbone.receptive_radius_px

    def forward(self, frames_BTHW: Tensor) -> list[Tensor]:
        """Maps (B, n_maps, ceil(H / cell), ceil(W / cell)) of the middle frames, coarse to fine; of movies of more
        than ``n_frames`` frames, as ``estimates`` says."""
        return self.read(self.estimates(frames_BTHW), *frames_BTHW.shape[-2:])

    def estimates(self, frames_BTHW: Tensor) -> list[Tensor]:
        """The accumulated estimates, coarse to fine, of every frame with its neighbours: what the head reads.

        Of more than ``n_frames`` frames several are predicted, image = frame · B + sample; the features of a frame are
        computed once.
        """
        levels = self.backbone.features(self._prepare(frames_BTHW.transpose(0, 1).flatten(0, 1)))
        n_samples = frames_BTHW.shape[0]  # len() would freeze it in an export
        return self.backbone.estimates([windows_of(level, self.n_frames, n_samples) for level in levels])

    def read(self, estimates: list[Tensor], height: int, width: int) -> list[Tensor]:
        """The head's maps of estimates of frames of this size."""
        return [
            self.head(estimate)[..., : math.ceil(height / cell), : math.ceil(width / cell)]
            for estimate, cell in zip(estimates, self.cells_px, strict=True)
        ]

    def forward_movie(self, frames_FHW: Tensor, window_BT: Tensor) -> list[Tensor]:
        """The same for windows of a movie, (B, T) indices into F frames: a frame's features are computed once."""
        levels = self.backbone.features(self._prepare(frames_FHW))
        columns_T = [_span(column_B) for column_B in window_BT.T]
        estimates = self.backbone.estimates(
            [tuple(level[column] for column in columns_T) for level in levels]
        )
        return self.read(estimates, *frames_FHW.shape[-2:])

    def _prepare(self, frames_NHW: Tensor) -> Tensor:
        """Normalise, and pad below and to the right to multiples of the stride by repeating the edge."""
        height, width = frames_NHW.shape[-2:]
        x = (frames_NHW - self.input_scaling.offset) / self.input_scaling.scale
        below, right = -height % self.stride, -width % self.stride
        return F.pad(x[:, None], (0, right, 0, below), mode="replicate")[:, 0] if below or right else x


def _span(place_B: Tensor) -> slice | Tensor:
    """The same places as a slice where they are consecutive: its features need no copy."""
    first = int(place_B[0])
    return slice(first, first + len(place_B)) if bool((place_B.diff() == 1).all()) else place_B
