"""The VAR multi-scale backbone: next-scale prediction for regression.

Visual autoregressive modelling (Tian et al. 2024) predicts a residual pyramid, every scale adding to one accumulated
estimate f̂. Kept here: the accumulated estimate with f̂ ← up(f̂) + Φ(h_k), Φ(h) = ½h + ½conv(h) shared over the
scales; the next scale's input is f̂ with a level embedding; every f̂_k can be supervised. Changed for regression, as
others since have found: the estimate stays continuous, every scale sees the image's features, and scale k works on
the model's own f̂_{k-1}, never on the truth. f̂_k is kept at the resolution of scale k: upsampling is linear, so adding
coarse residuals at full size would give the same sum for sixteen times the work.

Shape suffixes: B images, T frames of an image, C channels, H rows, W columns.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emitter.models.attention import COARSER_RADIUS_CELLS, RADIUS_CELLS, WindowAttention
from emitter.models.backbone import (
    Backbone,
    PixelNorm,
    ResidualBlock,
    Windows,
    conv3x3,
    pointwise,
    upsample,
    windows_of,
)
from emitter.models.settings import VarSettings


class Stem(nn.Module):
    """Features of single frames at cells of 1, 2, 4 … pixels, the weights shared by all frames."""

    def __init__(self, channels: tuple[int, ...], with_blocks: bool) -> None:
        super().__init__()
        self.entry = conv3x3(1, channels[0])
        self.mix = conv3x3(channels[0], channels[0])
        self.down = nn.ModuleList(
            conv3x3(fine, coarse, stride=2) for fine, coarse in zip(channels, channels[1:], strict=False)
        )
        self.blocks = nn.ModuleList(ResidualBlock(c) if with_blocks else nn.Identity() for c in channels[1:])

    def forward(self, frames_NHW: Tensor) -> list[Tensor]:
        x = frames_NHW[:, None].contiguous(memory_format=torch.channels_last)
        levels = [self.mix(self.entry(x).relu_()).relu_()]
        for down, block in zip(self.down, self.blocks, strict=True):
            levels.append(block(down(levels[-1])).relu_())
        return levels


class Scale(nn.Module):
    """One scale's contribution h_k from the image's features and the estimate so far.

    ``image_channels`` is None where it does not see the image, ``latent_channels`` is of the estimate,
    ``coarser_width`` is that of the scale before, None for the first. ``blocks`` may be another scale's too.
    """

    def __init__(
        self,
        settings: VarSettings,
        k: int,
        image_channels: int | None,
        blocks: nn.Sequential,
    ) -> None:
        super().__init__()
        width, latent_channels = settings.widths[k], settings.latent_channels
        coarser_width = settings.widths[k - 1] if k > 0 else None
        self.image = None if image_channels is None else nn.Conv2d(image_channels, width, 1, bias=False)
        self.estimate = nn.Conv2d(latent_channels, width, 1, bias=False) if k > 0 else None
        self.level = nn.Parameter(torch.zeros(width, 1, 1)) if settings.level_embedding else None
        self.norm = PixelNorm(width)
        attends = settings.cells_px[k] in settings.attention_cells_px
        self.attention = WindowAttention(width, coarser_width) if attends else None
        self.blocks = blocks
        self.out = nn.Conv2d(width, latent_channels, 1)

    def forward(
        self, image: Windows, estimate_BCHW: Tensor | None, coarser_BCHW: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """h_k, and what the next scale may attend to."""
        parts: list[Tensor] = []
        weights: list[Tensor] = []
        if self.image is not None:
            n_channels = image[0].shape[1]
            parts += image
            weights += [
                self.image.weight[:, t * n_channels : (t + 1) * n_channels] for t in range(len(image))
            ]
        if self.estimate is not None and estimate_BCHW is not None:
            parts.append(estimate_BCHW)
            weights.append(self.estimate.weight)
        x = pointwise(parts, weights, None if self.level is None else self.level.flatten())
        x = self.norm(x)
        if self.attention is not None:
            x = self.attention(x, coarser_BCHW)
        x = self.blocks(x)
        return pointwise([F.relu(x)], [self.out.weight], self.out.bias), x


class Phi(nn.Module):
    """Φ(h) = ½h + ½conv(h)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv3x3(channels, channels)
        identity = nn.init.dirac_(torch.empty_like(self.conv.weight))
        self.identity: Tensor
        self.register_buffer("identity", identity, persistent=False)

    def forward(self, h_BCHW: Tensor) -> Tensor:
        """As the one convolution that it is."""
        weight = torch.lerp(self.identity, self.conv.weight, 0.5)
        return F.conv2d(h_BCHW, weight, 0.5 * self.conv.bias, padding=1)  # type: ignore[operator,arg-type]


