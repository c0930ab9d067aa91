"""The six channels: their order, their names and their scaling. Nobody else knows an index.

Shape suffixes: B images, C channels, H rows, W columns.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from emitter.core.errors import require

CHANNELS = ("p_logit", "photons", "x", "y", "z", "background")
N_CHANNELS = len(CHANNELS)
P, PHOTONS, X, Y, Z, BACKGROUND = range(N_CHANNELS)
REGRESSION = (PHOTONS, X, Y, Z)  # defined only where an emitter is; p and background are defined everywhere
SIGMAS = tuple(
    range(N_CHANNELS, N_CHANNELS + len(REGRESSION))
)  # raw widths of REGRESSION, where a loss asks for them
SIGMA_FLOOR = 0.01  # in scaled units
_LARGEST_RAW = 10.0  # of a width before softplus


@dataclass(frozen=True)
class Scaling:
    """What one unit of a channel is worth. A map holds value / scale, so that every channel is of order one.

    x and y are offsets from the cell's centre, in cells; a cell is one pixel at the scale of the frame.
    """

    photons: float = 1000.0
    offset_cells: float = 0.5
    z_nm: float = 300.0
    background: float = 22.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            require(value > 0, f"scaling.{name} is {value}: give a positive number")

    def per_channel(self) -> tuple[float, ...]:
        """Scale of every channel, in the order of CHANNELS."""
        return (1.0, self.photons, self.offset_cells, self.offset_cells, self.z_nm, self.background)


def channel_tensor(values: tuple[float, ...] | list[float], like: Tensor) -> Tensor:
    """One number per channel as (1, 6, 1, 1), on the device and in the type of ``like``."""
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, N_CHANNELS, 1, 1)


def sigmas(raw: Tensor) -> Tensor:
    """Standard deviations in scaled units from what the channels ``SIGMAS`` hold."""
    return F.softplus(raw.clamp(-_LARGEST_RAW, _LARGEST_RAW)) + SIGMA_FLOOR


def turned(maps_BCHW: Tensor) -> Tensor:
    """The maps of frames turned by 180° from the maps of the frames, and back: offsets point the other way."""
    sign_C11 = maps_BCHW.new_ones(maps_BCHW.shape[1], 1, 1)
    sign_C11[[X, Y]] = -1.0
    return maps_BCHW.flip(-2, -1) * sign_C11
