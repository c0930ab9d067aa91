"""The baseline: a U-Net shared by the frames, then a U-Net on their union.

The layout and size published by Speiser et al. 2021 (depth 2, 48 features, ELU), written anew.

Shape suffixes: B images, T frames of an image, C channels, H rows, W columns.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from emitter.models.backbone import Backbone, Windows, conv3x3, windows_of
from emitter.models.settings import UNetSettings


def _double(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        conv3x3(channels_in, channels_out), nn.ELU(), conv3x3(channels_out, channels_out), nn.ELU()
    )


class UNet(nn.Module):
    """Halve ``depth`` times with doubling features, and come back with skips."""

    def __init__(self, channels_in: int, features: int, depth: int) -> None:
        super().__init__()
        widths = [features * 2**i for i in range(depth + 1)]
        self.down = nn.ModuleList(_double(a, b) for a, b in zip([channels_in, *widths], widths, strict=False))
        self.pool = nn.MaxPool2d(2)
        self.raise_ = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(2 * width, width, 2, stride=2), nn.ELU())
            for width in widths[:-1]
        )
        self.join = nn.ModuleList(_double(2 * width, width) for width in widths[:-1])

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for i, block in enumerate(self.down):
            x = block(x if i == 0 else self.pool(x))
            skips.append(x)
        x = skips.pop()
        for raise_, join in zip(reversed(self.raise_), reversed(self.join), strict=True):
            x = join(torch.cat((skips.pop(), raise_(x)), dim=1))
        return x


class UNetBackbone(Backbone):
    """One estimate, at the frame's resolution."""

    def __init__(self, settings: UNetSettings, n_frames: int) -> None:
        super().__init__()
        self.cells_px = (1.0,)
        self.latent_channels = settings.features
        self.stride = 2**settings.depth
        self.n_frames = n_frames
        self.shared = UNet(1, settings.features, settings.depth)
        self.union = UNet(n_frames * settings.features, settings.features, settings.depth)
        # two 3×3 convolutions at every level down and two up; pooling and raising step by a cell of the coarser level
        per_net = sum(2**level * (2 if level == settings.depth else 4) for level in range(settings.depth + 1))
        self.receptive_radius_px = 2 * (per_net + 2 * 2 ** (settings.depth + 1))

    def features(self, frames_NHW: Tensor) -> list[Tensor]:
        return [self.shared(frames_NHW[:, None].contiguous(memory_format=torch.channels_last))]

    def estimates(self, features: list[Windows]) -> list[Tensor]:
        return [self.union(torch.cat(features[0], dim=1))]

    def groups(self) -> dict[str, nn.Module]:
        return {"shared": self.shared, "union": self.union}

    def forward(self, frames_BTHW: Tensor) -> list[Tensor]:
        return self.estimates(
            [
                windows_of(level, self.n_frames, len(frames_BTHW))
                for level in self.features(frames_BTHW.transpose(0, 1).flatten(0, 1))
            ]
        )
