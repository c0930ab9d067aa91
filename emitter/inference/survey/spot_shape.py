"""How many pixels a spot gives more than a share of its photons: all that the pixels' distribution knows of a PSF.

Shape suffixes: N patches, S shares, P patch side, Z depths, K points of a
profile.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from emitter.psf.base import PSF

SCALES_PX = (1.0, 2.5, 6.0)  # standard deviations of the kernels that frames are smoothed by
PIXEL_VARIANCE = 1 / 12  # that integration over a pixel adds to a spot's
_LOG_SHARES = np.linspace(np.log(1e-6), 0.0, 280)
_DEPTH_NODES = (np.arange(5) + 0.5) / 5
_FOCUS = 0.2  # foci of an astigmatic PSF at ± this share of the depth that is seen
_LOG_PROFILE = np.linspace(0.0, 1.0, 100)
_N_DEPTHS, _N_PHASES = 24, 3
_PARTS = ((0.0, 1.0), (0.3, 0.7))


@dataclass(frozen=True)
class FreeShape:
    """Gaussian spots of a range of depths with a halo, for a movie whose PSF nobody has measured.

    ``sigma_px``: in focus; ``defocus``: half the range of depths over the depth of focus, 0 for a 2D PSF;
    ``halo_share``: of the photons, scattered around where the others fall, so that the halo grows with the spot out of
    focus; ``halo_times``: its width over the spot's in focus.
    """

    sigma_px: float
    defocus: float
    halo_share: float = 0.0
    halo_times: float = 3.0

    @property
    def width_px(self) -> float:
        """Mean over the depths of the σ of the Gaussian that is as peaked (Σ h² = 1/(4π σ²)); a halo counts in it."""
        extras = (0.0, self._scatter, self._scatter / 2)
        core_Z, halo_Z, between_Z = (self._areas_px2(extra) / (2 * np.pi) for extra in extras)
        share = self.halo_share
        peaked_Z = (1 - share) ** 2 / core_Z + 2 * share * (1 - share) / between_Z + share**2 / halo_Z
        return float((peaked_Z**-0.5).mean())

    @property
    def focus_px(self) -> float:
        """√(σx σy) of the core at the depth where it is narrowest."""
        x_Z, y_Z = self.variances_px2()
        return float((x_Z * y_Z).min() ** 0.25)

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
        core_Z1, halo_Z1 = (self._areas_px2(extra + more)[:, None] for more in (0.0, self._scatter))
        if self.halo_share == 0:
            return np.asarray((core_Z1 * np.maximum(-np.log(core_Z1) - _LOG_SHARES, 0)).mean(axis=0))
        pixels_ZK = 1e-2 * core_Z1 * (1600 * halo_Z1 / core_Z1) ** _LOG_PROFILE
        value_ZK = (1 - self.halo_share) / core_Z1 * np.exp(-pixels_ZK / core_Z1)
        value_ZK += self.halo_share / halo_Z1 * np.exp(-pixels_ZK / halo_Z1)
        log_ZK = np.log(value_ZK)
        columns = [
            np.interp(_LOG_SHARES, log_K[::-1], pixels_K[::-1], right=0.0)
            for log_K, pixels_K in zip(log_ZK, pixels_ZK, strict=True)
        ]
        return np.asarray(np.mean(columns, axis=0))

    @property
    def _scatter(self) -> float:
        """Variance that the halo has beyond the core's."""
        return (self.halo_times**2 - 1) * self.sigma_px**2

    def _areas_px2(self, extra: float) -> np.ndarray:
        """2π σx σy with a variance more, (Z,)."""
        x_Z, y_Z = self.variances_px2()
        return np.asarray(2 * np.pi * np.sqrt((x_Z + extra) * (y_Z + extra)))


