"""The quality of a prediction as the target of its probability.

A detector that learns how right its answer is, and not only whether there is something, sorts out the answers that
would be far off (in object detection: quality focal loss, Li et al. 2020). The quality of an emitter's cell is

    q = exp(−½ (Δx² + Δy²) / lateral² − ½ Δz² / axial²)

of the prediction's own error there; no gradient runs through it. The probability then is the expected quality: that an
emitter is here and lies where the maps say, to about these tolerances.

Shape suffixes: B images, C channels (6 or more), 3 of the place, H rows and W columns of cells.
"""

from __future__ import annotations

import torch
from torch import Tensor

from emitter.core import channels as ch
from emitter.losses.base import Truth

_FAR = 1e3  # in scaled units: an error whose square is finite, and whose quality is 0


def quality(
    maps_BCHW: Tensor, target_B6HW: Tensor, truth: Truth, lateral_px: float, axial_nm: float
) -> Tensor:
    """q of every cell, (B, H, W) from 0 to 1, of scaled maps against scaled targets; of meaning where an emitter is.

    Where z is not trained it says nothing and is left out.
    """
    place = [ch.X, ch.Y, ch.Z]
    error_B3HW = (maps_BCHW[:, place] - target_B6HW[:, place]).detach().nan_to_num(_FAR).clamp(-_FAR, _FAR)
    lateral = truth.scaling.offset_cells * truth.cell_px / lateral_px
    axial = truth.scaling.z_nm / axial_nm if truth.axial else 0.0
    units_311 = error_B3HW.new_tensor([lateral, lateral, axial])[:, None, None]
    return torch.exp(-0.5 * (error_B3HW * units_311).square().sum(dim=1))
