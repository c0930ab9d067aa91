"""Whether the camera's settings are believable: the noise's variance against the mean ("photon transfer").

Of two consecutive frames the difference is free of everything that stands still, and of that a kernel that is blind to
smooth structure (Immerkær, Computer Vision and Image Understanding 1996) leaves the camera's noise and little of the
emitters that blinked. In photons, of a camera whose settings are right, the variance grows with the mean as
``excess / QE`` and is the read noise's where there is no light. A gain that is k times wrong makes the slope k times as
steep; a wrong baseline shifts the line.

Shape suffixes: T frames, H rows, W columns, L levels of the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import convolve, gaussian_filter

_KERNEL_HW = np.outer([1, -2, 1], [1, -2, 1]) / 6.0  # Σ k² = 1
_LEVELS = 24
_SMOOTH_PX = 1.5
_MODEL_ERROR = 0.05  # of a level's variance: emitters that blinked are in it as well


@dataclass(frozen=True)
class PhotonTransfer:
    """Variance against mean, in photons, and the line through it.

    ``slope`` (photons² per photon) with its standard error, ``background``: the typical level of the dark pixels and
    ``background_variance`` there.
    """

    mean_L: np.ndarray
    variance_L: np.ndarray
    slope: float
    slope_error: float
    background: float
    background_variance: float


def photon_transfer(frames_THW: np.ndarray, runs: Sequence[slice]) -> PhotonTransfer:
    """From frames in photons and the runs of consecutive ones among them; single frames are taken as they are."""
    residual, level, sorter = _residuals(frames_THW, runs)
    order = np.argsort(sorter)
    level, residual = level[order], residual[order]
    cuts = (
        np.r_[0, np.linspace(0.04, 0.92, _LEVELS - 6), 0.95, 0.97, 0.985, 0.993, 0.997, 1] * len(level)
    ).astype(int)
    pieces = [slice(a, b) for a, b in zip(cuts, cuts[1:], strict=False) if b - a >= 30]
    mean_L = np.array([level[one].mean() for one in pieces])
    variance_L = np.array([(residual[one] ** 2).mean() for one in pieces])
    count_L = np.array([one.stop - one.start for one in pieces])
    slope, slope_error = _slope(mean_L, variance_L, count_L)
    dark = slice(len(level) // 20, len(level) // 3)
    return PhotonTransfer(
        mean_L, variance_L, slope, slope_error, float(level[dark].mean()), float((residual[dark] ** 2).mean())
    )


def _residuals(frames_THW: np.ndarray, runs: Sequence[slice]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise, mean under the kernel's square (which is what the noise is of), and a smoother mean that pixels can be
    sorted by without picking their noise, of every pixel of all pairs of frames, flat."""
    residuals, levels, sorters = [], [], []
    for run in runs:
        frames = frames_THW[run]
        if len(frames) > 1:
            half = len(frames) // 2 * 2
            first, second = frames[0:half:2], frames[1:half:2]
            noise, mean = (first - second) / np.sqrt(2), (first + second) / 2
        else:
            noise = mean = frames
        residuals.append(convolve(noise, _KERNEL_HW[None])[:, 1:-1, 1:-1].ravel())
        levels.append(convolve(mean, _KERNEL_HW[None] ** 2)[:, 1:-1, 1:-1].ravel())
        smooth = gaussian_filter(mean, (0, _SMOOTH_PX, _SMOOTH_PX), truncate=3.0)
        sorters.append(smooth[:, 1:-1, 1:-1].ravel())
    return np.concatenate(residuals), np.concatenate(levels), np.concatenate(sorters)


def _slope(mean_L: np.ndarray, variance_L: np.ndarray, count_L: np.ndarray) -> tuple[float, float]:
    """Slope at the dark end of variance = c0 + c1 m + c2 m², whose last term is what emitters leave."""
    m = mean_L - mean_L[0]
    weight_L = 1 / (variance_L * np.sqrt(4 / count_L + _MODEL_ERROR**2) + 1e-12)
    design = np.stack([np.ones_like(m), m, m**2], axis=1) * weight_L[:, None]
    covariance = np.linalg.pinv(design.T @ design)
    found = covariance @ design.T @ (variance_L * weight_L)
    return float(found[1]), float(np.sqrt(covariance[1, 1]))
