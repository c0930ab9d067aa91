"""What camera frames look like before any network sees them, to hold a movie against the simulation.

Shape suffixes: F frames, H rows, W columns, P pixels, N local maxima, M of those that stand alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, maximum_filter

from emitter.inference.checks import DARKEST
from emitter.inference.overlap import overlap
from emitter.inference.survey.spots import find_spots
from emitter.io.movie import Movie
from emitter.simulation.camera import Camera

_SMOOTH_PX = 1.0
_SMOOTHED_NOISE = 1 / (2 * math.sqrt(math.pi) * _SMOOTH_PX)  # of white noise of 1, smoothed by this Gaussian
_FLOOR_NOISES = 1.645  # of a flat frame, that quantile lies so many standard deviations below the mean
_MAXIMUM_NOISES = 6.0
_LEAST_VARIANCE = 1e-3
_MOST_FRAMES = 48
_MOST_PIXELS = 1 << 22  # of all of them
_KEPT_PIXELS = 200_000


@dataclass(frozen=True)
class Appearance:
    """Photons of some of ``n_px`` pixels; every frame's floor (see ``floors``) and noise (standard deviation of a pixel
    of it, as its pixels differ from their neighbours); every local maximum's height above the floor in photons; of
    the spots that stand alone photons and widths (σ in x and y) in pixels; and how much all of them overlap (see
    ``overlap``)."""

    n_px: int
    pixels_P: np.ndarray
    floor_F: np.ndarray
    noise_F: np.ndarray
    height_N: np.ndarray
    spot_photons_M: np.ndarray
    sigma_x_px_M: np.ndarray
    sigma_y_px_M: np.ndarray
    overlap: float = math.nan

    @property
    def width_px_M(self) -> np.ndarray:
        """√(σx σy)."""
        width_px_M: np.ndarray = np.sqrt(self.sigma_x_px_M * self.sigma_y_px_M)
        return width_px_M

    @property
    def maxima_per_px(self) -> float:
        """Bright local maxima of a pixel."""
        return len(self.height_N) / max(self.n_px, 1)


@dataclass(frozen=True)
class RelativeWidth:
    """How many times as wide as others spots are, and the standard error of its logarithm."""

    ratio: float
    error: float


def appearance(photons_FHW: np.ndarray, camera: Camera) -> Appearance:
    """Of frames in photons.

    Args:
        photons_FHW: the frames.
        camera: whose noise tells a spot from none.
    """
    frames = photons_FHW.astype(np.float32)
    smooth = _smoothed(frames)
    floor_F = floors(smooth, camera, smoothed=True)
    level = float(np.median(floor_F))
    variance = _variance(camera, level)
    peak = (smooth == maximum_filter(smooth, (1, 3, 3))) & (
        smooth - floor_F[:, None, None] > _MAXIMUM_NOISES * _SMOOTHED_NOISE * math.sqrt(variance)
    )
    flat = frames - (floor_F - level)[:, None, None].astype(np.float32)
    step = max(1, frames.size // _KEPT_PIXELS)
    return Appearance(
        frames.size,
        frames.ravel()[::step],
        floor_F,
        _noise(frames),
        (smooth - floor_F[:, None, None])[peak],
        *_spots(flat, level, variance, camera),
        overlap(frames),
    )


def floors(frames_FHW: np.ndarray, camera: Camera, smoothed: bool = False) -> np.ndarray:
    """(F,) photons per pixel where a frame is darkest, which is its background also where spots cover most of it.

    The 5 % quantile of the smoothed frame, and what noise alone takes off it.
    """
    smooth = frames_FHW if smoothed else _smoothed(frames_FHW.astype(np.float32))
    low_F = np.quantile(smooth, DARKEST, axis=(1, 2))
    noise_F = np.sqrt([_variance(camera, low) for low in low_F.tolist()])
    floor_F: np.ndarray = low_F + _FLOOR_NOISES * _SMOOTHED_NOISE * noise_F
    return floor_F


def sampled_photons(
    movie: Movie, places: range, camera: Camera, region: tuple[slice, slice] | None = None
) -> np.ndarray:
    """Frames spread over a movie in photons, (F, H, W), of large ones few.

    Args:
        movie: its frames in counts.
        places: of the frames to choose from, by their position in the movie.
        camera: that took it.
        region: rows and columns; None: all.
    """
    most = int(np.clip(_MOST_PIXELS // (movie.height * movie.width), 1, _MOST_FRAMES))
    chosen = np.unique(np.linspace(places.start, places.stop - 1, most).round().astype(int))
    counts_FHW = np.concatenate([movie.read(place, place + 1) for place in chosen.tolist()])
    counts_FHW = counts_FHW[np.isfinite(counts_FHW).all(axis=(1, 2))]
    photons_FHW: np.ndarray = camera.to_photons(torch.from_numpy(counts_FHW.astype(np.float32))).numpy()
    return photons_FHW if region is None else photons_FHW[:, region[0], region[1]]


def relative_width(seen: Appearance, usual: Appearance, fewest: int = 15) -> RelativeWidth | None:
    """How much wider spots are than others of the same elongation σx/σy, in the median.

    Of an astigmatic PSF the elongation tells the depth, so that a movie of another range of depths is not taken for one
    of other widths. None where fewer than so many spots stand alone in either.
    """
    if min(len(seen.sigma_x_px_M), len(usual.sigma_x_px_M)) < fewest:
        return None
    elongation_M, width_M = (np.log(one) for one in (seen.sigma_x_px_M / seen.sigma_y_px_M, seen.width_px_M))
    order = np.argsort(usual.sigma_x_px_M / usual.sigma_y_px_M)
    known_U = np.log(usual.sigma_x_px_M / usual.sigma_y_px_M)[order]
    widths_U = np.log(usual.width_px_M)[order]
    near = min(len(known_U), max(fewest, len(known_U) // 8))
    first_M = np.clip(np.searchsorted(known_U, elongation_M) - near // 2, 0, len(known_U) - near)
    difference_M = width_M - np.median(widths_U[first_M[:, None] + np.arange(near)], axis=1)
    middle = float(np.median(difference_M))
    spread = 1.4826 * float(np.median(np.abs(difference_M - middle)))
    # 1.25: of a median's standard error over a mean's
    error = 1.25 * spread * math.sqrt(1 / len(difference_M) + 1 / len(known_U))
    return RelativeWidth(math.exp(middle), error)


def _smoothed(frames_FHW: np.ndarray) -> np.ndarray:
    smooth: np.ndarray = gaussian_filter(frames_FHW, (0, _SMOOTH_PX, _SMOOTH_PX))
    return smooth


def _variance(camera: Camera, level: float) -> float:
    return max(float(camera.mean_noise_variance(torch.tensor(max(level, 0.0)))), _LEAST_VARIANCE)


def _noise(frames_FHW: np.ndarray) -> np.ndarray:
    """(F,) from the differences of neighbours in a row, two apart of each other's, so that slopes cancel."""
    second = frames_FHW[:, :, 2:] - 2 * frames_FHW[:, :, 1:-1] + frames_FHW[:, :, :-2]
    noise_F: np.ndarray = 1.4826 * np.median(np.abs(second), axis=(1, 2)) / math.sqrt(6)
    return noise_F


def _spots(
    frames_FHW: np.ndarray, level: float, variance: float, camera: Camera
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Photons and widths, (M,) each, of those that stand alone."""
    none = np.zeros(0)
    if min(frames_FHW.shape) < 1:
        return none, none, none
    spots = find_spots(frames_FHW, level, variance, camera.excess_noise / camera.quantum_efficiency)
    return spots.photons_M, spots.sigma_x_px_M, spots.sigma_y_px_M
