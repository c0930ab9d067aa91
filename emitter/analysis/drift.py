"""Drift of the sample in x, y and z: coarsely by cross-correlation (x, y), then finely by pairs of localizations.

Where a table does not show drift beyond chance, it is left as it is. Shape suffixes: N rows, P pairs, F frames, K bins
of time, A axes (x, y, and z if the table has it).
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from emitter.analysis.drift_correlation import coarse_drift
from emitter.analysis.drift_curve import Curve, best_curve
from emitter.analysis.drift_pairs import Pairs, even_weights, find_pairs, tiles_of
from emitter.analysis.nena import nena
from emitter.core.errors import EmitterError, require
from emitter.core.frames import span_of
from emitter.core.progress import Report, part, untold
from emitter.core.table import EmitterTable

log = logging.getLogger(__name__)

AXES = ("x_nm", "y_nm", "z_nm")
_MIN_ROWS, _ENOUGH_ROWS = 100, 1000
_ROWS_PER_BIN, _MIN_BINS, _MAX_BINS = 30, 4, 500
_KERNEL = 2.0  # width in standard deviations of a localization: √2 for a pair's error, and the structure's
_LATERAL_LEVELS = (3.0, 1.0)  # kernels one after the other, in widths of the last: the first reach farther
_AXIAL_LEVELS = (9.0, 3.0, 1.0)
_PAIRS = (300_000, 600_000)  # at most, on the way and in the last level
_PRECISION_NM, _AXIAL_RATIO = 15.0, 2.5  # where the table does not tell


@dataclass(frozen=True)
class Drift:
    """Drift of every frame from ``first_frame`` on, nm, (F, 2) or with z (F, 3).

    A position minus it is where the emitter was on average. Its standard error is of the same shape, and NaN where no
    drift of an axis shows, which is 0 then; it does not know of what is faster than the curve follows.
    """

    first_frame: int
    nm_FA: np.ndarray = field(repr=False)
    error_nm_FA: np.ndarray = field(repr=False)

    @property
    def frames(self) -> np.ndarray:
        """Frame of each row, (F,)."""
        return self.first_frame + np.arange(len(self.nm_FA))

    def columns(self) -> dict[str, np.ndarray]:
        """Drift along each axis, by the name of its column in a table."""
        return dict(zip(AXES, self.nm_FA.T, strict=False))

    def errors_nm(self) -> dict[str, float]:
        """Standard error along each axis, root mean square over frames."""
        return {
            name: float(np.sqrt(np.mean(e_F**2))) for name, e_F in zip(AXES, self.error_nm_FA.T, strict=False)
        }

    def corrected(self, table: EmitterTable) -> EmitterTable:
        """The table with the drift taken off; frames before the first and after the last have theirs."""
        at_N = np.clip(table.frame - self.first_frame, 0, len(self.nm_FA) - 1)
        columns = table.columns()
        return table.with_columns(
            **{name: columns[name] - nm_F[at_N] for name, nm_F in self.columns().items()}
        )


@dataclass(frozen=True)
class DriftSettings:
    """How far x and y may drift, whether z is looked at, and the seed of which rows of crowded places are taken."""

    max_drift_nm: float = 1000.0
    axial: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.seed >= 0, f"seed is {self.seed}: give a whole number, 0 or more")
        require(
            math.isfinite(self.max_drift_nm) and self.max_drift_nm > 0,
            f"max_drift_nm is {self.max_drift_nm}: give a length in nm, above 0",
        )


def estimate_drift(table: EmitterTable, settings: DriftSettings, report: Report = untold) -> Drift:
    """The drift, of mean 0 over the localizations, and 0 with a warning where none shows beyond chance.

    Args:
        table: the emitters; precisions are used where they are there.
        settings: see ``DriftSettings``.
        report: is told the share of the work that is done.

    Raises:
        EmitterError: fewer than 100 localizations, fewer than 4 frames, or far too many.
    """
    n_frames = span_of(int(table.frame.min()), int(table.frame.max()), "the table") if len(table) else 0
    if len(table) < _MIN_ROWS or n_frames < _MIN_BINS:
        raise EmitterError(
            f"{len(table)} localizations in {n_frames} frames do not show drift: give {_MIN_ROWS} or more, of "
            f"{_MIN_BINS} frames or more"
        )
    if len(table) < _ENOUGH_ROWS:
        log.warning(
            "%d localizations are few: a drift that they show may be chance; compare the images before and after",
            len(table),
        )
    estimate = _Estimate(table, n_frames, settings)
    axial = settings.axial and _has_z(table)
    curves = [estimate.lateral(part(report, 0, 1 + axial))]
    if axial:
        curves.append(estimate.axial(curves[0], part(report, 1, 2)))
    for curve, axes in zip(curves, ("x and y", "z"), strict=False):
        if np.isnan(curve.error_KA).all():
            log.warning("no drift in %s shows beyond its error: left as it is", axes)
    drift_FA, error_FA = (
        np.column_stack(
            [estimate.by_frame(c_K, curve.jumps) for curve in curves for c_K in getattr(curve, name).T]
        )
        for name in ("drift_KA", "error_KA")
    )
    drift_FA -= drift_FA[table.frame - estimate.first].mean(axis=0)
    return Drift(estimate.first, drift_FA, error_FA)


class _Estimate:
    """One table's positions, bins of time and kernels' widths."""

    def __init__(self, table: EmitterTable, n_frames: int, settings: DriftSettings) -> None:
        self.settings = settings
        self.first, self.n_frames, self.frame_N = int(table.frame.min()), n_frames, table.frame
        self.n_bins = min(int(np.clip(len(table) // _ROWS_PER_BIN, _MIN_BINS, _MAX_BINS)), n_frames)
        self.bin_N = (table.frame - self.first) * self.n_bins // n_frames
        self.middle_K = self.first - 0.5 + (np.arange(self.n_bins) + 0.5) * n_frames / self.n_bins
        self.place_N2 = np.column_stack((table.x_nm, table.y_nm))
        self.z_N1 = table.z_nm[:, None]
        self.tile_N = tiles_of(self.place_N2)
        lateral_nm, axial_nm = _precisions(table)
        self.lateral_nm, self.axial_nm = _KERNEL * lateral_nm, _KERNEL * axial_nm

    def by_frame(self, value_K: np.ndarray, jumps: tuple[int, ...]) -> np.ndarray:
        """Between the middles of the bins, and sudden where a bin begins after a jump, (F,)."""
        bins = [0, *sorted(jumps), self.n_bins]
        begin = [-(-k * self.n_frames // self.n_bins) for k in bins]  # the first frame of each
        return np.concatenate(
            [
                np.interp(self.first + np.arange(*frames), self.middle_K[slice(*run)], value_K[slice(*run)])
                for frames, run in zip(pairwise(begin), pairwise(bins), strict=True)
            ]
        )

    def lateral(self, report: Report) -> Curve:
        """Drift in x and y, (K, 2) nm."""
        found = coarse_drift(self.place_N2, self.frame_N, self.settings.max_drift_nm, part(report, 0, 2))
        start_K2 = np.zeros((self.n_bins, 2))
        if found is not None and np.ptp(found[1], axis=0).max() > self.lateral_nm * _LATERAL_LEVELS[0]:
            start_K2 = np.column_stack(
                [np.interp(self.middle_K, found[0], shift_G) for shift_G in found[1].T]
            )
        anywhere_N0 = np.empty((len(self.place_N2), 0))
        widths_nm = [level * self.lateral_nm for level in _LATERAL_LEVELS]
        return self._fine(self.place_N2, anywhere_N0, start_K2, widths_nm, part(report, 1, 2))

    def axial(self, lateral: Curve, report: Report) -> Curve:
        """Drift in z, (K, 1) nm, by pairs that are near each other in x and y too."""
        beside_N2 = (self.place_N2 - lateral.drift_KA[self.bin_N]) / self.lateral_nm
        widths_nm = [level * self.axial_nm for level in _AXIAL_LEVELS]
        return self._fine(self.z_N1, beside_N2, np.zeros((self.n_bins, 1)), widths_nm, report)

    def _fine(
        self,
        place_NA: np.ndarray,
        beside_NB: np.ndarray,
        start_KA: np.ndarray,
        widths_nm: list[float],
        report: Report,
    ) -> Curve:
        """Drift of places (nm) from a first estimate on, by kernels of one width after the other.

        Pairs must be near each other in ``beside_NB`` too, which is in its kernel's widths and without drift.
        """
        found = zero = Curve(np.zeros_like(start_KA), np.full_like(start_KA, np.nan))
        for number, width_nm in enumerate(widths_nm):
            last = number == len(widths_nm) - 1
            rng = np.random.default_rng((self.settings.seed, number))
            pairs = self._pairs(place_NA / width_nm, beside_NB, start_KA / width_nm, _PAIRS[last], rng)
            curve = best_curve(pairs, start_KA / width_nm, part(report, number, len(widths_nm)), last)
            found = zero
            if curve is not None:
                found = Curve(curve.drift_KA * width_nm, curve.error_KA * width_nm, curve.jumps)
            start_KA = found.drift_KA
        return found

    def _pairs(
        self,
        place_NA: np.ndarray,
        beside_NB: np.ndarray,
        drift_KA: np.ndarray,
        most: int,
        rng: np.random.Generator,
    ) -> Pairs:
        """Pairs that are near under a first estimate; all lengths are in kernel's widths."""
        near_NX = np.column_stack((beside_NB, place_NA - drift_KA[self.bin_N]))
        known = np.flatnonzero(np.isfinite(near_NX).all(axis=1))  # z may be unknown
        early_P, late_P = (known[row_P] for row_P in find_pairs(near_NX[known], self.bin_N[known], most, rng))
        beside_PB = beside_NB[late_P] - beside_NB[early_P]
        return Pairs(
            n_bins=self.n_bins,
            bins_2P=np.stack((self.bin_N[early_P], self.bin_N[late_P])),
            difference_AP=np.ascontiguousarray((place_NA[late_P] - place_NA[early_P]).T, np.float32),
            weight_P=(even_weights(early_P, late_P) * np.exp(-0.5 * (beside_PB**2).sum(axis=1))).astype(
                np.float32
            ),
            tile_P=self.tile_N[early_P],
        )


def _has_z(table: EmitterTable) -> bool:
    """Whether z tells of drift; said where only some rows have it."""
    z_nm = table.z_nm[np.isfinite(table.z_nm)]
    enough = len(z_nm) >= _MIN_ROWS and bool(np.ptp(z_nm) > 0)
    if 0 < len(z_nm) < len(table):
        log.warning(
            "%d of %d localizations have no z: %s",
            *(len(table) - len(z_nm), len(table)),
            "drift in z is that of the others" if enough else "drift in z is not looked at",
        )
    return enough


def _precisions(table: EmitterTable) -> tuple[float, float]:
    """Standard deviations in nm of a typical localization, laterally and axially."""
    known = [column for column in (table.precision_x_nm, table.precision_y_nm) if column is not None]
    if known and np.isfinite(known[0]).any():
        lateral = float(np.nanmedian(np.concatenate(known)))
    else:
        try:
            lateral = nena(table).precision_nm
        except EmitterError:
            lateral = _PRECISION_NM
    lateral = float(np.clip(lateral, 2, 100))
    z = table.precision_z_nm
    axial = float(np.nanmedian(z)) if z is not None and np.isfinite(z).any() else _AXIAL_RATIO * lateral
    return lateral, float(np.clip(axial, 5, 300))
