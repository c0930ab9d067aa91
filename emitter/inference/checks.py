"""What can be wrong with a movie, found before or while it is predicted.

Shape suffixes: T frames, H rows, W columns.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter

from emitter.core.errors import EmitterError
from emitter.io.movie import Movie

log = logging.getLogger(__name__)

MIN_SIDE_PX = 8
SATURATED_SHARE = 0.01
SAMPLE_FRAMES = 20  # looked at before the first is predicted, spread over the movie
# Photons are below zero as a whole when nearly every pixel is, or when the median is so far below zero that neither
# noise nor a subtracted background explains it: background-subtracted movies reach -3.6 noises and -9 photons (the
# Tetrapod STORM frames with a baseline of 100), the challenge's frames with 1000 ADU too many -4.3 and -66.
NEGATIVE_SHARE = 0.999
NEGATIVE_NOISES = 4.0
NEGATIVE_PHOTONS = 10.0
BACKGROUND_FACTOR = 2.0  # how far outside the trained range the background may lie without a word
DARKEST = 0.05  # quantile of a smoothed frame's pixels
_FULL_SCALE_ADU = (
    2**8 - 1,
    2**12 - 1,
    2**14 - 1,
    2**15 - 1,
    2**16 - 1,
)  # of 8, 12, 14, 15 and 16 bit converters


def check_size(name: str, height: int, width: int) -> None:
    """Raise EmitterError for frames that are too small to hold an emitter's image."""
    if min(height, width) < MIN_SIDE_PX:
        raise EmitterError(
            f"the frames of {name} are {height}×{width} pixels: give at least {MIN_SIDE_PX}×{MIN_SIDE_PX}"
        )


def check_sample(
    movie: Movie,
    to_photons: Callable[[np.ndarray], np.ndarray],
    trained_background: tuple[float, float],
    inside: tuple[slice, slice] = (slice(None), slice(None)),
) -> None:
    """Look at a few frames spread over the movie, one at a time, before the work begins.

    Args:
        movie: its frames, in counts.
        to_photons: photons (1, H, W) from counts (1, H, W).
        trained_background: lowest and highest photons per pixel of the training; a movie outside is warned of.
        inside: rows and columns that are looked at.

    Raises:
        EmitterError: nothing but constant frames, or negative photons. Frames with NaN are left to ``FrameChecks``.
    """
    places = np.unique(np.linspace(0, movie.n_frames - 1, SAMPLE_FRAMES).round().astype(int))
    statistics = []
    n_constant = 0
    for place in places.tolist():
        counts_1HW = movie.read(place, place + 1)[:, *inside]
        if _constant(counts_1HW).all():
            n_constant += 1
        elif np.isfinite(counts_1HW).all():
            statistics.append(_statistics(to_photons(counts_1HW)))
    if n_constant == len(places):
        which = "all" if len(places) == movie.n_frames else f"{n_constant} frames spread over"
        raise EmitterError(
            f"{which} {movie.n_frames} frames of {movie.name} are constant (the last is {counts_1HW.flat[0]:g} in "
            "every pixel): give a movie of camera frames"
        )
    if statistics:
        median, noise = np.median(statistics, axis=0)[:2].tolist()
        share = float(np.mean([frame[2] for frame in statistics]))
        if share > NEGATIVE_SHARE or median < -max(NEGATIVE_NOISES * noise, NEGATIVE_PHOTONS):
            raise EmitterError(
                f"{100 * share:.1f} % of the pixels of {movie.name} are negative in photons (median {median:.1f}): "
                "the checkpoint's camera.baseline_adu is not this movie's, give localize.py this movie's with "
                "baseline_adu="
            )
        darkest = float(np.median([frame[3] for frame in statistics]))
        _warn_of_background(movie.name, median, darkest, trained_background)


def _statistics(photons_1HW: np.ndarray) -> tuple[float, float, float, float]:
    """Median, robust standard deviation (from the median absolute deviation), share of negative pixels, and the photons
    where the frame is darkest, which emitters that cover the frame do not lift."""
    median = float(np.median(photons_1HW))
    noise = 1.4826 * float(np.median(np.abs(photons_1HW - median)))
    darkest = float(np.quantile(gaussian_filter(photons_1HW[0], 1.0), DARKEST))
    return median, noise, float((photons_1HW < 0).mean()), darkest


def _warn_of_background(
    name: str, median: float, darkest: float, trained_background: tuple[float, float]
) -> None:
    low, high = trained_background
    if median < 0:
        log.warning(
            "the median of %s is %.1f photons, below zero: the camera's baseline_adu seems too high for "
            "this movie, set it with baseline_adu=",
            name,
            median,
        )
    elif median < low / BACKGROUND_FACTOR or darkest > high * BACKGROUND_FACTOR:
        log.warning(
            "the median of %s is %.0f photons a pixel and the network was trained on a background of %g to %g: "
            "check the camera's settings, or train for this background",
            name,
            median,
            low,
            high,
        )


def _constant(counts_THW: np.ndarray) -> np.ndarray:
    """(T,) whether all pixels of a frame are the same."""
    constant_T: np.ndarray = counts_THW.min(axis=(1, 2)) == counts_THW.max(axis=(1, 2))
    return constant_T


class FrameChecks:
    """Looks at every block of a movie once, in order. Messages number frames from 1, as the table does."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._warned_saturated = False
        self.n_constant = 0

    def __call__(self, counts_THW: np.ndarray, numbers_T: np.ndarray) -> None:
        """Check one block of frames, in counts; ``numbers_T`` from 0.

        Raises:
            EmitterError: NaN or infinite pixels.
        """
        self._check_finite(counts_THW, numbers_T)
        self.n_constant += int(_constant(counts_THW).sum())
        self._check_saturation(counts_THW)

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
