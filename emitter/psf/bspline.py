"""Uniform cubic B-splines: weights, design matrices, and coefficients through samples.

A spline over K knots one unit apart has K + 2 coefficients; coefficient j belongs to the knot j − 1. In the
cell that starts at knot k, at the fraction u in [0, 1], its value is Σ_i w_i(u) c[k + i], i = 0 … 3 (de
Boor, A Practical Guide to Splines).
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg import solve_banded
from torch import Tensor


def weights(u_N: Tensor) -> Tensor:
    """The four weights at the fraction u of a cell, (N, 4)."""
    v = 1 - u_N
    u2, v2 = u_N * u_N, v * v
    first, last = v2 * v / 6, u2 * u_N / 6
    second = 2 / 3 - u2 + 0.5 * u2 * u_N
    return torch.stack((first, second, 1 - first - second - last, last), dim=1)


def weight_slopes(u_N: Tensor) -> Tensor:
    """Derivatives of the four weights by u, (N, 4)."""
    v = 1 - u_N
    first, last = -0.5 * v * v, 0.5 * u_N * u_N
    second = u_N * (1.5 * u_N - 2)
    return torch.stack((first, second, -first - second - last, last), dim=1)


def design_matrix(positions: np.ndarray, n_knots: int) -> np.ndarray:
    """Values of all n_knots + 2 basis functions at positions in knots (0 … n_knots − 1), (len(positions), K
    + 2)."""
    cell = np.clip(np.floor(positions), 0, n_knots - 2).astype(int)
    weight = weights(torch.as_tensor(positions - cell, dtype=torch.float64)).numpy()
    matrix = np.zeros((len(positions), n_knots + 2))
    rows = np.arange(len(positions))
    for i in range(4):
        matrix[rows, cell + i] = weight[:, i]
    return matrix


def interpolate(samples: np.ndarray, axis: int) -> np.ndarray:
    """Coefficients through samples at the knots with natural ends (second derivative zero), float64.

    The axis grows from K to K + 2. A natural end means c[0] − 2 c[1] + c[2] = 0, hence c[1] is the first
    sample.
    """
    values = np.moveaxis(np.asarray(samples, dtype=np.float64), axis, 0)
    n = len(values)
    bands = np.zeros((3, n))
    bands[0, 2:], bands[1], bands[2, :-2] = 1 / 6, 2 / 3, 1 / 6
    bands[1, [0, -1]] = 1.0
    inner = solve_banded((1, 1), bands, values.reshape(n, -1)).reshape(values.shape)
    first, last = 2 * inner[:1] - inner[1:2], 2 * inner[-1:] - inner[-2:-1]
    return np.moveaxis(np.concatenate((first, inner, last)), 0, axis)
