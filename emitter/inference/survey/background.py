"""How uneven a background is, over the field and over time.

Shape suffixes: T frames, H rows, W columns, R runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter, percentile_filter

_QUANTILE = 0.25
_SMOOTH_PX = 2.0
MIN_FRAMES = 48  # with fewer, emitters are in the low quantile of many pixels
_COARSE_PX = 4


def background_map(frames_THW: np.ndarray, runs: Sequence[slice]) -> np.ndarray:
    """Deviation of the background from its mean, photons, (H, W): a low quantile over time of the smoothed frames (of
    few frames, its low quantile over an eighth of the field as well), smoothed again over an eighth of the field.

    Where emitters reach the low quantile it is uneven by their chance alone. So only the share of the map is kept that
    every other of the ``runs`` has in common with those between.
    """
    smooth = gaussian_filter(frames_THW, (0, _SMOOTH_PX, _SMOOTH_PX), truncate=3.0)
    few = len(frames_THW) < MIN_FRAMES
    map_HW = _map(smooth, few)
    if len(runs) > 1:
        halves = (np.concatenate([smooth[run] for run in runs[side::2]]) for side in (0, 1))
        map_HW = map_HW * _in_common(*(_map(half, few) for half in halves))
    return np.asarray(map_HW, dtype=np.float32)


def _map(smooth_THW: np.ndarray, few: bool) -> np.ndarray:
    low_HW = np.quantile(smooth_THW, _QUANTILE, axis=0)
    side = max(4.0, min(low_HW.shape) / 8)
    if few:
        window = max(3, round(2 * side / _COARSE_PX))
        coarse_HW = percentile_filter(low_HW[::_COARSE_PX, ::_COARSE_PX], 100 * _QUANTILE, window)
        low_HW = np.kron(coarse_HW, np.ones((_COARSE_PX, _COARSE_PX)))[: low_HW.shape[0], : low_HW.shape[1]]
    wide_HW = gaussian_filter(low_HW, side, truncate=2.0)
    return np.asarray(wide_HW - wide_HW.mean())


def _in_common(one_HW: np.ndarray, other_HW: np.ndarray) -> float:
    """Share of the whole movie's map that is no chance, from 0 to 1: its reliability by the correlation of two halves
    (Spearman and Brown, British Journal of Psychology 1910)."""
    power = float(np.sqrt((one_HW**2).mean() * (other_HW**2).mean()))
    correlation = float((one_HW * other_HW).mean()) / max(power, 1e-12)
    return 2 * max(correlation, 0.0) / (1 + max(correlation, 0.0))


def background_range(
    level: float, map_HW: np.ndarray, frames_THW: np.ndarray, runs: Sequence[slice]
) -> tuple[float, float]:
    """Lowest and highest background of the field (2 and 98 % of the map) and of the movie's runs, photons."""
    low_R = np.array([np.quantile(frames_THW[run], _QUANTILE) for run in runs])
    drift_R = low_R - np.median(low_R)
    field = np.quantile(map_HW, (0.02, 0.98))
    return level + float(field[0] + drift_R.min()), level + float(field[1] + drift_R.max())
