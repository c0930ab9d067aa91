"""The interface of every backbone, and the blocks that they share.

What a convolution has just written is changed in place: beside the convolutions, a processor mostly passes over memory.

Shape suffixes: B images, T frames of an image, C channels, H rows, W columns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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
    def estimates(self, features: list[Tensor]) -> list[Tensor]:
        """The estimates, coarse to fine, from features (B, T · C_i, H_i, W_i) of T consecutive frames."""

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


def stack_frames(features_NCHW: Tensor, n_frames: int, n_samples: int) -> Tensor:
    """(F · B, C, H, W), frame by frame of B samples, to the windows of T frames in a row: (P · B, T · C, H, W), P of
    F - T + 1."""
    n_images = features_NCHW.shape[0] - (n_frames - 1) * n_samples
    starts = [frame * n_samples for frame in range(n_frames)]  # range() would freeze n_samples in an export
    return torch.cat([features_NCHW[start : start + n_images] for start in starts], dim=1)


def count_parameters(module: nn.Module) -> int:
    """Number of trained numbers."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def count_macs_per_pixel(module: nn.Module, n_frames: int, side_px: int = 64) -> float:
    """Multiply-adds of the convolutions for one predicted frame, per pixel of the frame."""
    total = 0

    def add(layer: nn.Module, _: object, out: Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv2d):
            total += out.numel() * layer.weight[0].numel()
        elif isinstance(layer, nn.ConvTranspose2d):  # kernel 2, stride 2: one tap for every output
            total += out.numel() * layer.in_channels

    hooks = [layer.register_forward_hook(add) for layer in module.modules()]
    try:
        with torch.no_grad():
            module(torch.zeros(1, n_frames, side_px, side_px))
    finally:
        for hook in hooks:
            hook.remove()
    return total / side_px**2
