"""Drift of the sample, by redundant cross-correlation of the images of successive segments.

Wang et al., Optics Express 22, 15982 (2014). Shape suffixes: N rows, G segments, P pairs of segments, F frames,
S pixels of the square image's side.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy import fft
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter

from emitter.core.errors import EmitterError, require
from emitter.core.table import EmitterTable

log = logging.getLogger(__name__)

_MAX_SIDE_PX = 2048
_FIT_SIGMA_PX = 2.0  # of the Gaussian that weights the correlation's peak
_FIT_ROUNDS = 20
_MIN_PER_SEGMENT = 50


@dataclass(frozen=True)
class Drift:
    """Drift of every frame from ``first_frame`` on, nm: a position minus it is where the emitter was on average."""

    first_frame: int
    x_nm_F: np.ndarray = field(repr=False)
    y_nm_F: np.ndarray = field(repr=False)

    def corrected(self, table: EmitterTable) -> EmitterTable:
        """The table with the drift taken off."""
        at_N = table.frame - self.first_frame
        return table.with_columns(x_nm=table.x_nm - self.x_nm_F[at_N], y_nm=table.y_nm - self.y_nm_F[at_N])


@dataclass(frozen=True)
class DriftSettings:
    """Segments (of as many localizations each), the images' pixel, how far drift may go, what makes an outlier."""

    segments: int = 10
    pixel_nm: float = 20.0
    max_drift_nm: float = 1000.0
    outlier_nm: float = 30.0

    def __post_init__(self) -> None:
        require(self.segments >= 2, f"segments is {self.segments}: give 2 or more")
        for name in ("pixel_nm", "max_drift_nm", "outlier_nm"):
            value = getattr(self, name)
            require(math.isfinite(value) and value > 0, f"{name} is {value}: give a length in nm, above 0")


def estimate_drift(table: EmitterTable, settings: DriftSettings) -> Drift:
    """The lateral drift, of mean 0 over the localizations: a spline through the segments' shifts.

    Raises:
        EmitterError: fewer than 50 localizations in a segment, segments that cannot be told apart in time, or that
            disagree about the drift.
    """
    if len(table) < _MIN_PER_SEGMENT * settings.segments:
        raise EmitterError(
            f"{len(table)} localizations make {settings.segments} segments of fewer than {_MIN_PER_SEGMENT}: give "
            "fewer segments"
        )
    parts = np.array_split(np.argsort(table.frame, kind="stable"), settings.segments)
    middle_G = np.array([table.frame[rows].mean() for rows in parts])
    if np.any(np.diff(middle_G) <= 0):
        raise EmitterError(
            "the segments share their frames, there is no time in between: give fewer segments"
        )
    early_P, late_P, shift_P2 = _shifts(table, parts, settings)
    drift_G2 = _solved(early_P, late_P, shift_P2, settings)
    first, last = int(table.frame.min()), int(table.frame.max())
    frame_F = np.clip(
        np.arange(first, last + 1), middle_G[0], middle_G[-1]
    )  # no extrapolation beyond the middles
    kind: Literal["not-a-knot", "natural"] = "not-a-knot" if settings.segments > 3 else "natural"
    drift_F2 = CubicSpline(middle_G, drift_G2, bc_type=kind)(frame_F)
    drift_F2 -= drift_F2[table.frame - first].mean(axis=0)
    return Drift(first, drift_F2[:, 0], drift_F2[:, 1])


def _shifts(
    table: EmitterTable, parts: list[np.ndarray], settings: DriftSettings
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shift (x, y) in nm of the later segment against the earlier, for all pairs."""
    extent_nm = max(np.ptp(table.x_nm), np.ptp(table.y_nm)) + 2 * settings.max_drift_nm
    pixel_nm = max(settings.pixel_nm, extent_nm / _MAX_SIDE_PX)
    side = fft.next_fast_len(math.ceil(extent_nm / pixel_nm) + 1, real=True)
    reach = max(1, min(math.ceil(settings.max_drift_nm / pixel_nm), side // 2 - 1))
    x, y = (((c - c.min()) / pixel_nm).astype(np.int64) for c in (table.x_nm, table.y_nm))
    spectra = []
    for rows in parts:
        counts = np.bincount(y[rows] * side + x[rows], minlength=side * side).reshape(side, side)
        spectra.append(fft.rfft2(counts.astype(np.float32)))
    early_P, late_P = np.triu_indices(len(parts), 1)
    shift_P2 = np.empty((len(early_P), 2))
    for p, (i, j) in enumerate(zip(early_P, late_P, strict=True)):
        correlation_SS = fft.irfft2(spectra[j] * spectra[i].conj(), (side, side))
        near = np.roll(correlation_SS, (reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1]
        shift_P2[p] = (_peak(near) - reach) * pixel_nm
    return early_P, late_P, shift_P2


def _peak(correlation_SS: np.ndarray) -> np.ndarray:
    """Where the highest peak lies, (x, y) px to a fraction: the mean under a Gaussian that is moved onto itself."""
    smooth_SS: np.ndarray = gaussian_filter(correlation_SS, 1.0)
    row, column = divmod(int(smooth_SS.argmax()), smooth_SS.shape[1])
    reach = math.ceil(3 * _FIT_SIGMA_PX)
    rows = np.arange(max(row - reach, 0), min(row + reach + 1, len(smooth_SS)))
    columns = np.arange(max(column - reach, 0), min(column + reach + 1, smooth_SS.shape[1]))
    patch = smooth_SS[np.ix_(rows, columns)]
    patch = np.clip(patch - np.median(patch), 0, None)
    y, x = float(row), float(column)
    for _ in range(_FIT_ROUNDS):
        weight = patch * np.exp(
            -((rows[:, None] - y) ** 2 + (columns[None] - x) ** 2) / (2 * _FIT_SIGMA_PX**2)
        )
        total = max(weight.sum(), 1e-300)
        y, x = float((weight.sum(axis=1) @ rows) / total), float((weight.sum(axis=0) @ columns) / total)
    return np.array([x, y])


def _solved(
    early_P: np.ndarray, late_P: np.ndarray, shift_P2: np.ndarray, settings: DriftSettings
) -> np.ndarray:
    """Drift of each segment, (G, 2) nm, by least squares; pairs that disagree most are left out one by one."""
    steps = settings.segments - 1
    step = np.arange(steps)
    design_PG = ((step >= early_P[:, None]) & (step < late_P[:, None])).astype(float)
    keep = np.ones(len(early_P), bool)
    while True:
        solution_G2 = np.linalg.lstsq(design_PG[keep], shift_P2[keep], rcond=None)[0]
        residual_P = np.where(keep, np.hypot(*(design_PG @ solution_G2 - shift_P2).T), 0)
        worst = int(residual_P.argmax())
        without = keep.copy()
        without[worst] = False
        if residual_P[worst] <= settings.outlier_nm or np.linalg.matrix_rank(design_PG[without]) < steps:
            break
        keep = without
    if 2 * keep.sum() < len(keep):
        raise EmitterError(
            f"{np.sum(~keep)} of {len(keep)} pairs of segments disagree about the drift: the table shows no structure "
            "that lasts, or give fewer segments"
        )
    if not keep.all():
        log.info("%d of %d pairs of segments disagree and are left out", np.sum(~keep), len(keep))
    if residual_P.max() > settings.outlier_nm:
        log.warning("the segments' shifts disagree by up to %.0f nm: give fewer segments", residual_P.max())
    return np.vstack((np.zeros((1, 2)), np.cumsum(solution_G2, axis=0)))
