"""Spots that stand alone: found as maxima of the smoothed frames, fitted with a Gaussian whose widths are free.

They show what the emitters look like (how round they are); densities and photons come from all pixels
(``emitter.inference.survey.shot_noise``), since where emitters overlap those that stand alone are not like the others.

Shape suffixes: T frames, H rows, W columns, N spots, D = N · window pixels, P parameters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter
from scipy.spatial import cKDTree

_SMOOTH_PX = 1.2
_THRESHOLD = 6.0  # noises of the smoothed frame
_RADIUS_PX = 5
_ALONE_PX = 7.0
_MAX_FITTED = 600
_STEPS = 25
_MAX_CHI2 = 1.6
_FEW = 20
_CROWDED = 0.4  # share of the spots that stand alone
_PIXEL_VARIANCE = 1 / 12
_QUANTILES_ERROR = 0.89  # √M times the relative standard error of a normal spread that is told by 10 and 90 %
_SURE = 3.0  # standard errors


@dataclass(frozen=True)
class Spots:
    """Every maximum, (N,): frame, x, y in pixels; the share that stands alone; and of those whose fit holds, (M,):
    photons, widths in pixels (of the emitter, without the integration over pixels) and the standard error of
    ln(σx/σy)."""

    frame_N: np.ndarray
    x_px_N: np.ndarray
    y_px_N: np.ndarray
    alone_share: float
    photons_M: np.ndarray
    sigma_x_px_M: np.ndarray
    sigma_y_px_M: np.ndarray
    log_ratio_error_M: np.ndarray

    @property
    def elongation(self) -> float | None:
        """Spread of ln(σx/σy), as of a normal distribution whose 10 and 90 % lie where theirs do: of a 2D PSF that of
        the fits' errors, 0.2 and more of an astigmatic one; None for few spots."""
        if len(self.photons_M) < _FEW:
            return None
        ratio = np.log(self.sigma_x_px_M / self.sigma_y_px_M)
        low, high = np.quantile(ratio, (0.1, 0.9))
        return float(high - low) / 2.563

    def is_elongated(self, spread: float) -> bool:
        """Whether the spots are so more than emitters of this spread would come out by the fits' errors and their
        number; False for few spots."""
        if self.elongation is None:
            return False
        noise = float(np.median(self.log_ratio_error_M**2))
        error = _QUANTILES_ERROR * 2 * noise / math.sqrt(len(self.photons_M))
        return self.elongation**2 > spread**2 + noise + _SURE * error

    @property
    def focus_px(self) -> float | None:
        """√(σx σy) of the narrowest (their lower quartile); None for few spots, and for crowded frames, where those
        alone are often two."""
        if len(self.photons_M) < _FEW or self.alone_share < _CROWDED:
            return None
        return float(np.quantile(np.sqrt(self.sigma_x_px_M * self.sigma_y_px_M), 0.25))