class VarBackbone(Backbone):
    """K scales, coarse to fine, each adding to the accumulated estimate."""

    def __init__(self, settings: VarSettings, n_frames: int) -> None:
        super().__init__()
        self.cells_px = settings.cells_px
        self.latent_channels = settings.latent_channels
        self.stride = max(1, round(settings.cells_px[0]))
        self.n_frames = n_frames
        self.stem = Stem(settings.stem_channels, settings.stem_blocks)
        # a cell of 0.5 px looks at the features of the full frame, upsampled
        self._level_of_scale = [max(0, round(cell).bit_length() - 1) for cell in self.cells_px]
        self.scales = nn.ModuleList()
        blocks = _blocks(settings, 0)
        for k, level in enumerate(self._level_of_scale):
            sees = k == 0 or settings.image_at == "every_scale"
            channels = n_frames * settings.stem_channels[level] if sees else None
            blocks = blocks if k == 0 or settings.shared_blocks else _blocks(settings, k)
            self.scales.append(Scale(settings, k, channels, blocks))
        self.phi = Phi(settings.latent_channels) if settings.phi else nn.Identity()
        self.receptive_radius_px = _receptive_radius(settings)

    def features(self, frames_NHW: Tensor) -> list[Tensor]:
        return self.stem(frames_NHW)

    def groups(self) -> dict[str, nn.Module]:
        scales = {f"scale{k}": scale for k, scale in enumerate(self.scales)}
        return {"stem": self.stem, **scales} | ({"phi": self.phi} if isinstance(self.phi, Phi) else {})

    def estimates(self, features: list[Windows]) -> list[Tensor]:
        estimate: Tensor | None = None
        hidden: Tensor | None = None
        estimates = []
        for cell, level, scale in zip(self.cells_px, self._level_of_scale, self.scales, strict=True):
            image = tuple(upsample(frame) for frame in features[level]) if cell < 1 else features[level]
            before = None if estimate is None else upsample(estimate)
            h, hidden = scale(image, before, hidden)
            change = self.phi(h)
            estimate = change if before is None else change + before
            estimates.append(estimate)
        return estimates

    def forward(self, frames_BTHW: Tensor) -> list[Tensor]:
        levels = self.features(frames_BTHW.transpose(0, 1).flatten(0, 1))
        return self.estimates([windows_of(level, self.n_frames, len(frames_BTHW)) for level in levels])


def _blocks(settings: VarSettings, k: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(settings.widths[k]) for _ in range(settings.blocks[k])))


def _receptive_radius(settings: VarSettings) -> int:
    """How far, at most, a prediction looks: the sum of all steps along the longest way, in pixels."""
    stem = 1.0
    for level in range(len(settings.stem_channels)):
        if level > 0:
            stem += 2**level / 2  # the strided convolution steps on the finer grid
        if level == 0 or settings.stem_blocks:
            stem += 2 * 2**level
    radius = stem
    for cell, n_blocks in zip(settings.cells_px, settings.blocks, strict=True):
        if cell in settings.attention_cells_px:  # a window around the cell, and one around its parent
            radius += cell * max(RADIUS_CELLS, 2 * COARSER_RADIUS_CELLS + 1)
        radius += cell * (2 * n_blocks + settings.phi)
        radius += 2 * cell  # upsampling to the next scale, and from the features below 1 px
    return round(radius) + settings_margin(settings)


def settings_margin(settings: VarSettings) -> int:
    """Cells are blocks of pixels: a cell's edge lies up to one coarsest cell from where it looks."""
    return round(settings.cells_px[0])
