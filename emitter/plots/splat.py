"""Localizations as Gaussians that are integrated over every pixel, each with a width of its own.

Shape suffixes: N localizations, K pixels of a patch's side, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.special import ndtr

_REACH = 4.0  # standard deviations: beyond lies less than 1e-4
_CHUNK = 2_000_000  # pixels of patches at a time: bounds the memory
_WIDE_PX = 150.0  # wider ones, whose patch alone would be about a chunk, are not drawn as patches

_Pair = tuple[np.ndarray, np.ndarray]  # along x and along y


def add_gaussians(
    image_HW: np.ndarray,
    weight_N: np.ndarray,
    centre_px_2N: tuple[np.ndarray, np.ndarray],
    sigma_px_2N: tuple[np.ndarray, np.ndarray],
) -> None:
    """Add Gaussians of the given integrals to the image; what reaches beyond the image is lost.

    Args:
        image_HW: changed in place.
        weight_N: integral of each.
        centre_px_2N: x and y, where the first pixel spans [0, 1).
        sigma_px_2N: standard deviation in x and in y, above 0.
    """
    wide_N = np.maximum(*sigma_px_2N) > _WIDE_PX
    wide, narrow = np.flatnonzero(wide_N), np.flatnonzero(~wide_N)
    _add_wide(image_HW, *_of(wide, weight_N, centre_px_2N, sigma_px_2N))
    _add_patches(image_HW, *_of(narrow, weight_N, centre_px_2N, sigma_px_2N))


def _of(rows: np.ndarray, weight_N: np.ndarray, *pairs_2N: _Pair) -> tuple[np.ndarray, _Pair, _Pair]:
    (x, y), (sigma_x, sigma_y) = pairs_2N
    return weight_N[rows], (x[rows], y[rows]), (sigma_x[rows], sigma_y[rows])


def _add_wide(image_HW: np.ndarray, weight_N: np.ndarray, centre_2N: _Pair, sigma_2N: _Pair) -> None:
    """Over the whole image, as a product of the shares along its sides: a patch could need more than the memory."""
    height, width = image_HW.shape
    some, band = max(1, _CHUNK // (height + width)), max(1, _CHUNK // width)
    for start in range(0, len(weight_N), some):
        rows = slice(start, start + some)
        share_x_NW, share_y_NH = (
            np.diff(ndtr((np.arange(side + 1) - centre_N[rows, None]) / sigma_N[rows, None]), axis=1)
            for centre_N, sigma_N, side in zip(centre_2N, sigma_2N, (width, height), strict=True)
        )
        share_y_NH *= weight_N[rows, None]
        for top in range(0, height, band):
            image_HW[top : top + band] += share_y_NH[:, top : top + band].T @ share_x_NW


def _add_patches(image_HW: np.ndarray, weight_N: np.ndarray, centre_2N: _Pair, sigma_2N: _Pair) -> None:
    """Each on the pixels around it."""
    flat, (height, width) = image_HW.reshape(-1), image_HW.shape
    for rows, reach in _chunks(sigma_2N):
        column_NK, share_x_NK = _shares(centre_2N[0][rows], sigma_2N[0][rows], reach, width)
        row_NK, share_y_NK = _shares(centre_2N[1][rows], sigma_2N[1][rows], reach, height)
        place = row_NK[:, :, None] * width + column_NK[:, None, :]
        patch = (weight_N[rows, None] * share_y_NK)[:, :, None] * share_x_NK[:, None, :]
        np.add.at(flat, place.ravel(), patch.astype(image_HW.dtype).ravel())


def _chunks(sigma_px_2N: tuple[np.ndarray, np.ndarray]) -> Iterator[tuple[np.ndarray, int]]:
    """Indices of localizations of similar width, and how far from the centre their patches go."""
    reach_N = np.ceil(_REACH * np.maximum(*sigma_px_2N)).astype(np.int64)
    order = np.argsort(reach_N, kind="stable")
    start = 0
    while start < len(order):
        many = max(1, _CHUNK // (2 * int(reach_N[order[start]]) + 1) ** 2)
        rows = order[start : start + many]
        rows = rows[reach_N[rows] <= 1.5 * reach_N[rows[0]] + 1]
        yield rows, int(reach_N[rows[-1]])
        start += len(rows)


def _shares(
    centre_N: np.ndarray, sigma_N: np.ndarray, reach: int, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels along one axis and the share of the Gaussian that falls in each; none outside the image."""
    pixel_NK = np.floor(centre_N).astype(np.int64)[:, None] + np.arange(-reach, reach + 1)
    low_NK = (pixel_NK - centre_N[:, None]) / sigma_N[:, None]
    share_NK = ndtr(low_NK + 1 / sigma_N[:, None]) - ndtr(low_NK)
    share_NK /= share_NK.sum(axis=1, keepdims=True)
    share_NK[(pixel_NK < 0) | (pixel_NK >= side)] = 0
    return np.clip(pixel_NK, 0, side - 1), share_NK
