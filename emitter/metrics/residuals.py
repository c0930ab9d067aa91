"""Camera frames against what a table says they show.

Shape suffixes: H rows, W columns, N emitters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from emitter.core.emitters import Emitters
from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize
from emitter.metrics.crlb import NoiseVariance
from emitter.psf.base import PSF
from emitter.psf.render import render

_BACKGROUND_REACH_PX = (
    8.0  # standard deviation of the weights with which localizations tell the background around
)
_FAINT = 1e-4  # weight of the background of no place in particular: decides where no localization is near
_LIT = 0.02  # a pixel belongs to an emitter where its light is this share of its frame's brightest


@dataclass(frozen=True)
class FrameResidual:
    """One frame, photons: observed, expected from the table, and their difference in standard deviations, (H, W) each;
    ``lit_HW``: the pixels that emitters light."""

    observed_HW: np.ndarray
    expected_HW: np.ndarray
    error_HW: np.ndarray
    lit_HW: np.ndarray

    @property
    def chi2(self) -> float:
        """Reduced χ²: 1 where the noise is all that is left."""
        return float((self.error_HW**2).mean())


def frame_residual(
    observed_HW: np.ndarray,
    rows: EmitterTable,
    psf: PSF,
    noise_variance: NoiseVariance,
    pixel_size: PixelSize,
    background_HW: np.ndarray,
) -> FrameResidual:
    """Hold a frame against its rows of a table.

    Args:
        observed_HW: the frame in photons.
        rows: the frame's localizations; positions and photons that are not finite are left out.
        psf: the PSF model.
        noise_variance: variance in photons² of the observed frame where so many photons are expected.
        pixel_size: for the positions.
        background_HW: expected photons per pixel without emitters (``background_around``).
    """
    height, width = observed_HW.shape
    known = np.isfinite(rows.x_nm) & np.isfinite(rows.y_nm) & np.isfinite(rows.photons)
    rows = rows.select(known)
    x_px, y_px = pixel_size.to_px(rows.x_nm, rows.y_nm)
    emitters = Emitters(
        1,
        torch.zeros(len(rows), dtype=torch.long),
        *(torch.as_tensor(column) for column in (x_px, y_px, np.nan_to_num(rows.z_nm), rows.photons)),
    )
    light_HW = render(psf, emitters, height, width)[0].numpy()
    expected_HW = light_HW + background_HW
    expected = torch.from_numpy(expected_HW).float().clamp(min=0)
    variance_HW = noise_variance(expected).clamp(min=1e-3).numpy()
    error_HW = (observed_HW - expected_HW) / np.sqrt(variance_HW)
    lit_HW = light_HW > _LIT * max(float(light_HW.max()), 1e-9)
    return FrameResidual(observed_HW, expected_HW, error_HW, lit_HW)


def background_around(
    rows: EmitterTable, pixel_size: PixelSize, shape_HW: tuple[int, int], usual: float
) -> np.ndarray:
    """Photons per pixel, (H, W): the background of the localizations around with Gaussian weights, and far from all of
    them ``usual``."""
    x_px, y_px = pixel_size.to_px(rows.x_nm, rows.y_nm)
    known = np.isfinite(x_px) & np.isfinite(y_px) & np.isfinite(rows.background)
    row, column = np.floor(y_px[known]).astype(np.int64), np.floor(x_px[known]).astype(np.int64)
    inside = (row >= 0) & (row < shape_HW[0]) & (column >= 0) & (column < shape_HW[1])
    place = row[inside], column[inside]
    total_HW, weight_HW = np.zeros(shape_HW), np.zeros(shape_HW)
    np.add.at(total_HW, place, rows.background[known][inside])
    np.add.at(weight_HW, place, 1.0)
    total_HW, weight_HW = (gaussian_filter(image, _BACKGROUND_REACH_PX) for image in (total_HW, weight_HW))
    return (total_HW + _FAINT * usual) / (weight_HW + _FAINT)
