"""Predicting frames a second time, turned by 180°, and taking the mean: errors that lean to one side cancel.

Only for a PSF that is its own image when turned, as Gaussians are, astigmatic ones too; the network has never seen any
other.

Shape suffixes: N emitters, P side of a patch, B images, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from emitter.core import channels as ch
from emitter.core.decoding import Thresholds
from emitter.core.errors import require
from emitter.psf import PSF

_ALIKE = 0.02  # of the peak
_DEPTHS = 9


def mean_of_turned(predict: Callable[[Tensor], Tensor], frames_NHW: Tensor) -> Tensor:
    """The mean of the maps that ``predict`` gives for frames (…, H, W) and for the frames turned, turned back."""
    maps_BCHW = predict(frames_NHW)
    return (maps_BCHW + ch.turned(predict(frames_NHW.flip(-2, -1)))) / 2


def asymmetry(psf: PSF) -> float:
    """Largest difference between the PSF and itself turned by 180°, as a share of its peak at that depth."""
    offset_px = torch.tensor([0.0, 0.25, 0.0, -0.25, 0.4])
    dx_N, dy_N = offset_px.repeat(_DEPTHS), offset_px.roll(1).repeat(_DEPTHS)
    z_N = torch.linspace(*psf.z_range_nm, _DEPTHS).repeat_interleave(len(offset_px))
    patches_NPP = psf.patches(dx_N, dy_N, z_N)
    turned_NPP = psf.patches(-dx_N, -dy_N, z_N).flip(-2, -1)
    return float(((patches_NPP - turned_NPP).abs().amax((1, 2)) / patches_NPP.amax((1, 2))).max())


def check_turnable(psf: PSF, thresholds: Thresholds) -> None:
    """Raise SettingsError where the mean of turned frames would mix two PSFs, or two cells of one emitter."""
    require(
        not thresholds.one_cell_each,
        "turned is true, and this checkpoint shows every emitter in one cell, which need not be the same in turned "
        "frames: leave turned out",
    )
    share = asymmetry(psf)
    require(
        share <= _ALIKE,
        f"turned is true, and turned by 180° the PSF of this checkpoint differs by {100 * share:.0f} % of its peak: "
        "leave turned out",
    )
