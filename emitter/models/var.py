"""The VAR multi-scale backbone: next-scale prediction for regression.

Visual autoregressive modelling (Tian et al. 2024) predicts a residual pyramid, every scale adding to one accumulated
estimate f̂. Kept here: the accumulated estimate with f̂ ← up(f̂) + Φ(h_k), Φ(h) = ½h + ½conv(h) shared over the
scales; the next scale's input is f̂ with a level embedding; every f̂_k is supervised. Changed for regression, as
others since have found: the estimate stays continuous, every scale sees the image's features, and scale k works on
the model's own f̂_{k-1}, never on the truth. f̂_k is kept at the resolution of scale k: upsampling is linear, so adding
coarse residuals at full size would give the same sum for sixteen times the work.

Shape suffixes: B images, T frames of an image, C channels, H rows, W columns.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emitter.models.backbone import Backbone, PixelNorm, ResidualBlock, conv3x3, stack_frames, upsample
from emitter.models.settings import VarSettings


class Stem(nn.Module):
    """Features of single frames at cells of 1, 2, 4 … pixels, the weights shared by all frames."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.entry = conv3x3(1, channels[0])
        self.mix = conv3x3(channels[0], channels[0])
        self.down = nn.ModuleList(
            conv3x3(fine, coarse, stride=2) for fine, coarse in zip(channels, channels[1:], strict=False)
        )
        self.blocks = nn.ModuleList(ResidualBlock(c) for c in channels[1:])

    def forward(self, frames_NHW: Tensor) -> list[Tensor]:
        x = frames_NHW[:, None].contiguous(memory_format=torch.channels_last)
        levels = [F.relu(self.mix(F.relu(self.entry(x))))]
        for down, block in zip(self.down, self.blocks, strict=True):
            levels.append(F.relu(block(down(levels[-1]))))
        return levels


class Scale(nn.Module):
    """One scale's contribution h_k from the image's features and the estimate so far."""

    def __init__(
        self, image_channels: int, width: int, n_blocks: int, latent_channels: int, first: bool
    ) -> None:
        super().__init__()
        self.image = nn.Conv2d(image_channels, width, 1, bias=False)
        self.estimate = None if first else nn.Conv2d(latent_channels, width, 1, bias=False)
        self.level = nn.Parameter(torch.zeros(width, 1, 1))
        self.norm = PixelNorm(width)
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(n_blocks)))
        self.out = nn.Conv2d(width, latent_channels, 1)

    def forward(self, image_BCHW: Tensor, estimate_BCHW: Tensor | None) -> Tensor:
        x = self.image(image_BCHW) + self.level.to(image_BCHW.dtype)
        if self.estimate is not None and estimate_BCHW is not None:
            x = x + self.estimate(estimate_BCHW)
        return self.out(F.relu(self.blocks(self.norm(x))))


class Phi(nn.Module):
    """Φ(h) = ½h + ½conv(h)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv3x3(channels, channels)

    def forward(self, h_BCHW: Tensor) -> Tensor:
        return 0.5 * h_BCHW + 0.5 * self.conv(h_BCHW)


class VarBackbone(Backbone):
    """K scales, coarse to fine, each adding to the accumulated estimate."""

    def __init__(self, settings: VarSettings, n_frames: int) -> None:
        super().__init__()
        self.cells_px = settings.cells_px
        self.latent_channels = settings.latent_channels
        self.stride = max(1, round(settings.cells_px[0]))
        self.n_frames = n_frames
        self.stem = Stem(settings.stem_channels)
        # a cell of 0.5 px looks at the features of the full frame, upsampled
        self._level_of_scale = [max(0, round(cell).bit_length() - 1) for cell in self.cells_px]
        self.scales = nn.ModuleList(
            Scale(
                n_frames * settings.stem_channels[level],
                width,
                n_blocks,
                settings.latent_channels,
                first=k == 0,
            )
            for k, (level, width, n_blocks) in enumerate(
                zip(self._level_of_scale, settings.widths, settings.blocks, strict=True)
            )
        )
        self.phi = Phi(settings.latent_channels)
        self.receptive_radius_px = _receptive_radius(settings)

    def features(self, frames_NHW: Tensor) -> list[Tensor]:
        return self.stem(frames_NHW)

    def groups(self) -> dict[str, nn.Module]:
        scales = {f"scale{k}": scale for k, scale in enumerate(self.scales)}
        return {"stem": self.stem, **scales, "phi": self.phi}

    def estimates(self, features: list[Tensor]) -> list[Tensor]:
        estimate: Tensor | None = None
        estimates = []
        for cell, level, scale in zip(self.cells_px, self._level_of_scale, self.scales, strict=True):
            image = upsample(features[level]) if cell < 1 else features[level]
            before = None if estimate is None else upsample(estimate)
            change = self.phi(scale(image, before))
            estimate = change if before is None else before + change
            estimates.append(estimate)
        return estimates

    def forward(self, frames_BTHW: Tensor) -> list[Tensor]:
        levels = self.features(frames_BTHW.transpose(0, 1).flatten(0, 1))
        return self.estimates([stack_frames(level, self.n_frames, len(frames_BTHW)) for level in levels])


def _receptive_radius(settings: VarSettings) -> int:
    """How far, at most, a prediction looks: the sum of all steps along the longest way, in pixels."""
    stem = 1.0
    for level in range(len(settings.stem_channels)):
        stem += (2**level) / 2 if level else 0  # the strided convolution steps on the finer grid
        stem += 2 * 2**level
    radius = stem
    for cell, n_blocks in zip(settings.cells_px, settings.blocks, strict=True):
        radius += cell * (2 * n_blocks + 1)  # the blocks and Φ
        radius += 2 * cell  # upsampling to the next scale, and from the features below 1 px
    return round(radius) + settings_margin(settings)


def settings_margin(settings: VarSettings) -> int:
    """Cells are blocks of pixels: a cell's edge lies up to one coarsest cell from where it looks."""
    return round(settings.cells_px[0])
