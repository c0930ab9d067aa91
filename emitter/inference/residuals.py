"""A movie against what a table says is in it: expected frames and reduced χ².

Shape suffixes: F frames, H rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from emitter.core.emitters import Emitters
from emitter.core.table import EmitterTable
from emitter.inference.bundle import Bundle
from emitter.inference.localizer import Region
from emitter.psf.render import render

_LEAST_BACKGROUND = 0.1


@dataclass(frozen=True)
class Residuals:
    """Frames (F, H, W) in photons, what the table says they should be, and χ² over every pixel's F values (H, W): 1
    where the noise is all that differs."""

    frames_FHW: np.ndarray
    expected_FHW: np.ndarray
    chi2_HW: np.ndarray

    @property
    def chi2(self) -> float:
        """Of all pixels together."""
        return float(self.chi2_HW.mean())


def residuals(
    table: EmitterTable,
    counts_FHW: np.ndarray,
    numbers_F: np.ndarray,
    bundle: Bundle,
    roi: Region | None = None,
) -> Residuals:
    """Render the emitters of some frames with the network's PSF and compare.

    The background of a frame is the median of what its emitters say (of the frame itself where it has none). Emitters
    with negative photons count as none.

    Args:
        table: localizations.
        counts_FHW: frames in counts, whose numbers are ``numbers_F``.
        bundle: of the network that made the table, with the camera of this movie.
        roi: the part of the frame that was localized; what is outside of it does not count.
    """
    photons_FHW = bundle.camera.to_photons(torch.from_numpy(counts_FHW.astype(np.float32)))
    emitters = table.to_emitters(bundle.pixel_size, numbers_F.tolist())
    assert emitters.background_N is not None
    low_nm, high_nm = bundle.psf.z_range_nm
    shown = Emitters(
        n_images=len(numbers_F),
        image_N=emitters.image_N,
        x_px_N=emitters.x_px_N,
        y_px_N=emitters.y_px_N,
        z_nm_N=emitters.z_nm_N.nan_to_num(0.0).clamp(low_nm, high_nm),
        photons_N=emitters.photons_N.clamp(min=0.0),
    )
    light_FHW = render(bundle.psf, shown, *photons_FHW.shape[1:])
    if roi is not None:
        photons_FHW, light_FHW = (
            one[:, roi.y0 : roi.y1, roi.x0 : roi.x1] for one in (photons_FHW, light_FHW)
        )
    background_F = _backgrounds(photons_FHW - light_FHW, emitters)
    expected_FHW = light_FHW + background_F[:, None, None]
    variance_FHW = bundle.camera.mean_noise_variance(expected_FHW)
    chi2_HW = ((photons_FHW - expected_FHW) ** 2 / variance_FHW).mean(dim=0)
    return Residuals(photons_FHW.numpy(), expected_FHW.numpy(), chi2_HW.numpy())


def _backgrounds(rest_FHW: Tensor, emitters: Emitters) -> Tensor:
    """(F,) photons per pixel."""
    assert emitters.background_N is not None
    background_F = rest_FHW.flatten(1).median(dim=1).values
    for image in emitters.image_N.unique().tolist():
        said = emitters.background_N[emitters.image_N == image]
        said = said[torch.isfinite(said)]
        if len(said):
            background_F[image] = said.median()
    return background_F.clamp(min=_LEAST_BACKGROUND)