def find_spots(frames_THW: np.ndarray, background: float, noise_variance: float, excess: float) -> Spots:
    """Spots of frames in photons, the brighter half of those alone fitted, up to some hundred.

    ``noise_variance``: of a pixel of the background; ``excess``: further variance per photon of a spot.
    """
    smooth = gaussian_filter(frames_THW, (0, _SMOOTH_PX, _SMOOTH_PX), truncate=3.0) - background
    noise = np.sqrt(noise_variance / (4 * np.pi * _SMOOTH_PX**2))
    peak = (smooth == maximum_filter(smooth, (1, 3, 3))) & (smooth > _THRESHOLD * noise)
    frame, row, column = np.nonzero(peak)
    alone = _alone(frame, row, column, frames_THW.shape)
    share = len(alone) / max(len(frame), 1)
    alone = alone[np.argsort(-smooth[frame[alone], row[alone], column[alone]])]
    alone = alone[: max(len(alone) // 2, min(len(alone), 40))]
    alone = alone[np.linspace(0, len(alone) - 1, min(len(alone), _MAX_FITTED)).astype(int)]
    offset = np.arange(-_RADIUS_PX, _RADIUS_PX + 1)
    windows = frames_THW[
        frame[alone, None, None],
        (row[alone, None] + offset)[:, :, None],
        (column[alone, None] + offset)[:, None, :],
    ]
    fitted = _fitted(windows - background, offset, noise_variance, excess)
    return Spots(frame, column + 0.5, row + 0.5, share, *fitted)


def _alone(frame: np.ndarray, row: np.ndarray, column: np.ndarray, shape_THW: tuple[int, ...]) -> np.ndarray:
    """Indices of the spots without a neighbour, whole windows inside the frame."""
    if not len(frame):
        return np.zeros(0, dtype=int)
    points = np.stack([frame * 1000.0 * _ALONE_PX, row, column], axis=1)
    distance = np.asarray(cKDTree(points).query(points, k=2)[0])[:, 1]
    inside = (np.minimum(row, column) >= _RADIUS_PX) & (row < shape_THW[1] - _RADIUS_PX)
    return np.flatnonzero((distance > _ALONE_PX) & inside & (column < shape_THW[2] - _RADIUS_PX))


def _fitted(
    windows_NHW: np.ndarray, offset: np.ndarray, noise_variance: float, excess: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Photons, σx, σy and the standard error of ln(σx/σy) by Levenberg and Marquardt's least squares, all windows at a
    time; bad fits left out, as are those that hold more than one emitter by their χ²."""
    n = len(windows_NHW)
    x_D = np.tile(offset, len(offset)).astype(float)
    y_D = np.repeat(offset, len(offset)).astype(float)
    data_ND = windows_NHW.reshape(n, len(x_D))
    p_NP = np.tile(np.array([1.0, 0, 0, 0.3, 0.3, 0]), (n, 1))  # photons, x, y, ln σx, ln σy, background
    p_NP[:, 0] = np.maximum(data_ND.sum(axis=1), 1.0)
    damping_N = np.full(n, 1e-2)
    model_ND, jacobian_NDP = _gaussian(p_NP, x_D, y_D)
    cost_N = ((data_ND - model_ND) ** 2).sum(axis=1)
    for _ in range(_STEPS if n else 0):
        normal = np.einsum("ndp,ndq->npq", jacobian_NDP, jacobian_NDP)
        slope = np.einsum("ndp,nd->np", jacobian_NDP, data_ND - model_ND)
        diagonal = np.einsum("npp->np", normal) * damping_N[:, None] + 1e-9
        step = np.linalg.solve(normal + diagonal[:, :, None] * np.eye(6), slope[..., None])[..., 0]
        tried = p_NP + step
        tried[:, 3:5] = np.clip(tried[:, 3:5], -1.0, 1.5)
        model, jacobian = _gaussian(tried, x_D, y_D)
        cost = ((data_ND - model) ** 2).sum(axis=1)
        better = cost < cost_N
        p_NP[better], cost_N[better] = tried[better], cost[better]
        model_ND[better], jacobian_NDP[better] = model[better], jacobian[better]
        damping_N = np.where(better, damping_N / 3, damping_N * 5)
    good = (np.abs(p_NP[:, 1:3]) < 1.5).all(axis=1) & (p_NP[:, 0] > 0)
    good &= (p_NP[:, 3:5] > -0.95).all(axis=1) & (p_NP[:, 3:5] < 1.45).all(axis=1)
    variance_ND = noise_variance + excess * np.maximum(model_ND, 0)
    chi2_N = ((data_ND - model_ND) ** 2 / variance_ND).mean(axis=1)
    good &= chi2_N < max(_MAX_CHI2, float(np.quantile(chi2_N, 0.1)) if n else 0.0)
    width_M2: np.ndarray = np.exp(p_NP[good, 3:5])
    sigma = np.sqrt(np.maximum(width_M2**2 - _PIXEL_VARIANCE, 0.01))
    error_M = _log_ratio_error(jacobian_NDP[good], variance_ND[good], width_M2**2 / sigma**2)
    return p_NP[good, 0], sigma[:, 0], sigma[:, 1], error_M


def _log_ratio_error(jacobian_NDP: np.ndarray, variance_ND: np.ndarray, stretch_N2: np.ndarray) -> np.ndarray:
    """Standard error of ln(σx/σy) of fits without weights, (N,), of pixels of these variances; ``stretch``: by how much
    more than the fitted widths those without a pixel's vary."""
    normal = np.einsum("ndp,ndq->npq", jacobian_NDP, jacobian_NDP)
    ratio_NP = np.zeros(normal.shape[:2])
    ratio_NP[:, 3], ratio_NP[:, 4] = stretch_N2[:, 0], -stretch_N2[:, 1]
    # the pseudo-inverse: a step of the fit may have left a parameter without any slope
    leverage_ND = np.einsum("ndp,npq,nq->nd", jacobian_NDP, np.linalg.pinv(normal, hermitian=True), ratio_NP)
    return np.sqrt((leverage_ND**2 * variance_ND).sum(axis=1))


def _gaussian(p_NP: np.ndarray, x_D: np.ndarray, y_D: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The model (N, D) and its derivatives (N, D, P)."""
    photons, x, y, log_sx, log_sy, background = p_NP.T[:, :, None]
    u, v = (x_D - x) / np.exp(log_sx), (y_D - y) / np.exp(log_sy)
    shape = np.exp(-(u**2 + v**2) / 2 - log_sx - log_sy) / (2 * np.pi)
    spot = photons * shape
    parts = [
        shape,
        spot * u * np.exp(-log_sx),
        spot * v * np.exp(-log_sy),
        spot * (u**2 - 1),
        spot * (v**2 - 1),
        np.ones_like(shape),
    ]
    return spot + background, np.stack(parts, axis=2)
