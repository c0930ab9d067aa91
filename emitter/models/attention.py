"""Attention of a cell to the cells around it, at its own scale and at the coarser one.

VAR's attention is full within a scale and causal between scales. Frames may be of any size here, and a tile must not be
seen in the result: every cell attends to a window around itself, with trained biases for relative positions only, and
to the window around its parent cell at the scale before.

Shape suffixes: B images, C channels, N heads, D channels of a head, K cells of a window, H rows, W columns.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

RADIUS_CELLS = 2  # of the window at a cell's own scale
COARSER_RADIUS_CELLS = 1  # of the window around its parent
_HEADS = 2
_HEAD_CHANNELS = 16


class _Window(nn.Module):
    """Keys, values and position biases of the window around every cell of one map."""

    def __init__(self, channels: int, radius_cells: int) -> None:
        super().__init__()
        self.side = 2 * radius_cells + 1
        self.key_value = nn.Conv2d(channels, 2 * _HEADS * _HEAD_CHANNELS, 1, bias=False)
        self.position = nn.Parameter(torch.zeros(_HEADS, self.side**2, 1, 1))

    def forward(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keys and values (B, N, D, K, H, W), biases (N, K, H, W) that are -∞ outside of the map."""
        keys, values = (self._around(half) for half in self.key_value(x_BCHW).chunk(2, dim=1))
        split = (x_BCHW.shape[0], _HEADS, _HEAD_CHANNELS, self.side**2, *x_BCHW.shape[-2:])
        inside_KHW = self._around(torch.ones_like(x_BCHW[:1, :1]))[0]
        biases = self.position.masked_fill(inside_KHW == 0, -math.inf)
        return keys.reshape(split), values.reshape(split), biases

    def _around(self, x_BCHW: Tensor) -> Tensor:
        """(B, C · K, H, W)."""
        windows = F.unfold(x_BCHW.contiguous(), self.side, padding=self.side // 2)
        return windows.unflatten(-1, x_BCHW.shape[-2:])


class WindowAttention(nn.Module):
    """x + what a cell gathers from around itself and, with ``coarser_channels``, from around its parent."""

    def __init__(self, channels: int, coarser_channels: int | None) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, _HEADS * _HEAD_CHANNELS, 1, bias=False)
        self.own = _Window(channels, RADIUS_CELLS)
        self.coarser = None if coarser_channels is None else _Window(coarser_channels, COARSER_RADIUS_CELLS)
        self.out = nn.Conv2d(_HEADS * _HEAD_CHANNELS, channels, 1)
        nn.init.zeros_(self.out.weight)  # like a residual block, it starts as if it were not there
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x_BCHW: Tensor, coarser_BCHW: Tensor | None) -> Tensor:
        """``coarser_BCHW``: the scale before, half as many rows and columns."""
        query_BND1HW = self.query(x_BCHW).unflatten(1, (_HEADS, _HEAD_CHANNELS, 1))
        windows = [self.own(x_BCHW)]
        if self.coarser is not None and coarser_BCHW is not None:
            around_parent = self.coarser(coarser_BCHW)
            windows.append(
                tuple(part.repeat_interleave(2, -2).repeat_interleave(2, -1) for part in around_parent)
            )
        keys, values, biases = (torch.cat(parts, dim=-3) for parts in zip(*windows, strict=True))
        match_BNKHW = (query_BND1HW * keys).sum(dim=2) / math.sqrt(_HEAD_CHANNELS) + biases
        share_BN1KHW = match_BNKHW.float().softmax(dim=2).to(values.dtype)[:, :, None]
        return x_BCHW + self.out((share_BN1KHW * values).sum(dim=3).flatten(1, 2))
