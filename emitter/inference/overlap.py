"""How much the spots of camera frames overlap, told without finding a spot and without knowing the background.

A frame of emitters at random places is shot noise: after any linear filter, its cumulants add up over the emitters
(Campbell's theorem; Rice, Bell System Technical Journal 1944). The second is proportional to density × photons², the
third to density × photons³, hence second³ / third² to the density alone, for spots of one shape. (The idea of counting
by higher cumulants: Palmer and Thompson, Biophysical Journal 1987.) Taken from pixels next to each other and not from
one pixel they are free of the camera's noise, and taken after the local mean is subtracted of the background.

Shape suffixes: F frames, H rows, W columns.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import uniform_filter

_LOCAL_PX = 15  # wider than a spot
_SURE = 3.0  # standard errors of the second cumulant above none; of the third, which varies more, 2 are asked
_SURE_OF_THIRD = 2.0


def overlap(frames_FHW: np.ndarray) -> float:
    """Proportional to the density for spots of one shape, and to the area of spots of another width; NaN where the
    frames do not tell.

    Args:
        frames_FHW: photons.
    """
    if len(frames_FHW) < 2 or min(frames_FHW.shape[1:]) < _LOCAL_PX:
        return math.nan
    second_F, third_F = np.array([_cumulants(frame_HW) for frame_HW in frames_FHW]).T
    if not (_score(second_F) > _SURE and _score(third_F) > _SURE_OF_THIRD):
        return math.nan
    return float(second_F.mean() ** 3 / third_F.mean() ** 2)


def _cumulants(frame_HW: np.ndarray) -> tuple[float, float]:
    """The second of neighbours in a row or a column; the third of a pixel, its neighbour in the row and its neighbour
    in the column, of all four corners that they form."""
    off_HW = frame_HW.astype(np.float64)
    off_HW -= uniform_filter(off_HW, _LOCAL_PX)
    in_row, in_column = off_HW[:, :-1] * off_HW[:, 1:], off_HW[:-1] * off_HW[1:]
    second = (in_row.mean() + in_column.mean()) / 2
    third = sum(
        float((in_row[rows] * off_HW[others, columns]).mean())
        for rows, others in ((np.s_[:-1], np.s_[1:]), (np.s_[1:], np.s_[:-1]))
        for columns in (np.s_[:-1], np.s_[1:])
    )
    return float(second), third / 4


def _score(values_F: np.ndarray) -> float:
    """Their mean in standard errors."""
    return float(values_F.mean() / max(values_F.std() / math.sqrt(len(values_F)), 1e-12))
