"""Background: a level per sample, flat or smoothly structured.

Shape suffixes: B samples, H rows, W columns.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from emitter.core.random import Stream
from emitter.simulation.settings import SimulationSettings

_PURPOSE = 2
_KNOTS = 4  # random values per side, interpolated bicubically over the frame


def draw_background(settings: SimulationSettings, key_B: Tensor, height: int, width: int) -> Tensor:
    """Expected background photons per pixel, (B, H, W), the same in all frames of a sample.

    The structured one is level · (1 − depth · s) with a smooth random s that spans [0, 1] over the frame.
    """
    stream = Stream(key_B, _PURPOSE)
    level_B11 = stream.uniform(1, *settings.background)[..., None]
    if settings.background_structure == 0:
        return level_B11.expand(-1, height, width)
    depth_B11 = stream.uniform(1, 0.0, settings.background_structure)[..., None]
    knots = stream.normal(_KNOTS * _KNOTS).view(-1, 1, _KNOTS, _KNOTS)
    smooth_BHW = F.interpolate(knots, size=(height, width), mode="bicubic", align_corners=True)[:, 0]
    low_B11, high_B11 = torch.aminmax(smooth_BHW.flatten(1), dim=1)
    span = (high_B11 - low_B11).clamp(min=1e-4)[:, None, None]
    return level_B11 * (1 - depth_B11 * (smooth_BHW - low_B11[:, None, None]) / span)
