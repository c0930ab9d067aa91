"""The interface of every backbone, and the blocks that they share.

What a convolution has just written is changed in place: beside the convolutions, a processor mostly passes over memory.

Shape suffixes: B images, T frames of an image, C channels, H rows, W columns.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

Windows = tuple[Tensor, ...]
"""Features (B, C, H, W) of the T frames of every window, frame by frame: most need no copy."""


class Backbone(nn.Module, ABC):
    """From normalised frames (B, T, H, W) to estimates (B, C, H / cell, W / cell), coarse to fine.

    H and W are multiples of ``stride``. No normalisation looks farther than one pixel, so the estimate at a pixel
    depends only on the frames within ``receptive_radius_px``: that makes results independent of tile edges.
    """

    cells_px: tuple[float, ...]
    latent_channels: int
    stride: int
    receptive_radius_px: int

    @abstractmethod
    def features(self, frames_NHW: Tensor) -> list[Tensor]:
        """What is computed once for every frame, (N, C_i, H_i, W_i) for every level i."""

    @abstractmethod
    def estimates(self, features: list[Windows]) -> list[Tensor]:
        """The estimates, coarse to fine, from the features (B, C_i, H_i, W_i) of T consecutive frames."""

    @abstractmethod
    def groups(self) -> dict[str, nn.Module]:
        """Its parts by name, from the input on: whose gradients are looked at apart."""


def conv3x3(channels_in: int, channels_out: int, stride: int = 1) -> nn.Conv2d:
    """3×3 convolution that keeps the size (or halves it, with stride 2)."""
    return nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1)


class PixelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each pixel of a (B, C, H, W) map."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BHWC = x_BCHW.permute(0, 2, 3, 1)
        return F.layer_norm(x_BHWC, self.normalized_shape, self.weight, self.bias, self.eps).permute(
            0, 3, 1, 2
        )


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(relu(x)))), the last convolution starting at zero so that depth costs no stability."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv3x3(channels, channels)
        self.second = conv3x3(channels, channels)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x_BCHW: Tensor) -> Tensor:
        change: Tensor = self.second(self.first(F.relu(x_BCHW)).relu_())
        return change.add_(x_BCHW)


def upsample(x_BCHW: Tensor) -> Tensor:
    """Twice the size, bilinear."""
    return F.interpolate(x_BCHW, scale_factor=2.0, mode="bilinear", align_corners=False)


def windows_of(features_NCHW: Tensor, n_frames: int, n_samples: int) -> Windows:
    """(F · B, C, H, W), frame by frame of B samples, as windows of T: T times (P · B, C, H, W), P = F - T + 1."""
    n_images = features_NCHW.shape[0] - (n_frames - 1) * n_samples
    if n_images == n_samples:  # no frame is in two windows: gradients are of one map, not a sum of three
        return features_NCHW.unflatten(0, (n_frames, n_samples)).unbind()
    starts = [frame * n_samples for frame in range(n_frames)]  # range() would freeze n_samples in an export
    return tuple(features_NCHW[start : start + n_images] for start in starts)


def rows_of(x_BCHW: Tensor) -> Tensor:
    """The pixels' channels (N, C): what a 1×1 convolution multiplies."""
    return x_BCHW.permute(0, 2, 3, 1).flatten(0, 2)


def map_of(rows_NC: Tensor, like_BCHW: Tensor) -> Tensor:
    """Rows (N, C) as a map (B, C, H, W) of the images and the size of another."""
    n_images, _, height, width = like_BCHW.shape
    return rows_NC.unflatten(0, (n_images, height, width)).permute(0, 3, 1, 2)


def pointwise(parts: Sequence[Tensor], weights: Sequence[Tensor], bias: Tensor | None) -> Tensor:
    """Sum of 1×1 convolutions of maps (B, C_i, H, W) by weights (O, C_i, 1, 1), plus ``bias`` (O): (B, O, H, W).

    As the products of matrices that they are, each added where the sum is: no map is made of all parts, and torch's own
    1×1 convolution goes a slow way for few images.
    """
    sum_NO = F.linear(rows_of(parts[0]), weights[0].flatten(1), bias)
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        sum_NO.addmm_(rows_of(part).to(sum_NO.dtype), weight.flatten(1).T.to(sum_NO.dtype))
    return map_of(sum_NO, parts[0])


def count_parameters(module: nn.Module) -> int:
    """Number of trained numbers."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def count_macs_per_pixel(module: nn.Module, n_frames: int, side_px: int = 64) -> float:
    """Multiply-adds of the convolutions for one predicted frame, per pixel of the frame."""
    in_place = {torch.ops.aten.addmm_: lambda _, a_NK, b_KO, **__: 2 * math.prod(a_NK) * b_KO[1]}
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=in_place) as counter:
        module(torch.zeros(1, n_frames, side_px, side_px))
    return counter.get_total_flops() / 2 / side_px**2
