"""Blinking: the lifetime from how the light of one frame goes on in the next, and what a lifetime does to the photons.

On times are exponential (``emitter.simulation.activation``). The light of a frame is the integral of the on-state over
it, so the covariance of two frames k apart is, in units of the emitters on at an instant, with q = exp(−1/τ),

    c(0) = 2τ(1 − τ(1 − q)),    c(k) = τ²(1 − q)² q^(k−1) .

Shape suffixes: T frames, H rows, W columns, K lags.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize_scalar

MAX_LAG = 6
MIN_CORRELATION = 0.05  # of neighbouring frames; below it a lifetime cannot be told from none
MAX_LIFETIME_FRAMES = 200.0


def lag_shape(lifetime_frames: float, n_lags: int) -> np.ndarray:
    """c(0), c(1), … of the lifetime, (K,): 1 for a lifetime that has no end."""
    tau = lifetime_frames
    loss = -np.expm1(-1 / tau)
    k = np.arange(1, n_lags)
    return np.concatenate(([2 * tau * (1 - tau * loss)], (tau * loss) ** 2 * np.exp(-(k - 1) / tau)))


def covariances(smooth_THW: np.ndarray, runs: Sequence[slice]) -> np.ndarray:
    """Covariance of frames 0, 1, … apart within the runs of consecutive frames, less that of frames of different
    runs, which is the static structure's, (K,); lags that no run holds are left out."""
    centred = smooth_THW - smooth_THW.mean()
    means = [centred[run].mean(axis=0) for run in runs]
    far = [float((a * b).mean()) for i, a in enumerate(means) for b in means[i + 2 :]]
    static = float(np.mean(far)) if far else 0.0
    found = []
    for lag in range(MAX_LAG + 1):
        pairs = [
            (centred[run][lag:] * centred[run][: run.stop - run.start - lag]).mean(axis=(1, 2))
            for run in runs
            if run.stop - run.start > lag
        ]
        if not pairs:
            break
        found.append(float(np.concatenate(pairs).mean()) - static)
    return np.array(found)


def lifetime_of(covariance_K: np.ndarray, noise_variance: float) -> float | None:
    """Mean on-time in frames, or None where neighbouring frames have nothing in common.

    Args:
        covariance_K: of ``covariances``, the first with the camera's noise.
        noise_variance: the camera's share of it.
    """
    signal_K = covariance_K.copy()
    signal_K[0] -= noise_variance
    if len(signal_K) < 2 or signal_K[0] <= 0 or signal_K[1] < MIN_CORRELATION * signal_K[0]:
        return None
    weight_K = np.r_[0.5, np.ones(len(signal_K) - 1)]  # the first leans on the camera's noise

    def misfit(log_tau: float) -> float:
        shape_K = lag_shape(float(np.exp(log_tau)), len(signal_K))
        scale = (weight_K * shape_K * signal_K).sum() / (weight_K * shape_K**2).sum()
        return float((weight_K * (signal_K - scale * shape_K) ** 2).sum())

    best = minimize_scalar(misfit, bounds=(np.log(0.1), np.log(MAX_LIFETIME_FRAMES)), method="bounded")
    return float(np.exp(best.x))


def fractions(lifetime_frames: float | None, n: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Fraction of a frame that an emitter seen in it is on for, and the share of such frames, (n + 1,) each.

    Of the 1 + τ frames in which an emitter is seen on average, τ·exp(−1/τ) are full; a fraction f has the density
    exp(−f/τ)(2 + (1 − f)/τ): frames of the onset, of the end, and of both.
    """
    if lifetime_frames is None:
        return np.ones(1), np.ones(1)
    tau = lifetime_frames
    f = (np.arange(n) + 0.5) / n
    partial = np.exp(-f / tau) * (2 + (1 - f) / tau)
    full = tau * np.exp(-1 / tau)
    partial *= (1 + tau - full) / partial.sum()
    return np.append(f, 1.0), np.append(partial, full) / (1 + tau)
