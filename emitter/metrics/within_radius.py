"""What is left of Gaussian errors where only those within a matching radius are seen: moments of truncated normal
distributions.

Of an emitter that shows next to nothing the Cramér-Rao bound is without limit, the error of a matched one is not. At
last every place within the radius is as likely as any other.
"""

from __future__ import annotations

import numpy as np
from scipy.special import erf

_FLAT = 1e-3  # of (radius / standard deviation)²: below, a series: the closed form is a difference of large numbers
_SURE = 0.03  # standard deviation over radius: below, nothing is cut


def lateral_mean_square(std_N: np.ndarray, radius: float) -> np.ndarray:
    """(N,) mean of x² + y² within a disk, where x and y have this standard deviation (N,), in its unit squared."""
    u_N = 0.5 * (radius / np.maximum(std_N, radius * _SURE)) ** 2
    steep_N = np.maximum(u_N, _FLAT)
    share_N = np.where(u_N > _FLAT, 1 / steep_N - 1 / np.expm1(steep_N), 0.5 - u_N / 12)
    return _small(std_N, 2 * std_N**2, radius, radius**2 * share_N)


def axial_mean_square(std_N: np.ndarray, radius: float) -> np.ndarray:
    """(N,) mean of z² between ± radius, where z has this standard deviation (N,), in its unit squared."""
    u_N = (radius / np.maximum(std_N, radius * _SURE)) ** 2
    steep_N = np.sqrt(np.maximum(u_N, _FLAT))
    density_N = np.exp(-0.5 * steep_N**2) / np.sqrt(2 * np.pi)
    closed_N = steep_N**-2 - 2 * density_N / (steep_N * erf(steep_N / np.sqrt(2)))
    share_N = np.where(u_N > _FLAT, closed_N, 1 / 3 - 2 * u_N / 45)
    return _small(std_N, std_N**2, radius, radius**2 * share_N)


def _small(std_N: np.ndarray, untouched_N: np.ndarray, radius: float, cut_N: np.ndarray) -> np.ndarray:
    """Errors far smaller than the radius are not cut."""
    mean_N: np.ndarray = np.where(std_N < radius * _SURE, untouched_N, cut_N)
    return mean_N
