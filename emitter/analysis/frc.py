"""Fourier ring correlation: the resolution of a super-resolved image, from two halves of its localizations.

Nieuwenhuizen et al., Nature Methods 10, 557 (2013). Shape suffixes: S pixels of the square image's side, Q rings.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import uniform_filter1d
from scipy.signal.windows import tukey

from emitter.analysis.field import in_field
from emitter.core.errors import EmitterError, require
from emitter.core.progress import Report, untold
from emitter.core.table import EmitterTable

log = logging.getLogger(__name__)

THRESHOLD = 1 / 7
_MAX_SIDE_PX = 4096
# Of successive frames, as in the authors' own program (its function postofrc): a blink then lies in one half, not in
# both, unless it lasts for much of a block.
_BLOCKS = 50
_SMOOTH = 5  # rings


@dataclass(frozen=True)
class RingCorrelation:
    """Correlation of each ring (averaged over splits), its spatial frequency (1/nm), and 1/frequency (nm) where it
    falls below 1/7 first; NaN where it never does or begins below.

    ``spread_nm`` is the standard deviation of that over the splits, each by itself; infinite where one does not cross.
    ``pixel_nm`` is the pixel that was taken.
    """

    frequency_Q: np.ndarray = field(repr=False)
    correlation_Q: np.ndarray = field(repr=False)
    resolution_nm: float
    spread_nm: float
    pixel_nm: float


def frc(
    table: EmitterTable,
    pixel_nm: float = 10.0,
    splits: int = 5,
    seed: int = 0,
    report: Report = untold,
) -> RingCorrelation:
    """The Fourier ring correlation of a table.

    Blinks that are not linked, and drift, change it: ``doubts.py`` says when. Few rows that lie far off the others
    are left out: they would make the pixels coarse.

    Args:
        table: the emitters.
        pixel_nm: pixel of the images: the finest resolution is twice that. Made larger for large fields.
        splits: random splits into halves, over which the correlation is averaged.
        seed: of the splits.
        report: is told the share of the work that is done.

    Raises:
        EmitterError: fewer than 100 localizations, or all of them in one place or in one frame.
    """
    require(pixel_nm > 0 and splits >= 1, f"pixel_nm is {pixel_nm} and splits {splits}: give numbers above 0")
    if len(table) < 100 or np.ptp(table.frame) == 0:
        raise EmitterError("FRC needs 100 localizations or more, of several frames: give a longer table")
    inside_N = in_field(np.column_stack((table.x_nm, table.y_nm)))
    if not inside_N.all():
        log.info("FRC leaves out %d localizations that lie far off the others", np.count_nonzero(~inside_N))
    table = table.select(inside_N)
    extent_nm = max(np.ptp(table.x_nm), np.ptp(table.y_nm))
    if extent_nm < 20 * pixel_nm:
        raise EmitterError(f"all localizations lie within {extent_nm:.0f} nm: give a smaller pixel_nm")
    pixel_nm = max(pixel_nm, extent_nm / _MAX_SIDE_PX)
    block_N = blocks(table)
    curves = []
    for split in range(splits):
        half = np.random.default_rng((seed, split)).permutation(_BLOCKS) < _BLOCKS // 2
        first_SS, second_SS = (_image(table, half[block_N] == side, pixel_nm) for side in (True, False))
        curves.append(ring_correlation(first_SS, second_SS))
        report((split + 1) / splits)
    correlation_Q = np.mean(curves, axis=0)
    frequency_Q = np.arange(len(correlation_Q)) / (first_SS.shape[0] * pixel_nm)
    found_nm = [_crossing(frequency_Q, curve_Q) for curve_Q in curves]
    spread_nm = math.inf if np.isnan(found_nm).any() else float(np.std(found_nm))
    return RingCorrelation(
        frequency_Q, correlation_Q, _crossing(frequency_Q, correlation_Q), spread_nm, pixel_nm
    )


def blocks(table: EmitterTable) -> np.ndarray:
    """Which block of successive frames each row is in, (N,): about as many rows in each, and no frame is cut."""
    order = np.argsort(table.frame, kind="stable")
    block_N = np.empty(len(table), np.int64)
    block_N[order] = np.searchsorted(table.frame[order], table.frame[order]) * _BLOCKS // len(table)
    return block_N


def ring_correlation(first_SS: np.ndarray, second_SS: np.ndarray) -> np.ndarray:
    """Correlation of two images in rings of the Fourier plane one frequency wide, up to Nyquist, (Q,)."""
    side = len(first_SS)
    one, two = np.fft.rfft2(first_SS), np.fft.rfft2(second_SS)
    radius = np.hypot(np.fft.fftfreq(side, 1 / side)[:, None], np.fft.rfftfreq(side, 1 / side)[None])
    ring = np.round(radius).astype(np.int64).ravel()
    weight = np.full(one.shape, 2.0)  # the half plane that rfft2 leaves out is the other's mirror
    weight[:, 0] = 1
    if side % 2 == 0:
        weight[:, -1] = 1
    both, power_one, power_two = (
        np.bincount(ring, (weight * value).ravel())[: side // 2]
        for value in ((one * two.conj()).real, np.abs(one) ** 2, np.abs(two) ** 2)
    )
    return both / np.maximum(np.sqrt(power_one * power_two), 1e-300)


def _image(table: EmitterTable, rows: np.ndarray, pixel_nm: float) -> np.ndarray:
    """Square histogram of the rows on the whole table's extent, faded out at its edges, (S, S)."""
    x, y = (
        ((column - column.min()) / pixel_nm).astype(np.int64)[rows] for column in (table.x_nm, table.y_nm)
    )
    side = int(max(np.ptp(table.x_nm), np.ptp(table.y_nm)) / pixel_nm) + 1
    image_SS = np.bincount(y * side + x, minlength=side * side).reshape(side, side).astype(np.float64)
    window_S = tukey(side, 0.25)
    return image_SS * window_S[:, None] * window_S[None]


def _crossing(frequency_Q: np.ndarray, correlation_Q: np.ndarray) -> float:
    smooth_Q = uniform_filter1d(correlation_Q, _SMOOTH, mode="nearest")
    below = np.flatnonzero(smooth_Q[1:] < THRESHOLD) + 1
    if not len(below) or below[0] == 1:
        return float("nan")
    k = below[0]
    share = (smooth_Q[k - 1] - THRESHOLD) / (smooth_Q[k - 1] - smooth_Q[k])
    return float(1 / (frequency_Q[k - 1] + share * (frequency_Q[k] - frequency_Q[k - 1])))
