"""How sure a localization is: standard deviations of x, y, z and photons, and the probability that it is one.

The standard deviation is the Cramér-Rao bound among the neighbours (``emitter.metrics.crowded_crlb``) times a
correction that belongs to the network: networks see neighbouring frames and are below the bound of one frame, or have
learnt less and are above it, and some say themselves how sure they are. The correction is fitted on simulated frames
(``uncertainty_fit.py``) and travels in the checkpoint.

Shape suffixes: N emitters, K knots, Q features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from emitter.core.emitters import Emitters
from emitter.core.table import PRECISION_COLUMNS
from emitter.core.units import PixelSize
from emitter.metrics.crlb import NoiseVariance
from emitter.metrics.crowded_crlb import CrowdedCRLB, crowded_crlb
from emitter.psf.base import PSF
from emitter.psf.core import core

# one more where bounds, features or the decoding change: a correction fits those that it was fitted with
UNCERTAINTY_VERSION = 2
AXES = ("x_nm", "y_nm", "z_nm", "photons")  # of the bound, in the order of the precision columns
_COLUMN = dict(zip(AXES, PRECISION_COLUMNS, strict=True))
_AROUND_NM = 4000.0  # so far to each side of an emitter's pixel the density is counted
LEAST_DENSITY = 1 / 16  # per µm²; it is counted from here on
_SCORE_KNOTS = (0.6, 0.8, 0.95, 1.0)
_DEPTH_KNOTS = (-1.0, -0.5, 0.0, 0.5, 1.0)  # of z, which runs from -1 to 1 over the PSF's depth
_LIGHT_SHARE = 0.98  # the pixels that the bound looks at hold so much of an emitter's light at any depth
_LEAST_PHOTONS = 50.0
_LEAST_PROBABILITY, _LEAST_BACKGROUND = 1e-3, 1.0


@dataclass(frozen=True)
class Knots:
    """Natural logarithms (K,) of photons and of the density per µm², between which the correction is linear."""

    photons: tuple[float, ...]
    density: tuple[float, ...]


@dataclass(frozen=True)
class Correction:
    """What makes the bound the error of one network.

    ``weights``: for every axis those of ``features`` (Q,), whose weighted sum is the logarithm of the standard
    deviation. ``scores``, ``probabilities`` (K,): a decoded score is worth this probability, linear in between.
    """

    knots: Knots
    weights: Mapping[str, tuple[float, ...]]
    scores: tuple[float, ...]
    probabilities: tuple[float, ...]

    def state(self) -> dict[str, Any]:
        """As plain numbers and lists."""
        return {**asdict(self), "version": UNCERTAINTY_VERSION}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Correction | None:
        """The correction of ``state()``; None for that of an earlier version, which had other features or bounds."""
        if state.get("version") != UNCERTAINTY_VERSION:
            return None
        weights = {axis: tuple(values) for axis, values in state["weights"].items()}
        knots = Knots(*(tuple(state["knots"][name]) for name in ("photons", "density")))
        return cls(knots, weights, *(tuple(state[name]) for name in ("scores", "probabilities")))


@dataclass(frozen=True)
class Uncertainty:
    """Of the localizations of one network. Without a ``correction`` the standard deviations are the bound and the
    probability is the decoded score."""

    psf: PSF
    noise_variance: NoiseVariance
    pixel_size: PixelSize
    is_3d: bool
    correction: Correction | None = None

    def columns(self, emitters: Emitters, height: int, width: int) -> dict[str, np.ndarray]:
        """``PRECISION_COLUMNS`` of decoded emitters (N,), and with a correction their probability.

        Args:
            emitters: with background and probability, of images of ``height`` × ``width`` pixels.
        """
        emitters = emitters.to("cpu")
        bound = self.bound(emitters, height, width)
        if self.correction is None:
            return {_COLUMN[axis]: _numpy(getattr(bound.crowded, axis)) for axis in AXES}
        correction = self.correction
        features = self.features(emitters, bound, correction.knots, height, width)
        columns = {name: np.full(len(emitters), np.nan) for name in PRECISION_COLUMNS}
        for axis, weights in correction.weights.items():
            columns[_COLUMN[axis]] = np.exp(features[axis] @ np.asarray(weights))
        score_N = _numpy(emitters.probability_N)
        columns["probability"] = np.interp(score_N, correction.scores, correction.probabilities)
        return columns

    def bound(self, emitters: Emitters, height: int, width: int) -> CrowdedCRLB:
        """The Cramér-Rao bounds at the decoded values."""
        return crowded_crlb(
            self._core,
            self.noise_variance,
            self.pixel_size,
            emitters,
            height,
            width,
            free_z=self.is_3d,
            reach_px=self.psf.radius_px,  # who lies beyond the core still overlaps
        )

    @cached_property
    def _core(self) -> PSF:
        """What lies further out says little and takes as long."""
        return core(self.psf, _LIGHT_SHARE)

    @property
    def axes(self) -> tuple[str, ...]:
        """Those that the network tells."""
        return tuple(axis for axis in AXES if axis != "z_nm" or self.is_3d)

    def features(
        self, emitters: Emitters, bound: CrowdedCRLB, knots: Knots, height: int, width: int
    ) -> dict[str, np.ndarray]:
        """(N, Q) by axis: what its error is told from. The bound, what the neighbours add to it and what the network
        says itself, if it does; score, photons, background, depth, and how crowded it is around."""
        shared_NQ = self._shared_features(emitters, knots, height, width)
        features = {}
        for axis in self.axes:
            crowded_N, alone_N = (_numpy(getattr(one, axis)) for one in (bound.crowded, bound.alone))
            own = [np.log(crowded_N), np.log(crowded_N / alone_N)]
            if emitters.sigma_N4 is not None:
                own.append(np.log(_numpy(emitters.sigma_N4[:, AXES.index(axis)])))
            features[axis] = np.concatenate([np.stack(own, axis=1), shared_NQ], axis=1)
        return features

    def _shared_features(self, emitters: Emitters, knots: Knots, height: int, width: int) -> np.ndarray:
        """(N, Q): those of all axes. Hats add up to 1, so that the first of all sets but one is left out."""
        score_N = _numpy(emitters.probability_N)
        background_N = _numpy(emitters.background_N).clip(_LEAST_BACKGROUND)
        parts = [
            np.log(score_N.clip(_LEAST_PROBABILITY))[:, None],
            np.log(background_N)[:, None],
            hats(log_photons(emitters), knots.photons),
            hats(self.log_density(emitters, height, width), knots.density)[:, 1:],
            hats(score_N, _SCORE_KNOTS)[:, 1:],
        ]
        if self.is_3d:
            low, high = self.psf.z_range_nm
            depth_N = (2 * _numpy(emitters.z_nm_N) - low - high) / (high - low)
            parts.append(hats(depth_N, _DEPTH_KNOTS)[:, 1:])
        return np.concatenate(parts, axis=1)

    def log_density(self, emitters: Emitters, height: int, width: int) -> np.ndarray:
        """(N,) logarithm of the other emitters per µm² in a square of whole pixels around each's own, as far as it lies
        in the image of ``height`` × ``width`` pixels."""
        image_N = emitters.image_N.cpu().numpy()
        x_px_N, y_px_N = _numpy(emitters.x_px_N), _numpy(emitters.y_px_N)
        column_N, row_N = x_px_N.clip(0, width - 1).astype(int), y_px_N.clip(0, height - 1).astype(int)
        n_pixels = emitters.n_images * height * width
        count_BHW = np.bincount((image_N * height + row_N) * width + column_N, minlength=n_pixels)
        sum_BHW = count_BHW.reshape(-1, height, width).cumsum(axis=1).cumsum(axis=2)
        # a pixel's: emitters of the rows above it and of the columns to its left
        before_BHW = np.pad(sum_BHW, ((0, 0), (1, 0), (1, 0)))
        reach_x_px, reach_y_px = (round(reach) for reach in self.pixel_size.to_px(_AROUND_NM, _AROUND_NM))
        left_N, right_N = np.maximum(column_N - reach_x_px, 0), np.minimum(column_N + reach_x_px + 1, width)
        top_N, bottom_N = np.maximum(row_N - reach_y_px, 0), np.minimum(row_N + reach_y_px + 1, height)
        above_N, all_N = (
            before_BHW[image_N, end_N, right_N] - before_BHW[image_N, end_N, left_N]
            for end_N in (top_N, bottom_N)
        )
        area_um2_N = (right_N - left_N) * (bottom_N - top_N) * self.pixel_size.area_um2
        density: np.ndarray = np.log((all_N - above_N - 1) / area_um2_N + LEAST_DENSITY)
        return density


def log_photons(emitters: Emitters) -> np.ndarray:
    """(N,), of the least at least."""
    logarithm: np.ndarray = np.log(_numpy(emitters.photons_N).clip(_LEAST_PHOTONS))
    return logarithm


def hats(value_N: np.ndarray, knots: tuple[float, ...]) -> np.ndarray:
    """(N, K): weights of the knots between which a value lies, piecewise linear; they add up to 1."""
    knots_K = np.asarray(knots)
    value_N = value_N.clip(knots_K[0], knots_K[-1])
    return np.stack([np.interp(value_N, knots_K, one_K) for one_K in np.eye(len(knots_K))], axis=1)


def _numpy(tensor: Any) -> np.ndarray:
    values: np.ndarray = tensor.detach().cpu().double().numpy()
    return values
