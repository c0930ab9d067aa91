"""Coarse lateral drift, by redundant cross-correlation of the images of successive segments.

Wang et al., Optics Express 22, 15982 (2014). Here it only brings the same structures near to each other, which
``drift_pairs`` then does finely, and so it speaks only where its peaks stand out of their noise.
Shape suffixes: N rows, G segments, P pairs of segments, S pixels of the square image's side.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import fft
from scipy.ndimage import gaussian_filter
from scipy.optimize import least_squares

from emitter.analysis.field import in_field
from emitter.core.progress import Report

_PIXEL_NM = 20.0
_MAX_SIDE_PX = 2048
_SEGMENTS = (16, 8, 4, 2)  # tried in this order
_MIN_ROWS = 50  # of a segment
_NARROW_PX, _WIDE_PX = 1.5, 6.0  # what is wider than the second is no peak
_MIN_PEAK = 7.0  # standard deviations of the correlation's noise; pure noise reaches 4 to 5
_OUTLIER_PX = 3.0


def coarse_drift(
    place_N2: np.ndarray, frame_N: np.ndarray, max_drift_nm: float, report: Report
) -> tuple[np.ndarray, np.ndarray] | None:
    """Middle frames of segments, (G,), and their drift against the first, (G, 2) nm.

    The number of segments is the largest for which peaks that stand out connect them all and agree; None when not
    even two halves show the same structure.

    Args:
        place_N2: x, y in nm.
        frame_N: frame of each row.
        max_drift_nm: farther shifts are not looked for.
        report: is told the share of the work that is done.
    """
    inside_N = in_field(place_N2)  # one far off would make the pixels coarse
    place_N2, frame_N = place_N2[inside_N], frame_N[inside_N]
    extent_nm = float(np.ptp(place_N2, axis=0).max()) + 2 * max_drift_nm
    pixel_nm = max(_PIXEL_NM, extent_nm / _MAX_SIDE_PX)
    order = np.argsort(frame_N, kind="stable")
    for tried, segments in enumerate(_SEGMENTS):
        report(tried / len(_SEGMENTS))
        parts = np.array_split(order, segments)
        if len(parts[-1]) < _MIN_ROWS:
            continue
        middle_G = np.array([frame_N[rows].mean() for rows in parts])
        if np.any(np.diff(middle_G) <= 0):
            continue
        spectra, side = _spectra(place_N2, parts, pixel_nm, extent_nm)
        pair_P2, shift_P2 = _shifts(spectra, side, math.ceil(max_drift_nm / pixel_nm))
        drift_G2 = _solved(pair_P2, shift_P2, segments)
        if drift_G2 is not None:
            return middle_G, drift_G2 * pixel_nm
    return None


def _spectra(
    place_N2: np.ndarray, parts: list[np.ndarray], pixel_nm: float, extent_nm: float
) -> tuple[list[np.ndarray], int]:
    """Fourier transforms of the segments' histograms, and the histograms' side in pixels."""
    side = fft.next_fast_len(math.ceil(extent_nm / pixel_nm) + 1, real=True)
    column_N, row_N = ((place_N2 - place_N2.min(axis=0)) / pixel_nm).astype(np.int64).T
    spectra = []
    for rows in parts:
        counts = np.bincount(row_N[rows] * side + column_N[rows], minlength=side * side)
        spectra.append(fft.rfft2(counts.reshape(side, side).astype(np.float32)))
    return spectra, side


def _shifts(spectra: list[np.ndarray], side: int, max_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Earlier and later segment of the pairs that show a shift, (P, 2), and that shift in px, (P, 2)."""
    reach = max(1, min(max_px, side // 2 - 1))
    lags = np.arange(-reach, reach + 1)
    pairs, shifts = [], []
    for i, j in zip(*np.triu_indices(len(spectra), 1), strict=True):
        lines = fft.ifft(spectra[j] * spectra[i].conj(), axis=0)[lags]  # only the rows that are looked at
        shift_px_2, height = _peak(fft.irfft(lines, side, axis=1)[:, lags])
        if height >= _MIN_PEAK:
            pairs.append((i, j))
            shifts.append(shift_px_2 - reach)
    return np.array(pairs, int).reshape(-1, 2), np.array(shifts).reshape(-1, 2)


def _peak(correlation_SS: np.ndarray) -> tuple[np.ndarray, float]:
    """Where the highest narrow peak lies, (x, y) px to a fraction, and its height over the noise's spread."""
    narrow_SS = gaussian_filter(correlation_SS, _NARROW_PX) - gaussian_filter(correlation_SS, _WIDE_PX)
    spread = 1.4826 * float(np.median(np.abs(narrow_SS - np.median(narrow_SS))))
    row, column = divmod(int(narrow_SS.argmax()), narrow_SS.shape[1])
    height = float(narrow_SS[row, column]) / max(spread, 1e-30)
    rows, columns = (
        np.arange(max(at - 2, 0), min(at + 3, length))
        for at, length in zip((row, column), narrow_SS.shape, strict=True)
    )
    patch = np.clip(narrow_SS[np.ix_(rows, columns)], 1e-30, None)
    return np.array([patch.sum(axis=0) @ columns, patch.sum(axis=1) @ rows]) / patch.sum(), height


def _solved(pair_P2: np.ndarray, shift_P2: np.ndarray, segments: int) -> np.ndarray | None:
    """Drift of each segment against the first, (G, 2) px; None where the pairs do not connect them or disagree."""
    identity = np.eye(segments)
    design_PG = (identity[pair_P2[:, 1]] - identity[pair_P2[:, 0]])[:, 1:]
    if len(pair_P2) < segments - 1 or np.linalg.matrix_rank(design_PG) < segments - 1:
        return None

    def residuals(drift_G: np.ndarray, shift_P: np.ndarray) -> np.ndarray:
        return design_PG @ drift_G - shift_P

    start_G = np.zeros(segments - 1)
    drift_G2 = np.column_stack(  # soft_l1: what lies far off hardly counts
        [least_squares(residuals, start_G, loss="soft_l1", args=(shift_P,)).x for shift_P in shift_P2.T]
    )
    if np.mean(np.hypot(*(design_PG @ drift_G2 - shift_P2).T) > _OUTLIER_PX) > 0.5:
        return None
    return np.vstack((np.zeros(2), drift_G2))
