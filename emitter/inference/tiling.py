"""Predicting frames in tiles, with the same result as whole.

A tile is read with a halo as wide as the network sees, aligned to the network's stride; its core is kept.

Shape suffixes: B images, T frames of an image, F frames of a block, H rows, W columns, 6 channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, Self

from torch import Tensor


class MovieNetwork(Protocol):
    """What is asked of a network: fully convolutional, and honest about how far it sees."""

    n_frames: int

    @property
    def cells_px(self) -> tuple[float, ...]:
        """Side of a cell at every scale, coarse to fine."""

    @property
    def stride(self) -> int:
        """Tiles start at multiples of this many pixels."""

    @property
    def receptive_radius_px(self) -> int:
        """A prediction does not depend on pixels farther away."""

    def to(self, device: str) -> Self:
        """The network on a device."""

    def forward_movie(self, frames_FHW: Tensor, window_BT: Tensor) -> list[Tensor]:
        """Maps (B, 6, H / cell, W / cell) at every scale for windows of frames in photons."""


@dataclass(frozen=True)
class Span:
    """One side of a tile in pixels: what is read, and the part of it that is kept."""

    read: slice
    keep: slice


def spans(length: int, core_px: int, halo_px: int) -> list[Span]:
    """Cut a side into cores of ``core_px``, each read with ``halo_px`` more where there is more."""
    return [
        Span(
            read=slice(max(0, start - halo_px), min(length, start + core_px + halo_px)),
            keep=slice(start, min(length, start + core_px)),
        )
        for start in range(0, length, core_px)
    ]


def predict(network: MovieNetwork, frames_FHW: Tensor, window_BT: Tensor, max_px: int) -> Tensor:
    """Finest maps (B, 6, H / cell, W / cell) of windows of a block of frames, whole or in tiles.

    Args:
        network: the network.
        frames_FHW: consecutive frames in photons.
        window_BT: for every image, the places of its T frames in the block.
        max_px: most pixels (images × rows × columns) that the network is given at once.
    """
    height, width = frames_FHW.shape[-2:]
    if len(window_BT) * height * width <= max_px:
        return network.forward_movie(frames_FHW, window_BT)[-1]
    cell = network.cells_px[-1]
    maps_B6HW: Tensor | None = None
    for rows, columns in _tiles(network, height, width, max_px // len(window_BT)):
        tile = network.forward_movie(frames_FHW[:, rows.read, columns.read], window_BT)[-1]
        if maps_B6HW is None:
            maps_B6HW = tile.new_empty(*tile.shape[:2], math.ceil(height / cell), math.ceil(width / cell))
        y, x = _in_cells(rows.keep, 0, cell), _in_cells(columns.keep, 0, cell)
        inner_y = _in_cells(rows.keep, rows.read.start, cell)
        inner_x = _in_cells(columns.keep, columns.read.start, cell)
        maps_B6HW[..., y, x] = tile[..., inner_y, inner_x]
    assert maps_B6HW is not None
    return maps_B6HW


def _tiles(network: MovieNetwork, height: int, width: int, max_px: int) -> Iterator[tuple[Span, Span]]:
    stride = network.stride
    halo_px = math.ceil(network.receptive_radius_px / stride) * stride
    # a core smaller than its halo would be mostly overhead: the bound gives way there
    core_px = max(math.isqrt(max_px) - 2 * halo_px, halo_px, stride) // stride * stride
    for rows in spans(height, core_px, halo_px):
        for columns in spans(width, core_px, halo_px):
            yield rows, columns


def _in_cells(part: slice, origin: int, cell: float) -> slice:
    return slice(int((part.start - origin) / cell), math.ceil((part.stop - origin) / cell))