@dataclass(frozen=True)
class KnownShape:
    """Of a PSF, at depths spread evenly over a part of its range: from ``low`` to ``high``, 0 and 1 for all of it.

    ``pixels_SZ``: as ``pixels_above`` says, by kernel and for each of the depths that cover the PSF's range;
    ``width_Z``: σ in pixels of the Gaussian that is as peaked there (Σ h² = 1/(4π σ²)).
    """

    z_range_nm: tuple[float, float]
    pixels_SZ: dict[float, np.ndarray] = field(repr=False)
    width_Z: np.ndarray = field(repr=False)
    low: float = 0.0
    high: float = 1.0

    @classmethod
    def of(cls, psf: PSF, z_range_nm: tuple[float, float] | None = None) -> KnownShape:
        """Of a PSF, at the depths that are given or else at all of its own."""
        low, high = z_range_nm or psf.z_range_nm
        n = _N_DEPTHS if high > low else 1
        z_nm = low + (high - low) * (torch.arange(n) + 0.5) / n
        phase_px = (torch.arange(_N_PHASES) + 0.5) / _N_PHASES - 0.5
        z_N, y_N, x_N = (one.flatten() for one in torch.meshgrid(z_nm, phase_px, phase_px, indexing="ij"))
        patch_NPP = psf.patches(x_N, y_N, z_N).numpy()
        tables = {scale_px: _pixels_above(patch_NPP, scale_px, n) for scale_px in SCALES_PX}
        return cls((low, high), tables, as_peaked_px(patch_NPP).reshape(n, -1).mean(axis=1))

    def parts(self) -> list[KnownShape]:
        """All of the depths, and their middle: where a fit may begin."""
        return [replace(self, low=low, high=high) for low, high in _PARTS[: len(self.width_Z)]]

    @property
    def seen_nm(self) -> tuple[float, float]:
        """The depths that are seen."""
        bottom, top = self.z_range_nm
        return bottom + self.low * (top - bottom), bottom + self.high * (top - bottom)

    @property
    def width_px(self) -> float:
        """Mean over the depths that are seen."""
        return float(self.width_Z @ self._weights_Z())

    def pixels_above(self, scale_px: float) -> np.ndarray:
        """As ``FreeShape.pixels_above``."""
        return np.asarray(self.pixels_SZ[scale_px] @ self._weights_Z())

    def _weights_Z(self) -> np.ndarray:
        """Share of the emitters in each of the depths' cells."""
        edge = np.linspace(0, 1, len(self.width_Z) + 1)
        inside = np.minimum(edge[1:], self.high) - np.maximum(edge[:-1], self.low)
        return np.asarray(np.maximum(inside, 0) / np.maximum(inside, 0).sum())


def as_peaked_px(patch_NPP: np.ndarray) -> np.ndarray:
    """σ of the Gaussian that is as peaked as each patch, (N,)."""
    share_NPP = patch_NPP / patch_NPP.sum(axis=(1, 2), keepdims=True)
    variance_N = 1 / (4 * np.pi * (share_NPP**2).sum(axis=(1, 2))) - PIXEL_VARIANCE
    return np.asarray(np.sqrt(np.maximum(variance_N, 0.01)))


def _pixels_above(patch_NPP: np.ndarray, scale_px: float, n_depths: int) -> np.ndarray:
    """(S, Z); patches of one depth after those of another."""
    edge = int(3 * scale_px) + 1
    padded = np.pad(patch_NPP, ((0, 0), (edge, edge), (edge, edge)))
    smooth = gaussian_filter(padded, (0, scale_px, scale_px), truncate=3.0).reshape(n_depths, -1)
    shares = np.exp(_LOG_SHARES)
    columns = [len(one) - np.searchsorted(np.sort(one), shares) for one in smooth]
    return np.stack(columns, axis=1) / (len(patch_NPP) / n_depths)


def at_shares(pixels_S: np.ndarray, log_share: np.ndarray) -> np.ndarray:
    """The pixels above other shares of the photons."""
    return np.interp(log_share, _LOG_SHARES, pixels_S, right=0.0)
