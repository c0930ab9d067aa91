"""Predicted maps into emitters.

Shape suffixes: N emitters or cells that may be one, 8 cells around a cell, B images, C channels (6 or more), H rows and
W columns of cells.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from emitter.core import channels as ch
from emitter.core.channels import Scaling
from emitter.core.emitters import Emitters
from emitter.core.errors import require

# Two cells that touch mean one emitter where the places that they say are closer than _REACH_PX less _SURER_PX times
# the sum of their probabilities (what is unsure is spread wider), and that sum is at most _MOST_OF_ONE: more is two
# emitters. docs/benchmarks.md says what other numbers give.
_REACH_PX, _SURER_PX, _MOST_OF_ONE = 1.15, 0.5, 1.5
_LEAST_P = 0.01  # a cell below moves an emitter by less than 0.01 px
_AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))  # rows down, columns right
_AVERAGED = ("x_px_N", "y_px_N", "z_nm_N", "photons_N", "background_N", "sigma_N4")


@dataclass(frozen=True)
class Thresholds:
    """When there is an emitter.

    ``mass``: where the probabilities of the cells that mean it add up to more (an emitter near a cell's edge is shared
    by two cells). ``one_cell_each``: for a network that was taught to show every emitter in exactly one cell; a cell
    then stands for itself, when its own probability is higher than ``mass``.
    """

    mass: float = 0.5
    one_cell_each: bool = False

    def __post_init__(self) -> None:
        require(0 < self.mass < 1, f"the threshold is {self.mass}: give a probability between 0 and 1")

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Thresholds:
        """Of a checkpoint; those of before had one more, for a cell beside a stronger one."""
        return cls(**{name: value for name, value in state.items() if name != "neighbour"})


def decode(maps_BCHW: Tensor, scaling: Scaling, thresholds: Thresholds, cell_px: float = 1.0) -> Emitters:
    """Emitters of scaled maps whose first channel holds logits, with probability and background.

    Where the probability of one emitter is spread over several cells, each of them says where it is if it is in that
    cell, and they say nearly the same place; the cells of two emitters that touch say two. So a cell joins those more
    probable ones that it touches and that mean its place; no other cell is held back. The emitter's values are the mean
    of the cells that joined, weighted by the probability: a cell alone would draw localizations towards its centre. So
    it is with the standard deviations of a network that has channels for them.
    """
    p_BHW = torch.sigmoid(maps_BCHW[:, ch.P].float())
    likely_BHW = p_BHW > (thresholds.mass if thresholds.one_cell_each else _LEAST_P)
    image_N, row_N, column_N = likely_BHW.nonzero(as_tuple=True)
    cells = emitters_at(maps_BCHW, image_N, row_N, column_N, scaling, cell_px)
    p_N = p_BHW[likely_BHW]
    if thresholds.one_cell_each:
        return replace(cells, probability_N=p_N)
    near_N8 = _around(image_N, row_N, column_N, p_BHW.shape)
    stays_N, share_N8 = _shares(cells, p_N, near_N8)
    found_N = stays_N & (p_N + share_N8.sum(dim=1) > thresholds.mass)
    return _means(cells, found_N, p_N, share_N8, near_N8)


def emitters_at(
    maps_BCHW: Tensor,
    image_N: Tensor,
    row_N: Tensor,
    column_N: Tensor,
    scaling: Scaling,
    cell_px: float = 1.0,
) -> Emitters:
    """The emitters that scaled maps hold in these cells, with background, differentiable by the maps; with standard
    deviations where the maps have channels for them."""
    scale_6 = torch.tensor(scaling.per_channel(), device=maps_BCHW.device)
    maps_BHW6 = maps_BCHW[:, : ch.N_CHANNELS].permute(0, 2, 3, 1)
    values_N6 = maps_BHW6[image_N, row_N, column_N].float() * scale_6
    return Emitters(
        n_images=len(maps_BCHW),
        image_N=image_N,
        x_px_N=(column_N + 0.5 + values_N6[:, ch.X]) * cell_px,
        y_px_N=(row_N + 0.5 + values_N6[:, ch.Y]) * cell_px,
        z_nm_N=values_N6[:, ch.Z],
        photons_N=values_N6[:, ch.PHOTONS],
        background_N=values_N6[:, ch.BACKGROUND],
        sigma_N4=_sigmas_at(maps_BCHW, image_N, row_N, column_N, scaling, cell_px),
    )


def _sigmas_at(
    maps_BCHW: Tensor, image_N: Tensor, row_N: Tensor, column_N: Tensor, scaling: Scaling, cell_px: float
) -> Tensor | None:
    """Standard deviations of x, y (px), z (nm) and photons in these cells, (N, 4); None without channels for them."""
    if maps_BCHW.shape[1] <= ch.N_CHANNELS:
        return None
    raw_N4 = maps_BCHW[:, ch.SIGMAS].permute(0, 2, 3, 1)[image_N, row_N, column_N]
    of = dict(zip(ch.REGRESSION, ch.sigmas(raw_N4.float()).unbind(dim=1), strict=True))
    scale = scaling.per_channel()
    x, y, z, photons = (of[channel] * scale[channel] for channel in (ch.X, ch.Y, ch.Z, ch.PHOTONS))
    return torch.stack([x * cell_px, y * cell_px, z, photons], dim=1)


def _around(image_N: Tensor, row_N: Tensor, column_N: Tensor, shape: torch.Size) -> Tensor:
    """Which of N cells of maps (B, H, W) lie around each, (N, 8): places in their list, N where there is none."""
    n_images, height, width = shape
    place_BHW = image_N.new_full((n_images, height + 2, width + 2), len(image_N))
    place_BHW[image_N, row_N + 1, column_N + 1] = torch.arange(len(image_N), device=image_N.device)
    return torch.stack(
        [place_BHW[image_N, row_N + 1 + down, column_N + 1 + right] for down, right in _AROUND], dim=1
    )


def _beside(value_N: Tensor, near_N8: Tensor, nowhere: float = 0.0) -> Tensor:
    """The values (N, …) of the cells around each, (N, 8, …)."""
    return torch.cat([value_N, value_N.new_full((1, *value_N.shape[1:]), nowhere)])[near_N8]


def _shares(cells: Emitters, p_N: Tensor, near_N8: Tensor) -> tuple[Tensor, Tensor]:
    """Which cells stay emitters, (N,), and how much probability each has of those around it, (N, 8)."""
    p_N8 = _beside(p_N, near_N8)
    both_N8 = p_N8 + p_N[:, None]
    x_N8, y_N8 = (_beside(one_N, near_N8, float("inf")) for one_N in (cells.x_px_N, cells.y_px_N))
    step_N8 = torch.hypot(x_N8 - cells.x_px_N[:, None], y_N8 - cells.y_px_N[:, None])
    same_N8 = (step_N8 < _REACH_PX - _SURER_PX * both_N8) & (both_N8 <= _MOST_OF_ONE)
    # of two equal cells the first in reading order stays
    earlier_N8 = near_N8 < torch.arange(len(p_N), device=p_N.device)[:, None]
    stronger_N8 = (p_N8 > p_N[:, None]) | ((p_N8 == p_N[:, None]) & earlier_N8)
    stays_N = ~(same_N8 & stronger_N8).any(dim=1)
    # a cell that joins several divides its probability in proportion to theirs
    joined_N = (same_N8 * _beside(p_N * stays_N, near_N8)).sum(dim=1)
    part_N = torch.where(stays_N | (joined_N == 0), 0.0, p_N / joined_N)
    return stays_N, same_N8 * _beside(part_N, near_N8) * (p_N * stays_N)[:, None]


def _means(cells: Emitters, found_N: Tensor, p_N: Tensor, share_N8: Tensor, near_N8: Tensor) -> Emitters:
    """The found cells, with the mean values of those that joined them."""
    own_N, share_N8, near_N8 = p_N[found_N], share_N8[found_N], near_N8[found_N]
    mass_N = own_N + share_N8.sum(dim=1)
    values = {}
    for name in _AVERAGED:
        value_N = getattr(cells, name)
        if value_N is not None:
            own, shares, mass = (
                one.view(*one.shape, *[1] * (value_N.dim() - 1)) for one in (own_N, share_N8, mass_N)
            )
            # what did not join may be anything, NaN too
            joined = torch.where(shares > 0, shares * _beside(value_N, near_N8), 0.0).sum(dim=1)
            values[name] = (own * value_N[found_N] + joined) / mass
    return replace(cells.select(found_N), **values, probability_N=mass_N.clamp(max=1.0))
