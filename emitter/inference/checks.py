"""What can be wrong with a movie, found before or while it is predicted.

Shape suffixes: T frames, H rows, W columns.
"""

from __future__ import annotations

import logging

import numpy as np

from emitter.core.errors import EmitterError
from emitter.io.movie import Movie

log = logging.getLogger(__name__)

MIN_SIDE_PX = 8
SATURATED_SHARE = 0.01
NEGATIVE_SHARE = 0.999
BACKGROUND_FACTOR = 2.0  # how far outside the trained range the background may lie without a word
_FULL_SCALE_ADU = (
    2**8 - 1,
    2**12 - 1,
    2**14 - 1,
    2**15 - 1,
    2**16 - 1,
)  # of 8, 12, 14, 15 and 16 bit converters


def check_size(movie: Movie) -> None:
    """Raise EmitterError for frames that are too small to hold an emitter's image."""
    if min(movie.height, movie.width) < MIN_SIDE_PX:
        raise EmitterError(
            f"the frames of {movie.name} are {movie.height}×{movie.width} pixels: give at least "
            f"{MIN_SIDE_PX}×{MIN_SIDE_PX}"
        )


class FrameChecks:
    """Looks at every block of a movie once, in order. Messages number frames from 1, as the table does."""

    def __init__(self, name: str, trained_background: tuple[float, float]) -> None:
        self._name = name
        self._trained_background = trained_background
        self._first = True
        self._warned_saturated = False
        self.n_constant = 0

    def __call__(self, counts_THW: np.ndarray, photons_THW: np.ndarray, numbers_T: np.ndarray) -> None:
        """Check one block of frames, in counts and in photons.

        Raises:
            EmitterError: NaN or infinite pixels; and, in the first block, nothing but constant frames or
                negative photons.
        """
        self._check_finite(counts_THW, numbers_T)
        self._check_constant(counts_THW)
        self._check_saturation(counts_THW)
        if self._first:
            self._check_photons(photons_THW)
        self._first = False

    def summarize(self) -> None:
        """Warn of what was counted, once, at the end of the movie."""
        if self.n_constant:
            log.warning(
                "%d frames of %s are constant (a closed shutter?): nothing can be found in them",
                self.n_constant,
                self._name,
            )

    def _check_finite(self, counts_THW: np.ndarray, numbers_T: np.ndarray) -> None:
        if counts_THW.dtype.kind != "f":
            return
        bad_T = ~np.isfinite(counts_THW).all(axis=(1, 2))
        if bad_T.any():
            k = int(np.argmax(bad_T))
            count = int((~np.isfinite(counts_THW[k])).sum())
            raise EmitterError(
                f"frame {numbers_T[k] + 1} of {self._name} has {count} pixels that are NaN or infinite: "
                "replace them or leave the frame out"
            )

    def _check_constant(self, counts_THW: np.ndarray) -> None:
        constant_T = counts_THW.min(axis=(1, 2)) == counts_THW.max(axis=(1, 2))
        if self._first and constant_T.all():
            raise EmitterError(
                f"the first {len(counts_THW)} frames of {self._name} are constant (every pixel is "
                f"{counts_THW.flat[0]:g}): give a movie of camera frames"
            )
        self.n_constant += int(constant_T.sum())

    def _check_saturation(self, counts_THW: np.ndarray) -> None:
        top = counts_THW.max()
        if self._warned_saturated or top not in _FULL_SCALE_ADU:
            return
        share = float((counts_THW == top).mean())
        if share > SATURATED_SHARE:
            self._warned_saturated = True
            log.warning(
                "%.1f %% of the pixels of %s are saturated (%d ADU): positions and photons there "
                "are wrong, lower the gain or the exposure",
                100 * share,
                self._name,
                top,
            )

    def _check_photons(self, photons_THW: np.ndarray) -> None:
        share = float((photons_THW < 0).mean())
        median = float(np.median(photons_THW))
        if share > NEGATIVE_SHARE:
            raise EmitterError(
                f"the photons of {self._name} are negative everywhere (median {median:.1f}): "
                "the camera's baseline_adu is not this movie's, set it with baseline_adu="
            )
        low, high = self._trained_background
        if median < 0:
            log.warning(
                "the median of %s is %.1f photons, below zero: the camera's baseline_adu seems too high for "
                "this movie, set it with baseline_adu=",
                self._name,
                median,
            )
        elif not low / BACKGROUND_FACTOR <= median <= high * BACKGROUND_FACTOR:
            log.warning(
                "the median of %s is %.0f photons a pixel and the network was trained on a background of %g to %g: "
                "check the camera's settings, or train for this background",
                self._name,
                median,
                low,
                high,
            )
