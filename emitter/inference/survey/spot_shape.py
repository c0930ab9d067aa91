"""How many pixels a spot gives more than a share of its photons: all that the pixels' distribution knows of a PSF.

Shape suffixes: N patches, S shares, Z depths, K points of a profile.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from emitter.psf.base import PSF

PIXEL_VARIANCE = 1 / 12  # that integration over a pixel adds to a spot's
_LOG_SHARES = np.linspace(np.log(1e-6), 0.0, 280)
_DEPTH_NODES = (np.arange(5) + 0.5) / 5
_FOCUS = 0.4  # foci of an astigmatic PSF at ± this share of the depth that is seen
_PROFILE = np.r_[0.0, np.geomspace(1e-2, 16.0, 90)]
_N_DEPTHS, _N_PHASES = 16, 3


@dataclass(frozen=True)
class FreeShape:
    """Gaussian spots of a range of depths with a round halo, for a movie whose PSF nobody has measured.

    ``sigma_px``: in focus; ``defocus``: half the range of depths over the depth of focus, 0 for a 2D PSF;
    ``halo_share``: of the photons that are in the halo, ``halo_times``: its width over the spot's in focus.
    """

    sigma_px: float
    defocus: float
    halo_share: float = 0.0
    halo_times: float = 3.0

    @property
    def width_px(self) -> float:
        """Mean √(σx σy) over the depths that are seen; of a 2D PSF its σ."""
        x_Z, y_Z = self.variances_px2()
        return float(((x_Z * y_Z) ** 0.25).mean())

    def variances_px2(self) -> tuple[np.ndarray, np.ndarray]:
        """σx² and σy² at depths spread evenly over those that are seen, (Z,) each."""
        x_Z, y_Z = (
            self.sigma_px**2 * (1 + (self.defocus * (_DEPTH_NODES + side * _FOCUS)) ** 2) for side in (-1, 1)
        )
        return x_Z, y_Z

    def pixels_above(self, scale_px: float) -> np.ndarray:
        """Pixels of a spot under a kernel with more than each of ``_LOG_SHARES`` of the photons, (S,).

        A Gaussian that covers A = 2π σx σy pixels has the value exp(−s/A)/A on the edge of the s brightest ones.
        """
        extra = PIXEL_VARIANCE + scale_px**2
        variance_x_Z, variance_y_Z = (one_Z + extra for one_Z in self.variances_px2())
        core_Z = 2 * np.pi * np.sqrt(variance_x_Z * variance_y_Z)
        halo = 2 * np.pi * ((self.halo_times * self.sigma_px) ** 2 + extra)
        if self.halo_share == 0:
            log_peak_Z = -np.log(core_Z)
            return np.asarray(
                (core_Z[:, None] * np.maximum(log_peak_Z[:, None] - _LOG_SHARES, 0)).mean(axis=0)
            )
        total_S = np.zeros(len(_LOG_SHARES))
        for core in core_Z:
            wide = max(halo, core)
            pixels_K = np.unique(np.concatenate([_PROFILE * core, _PROFILE * wide]))
            value_K = (1 - self.halo_share) / core * np.exp(-pixels_K / core)
            value_K += self.halo_share / wide * np.exp(-pixels_K / wide)
            total_S += np.interp(_LOG_SHARES, np.log(value_K[::-1]), pixels_K[::-1], right=0.0)
        return total_S / len(core_Z)


class KnownShape:
    """Of a PSF, at depths spread evenly over a range."""

    def __init__(self, psf: PSF, z_range_nm: tuple[float, float]) -> None:
        low, high = z_range_nm
        z_nm = torch.tensor(low + (high - low) * (np.arange(_N_DEPTHS) + 0.5) / _N_DEPTHS)
        phase_px = torch.tensor((np.arange(_N_PHASES) + 0.5) / _N_PHASES - 0.5)
        z_N, y_N, x_N = (
            one.flatten().float() for one in torch.meshgrid(z_nm, phase_px, phase_px, indexing="ij")
        )
        self._patch_NPP = psf.patches(x_N, y_N, z_N).numpy()
        self._known: dict[float, np.ndarray] = {}

    @property
    def width_px(self) -> float:
        """Mean over the depths of the σ of the Gaussian that is as peaked (Σ h² = 1/(4π σx σy))."""
        share_NPP = self._patch_NPP / self._patch_NPP.sum(axis=(1, 2), keepdims=True)
        variance_N = 1 / (4 * np.pi * (share_NPP**2).sum(axis=(1, 2))) - PIXEL_VARIANCE
        return float(np.sqrt(np.maximum(variance_N, 0.01)).mean())

    def pixels_above(self, scale_px: float) -> np.ndarray:
        """As ``FreeShape.pixels_above``."""
        if scale_px not in self._known:
            edge = int(3 * scale_px) + 1
            padded = np.pad(self._patch_NPP, ((0, 0), (edge, edge), (edge, edge)))
            value = np.sort(gaussian_filter(padded, (0, scale_px, scale_px), truncate=3.0).ravel())
            above = len(value) - np.searchsorted(value, np.exp(_LOG_SHARES))
            self._known[scale_px] = above / len(padded)
        return self._known[scale_px]


def at_shares(pixels_S: np.ndarray, log_share: np.ndarray) -> np.ndarray:
    """The pixels above other shares of the photons."""
    return np.interp(log_share, _LOG_SHARES, pixels_S, right=0.0)
