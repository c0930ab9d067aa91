"""How sure a localization is: standard deviations of x, y, z and photons, and the probability that it is one.

The standard deviation is the Cramér-Rao bound among the neighbours (``emitter.metrics.crowded_crlb``) times a
correction that belongs to the network: networks see neighbouring frames and are below the bound of one frame, or have
learnt less and are above it. The correction is fitted on simulated frames (``uncertainty_fit.py``) and travels in the
checkpoint.

Shape suffixes: N emitters, K knots, Q features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from emitter.core.emitters import Emitters
from emitter.core.table import PRECISION_COLUMNS
from emitter.core.units import PixelSize
from emitter.metrics.crlb import NoiseVariance
from emitter.metrics.crowded_crlb import CrowdedCRLB, crowded_crlb
from emitter.psf.base import PSF

AXES = ("x_nm", "y_nm", "z_nm", "photons")  # of the bound, in the order of the precision columns
_COLUMN = dict(zip(AXES, PRECISION_COLUMNS, strict=True))
_NEAR_NM, _AROUND_NM = 1000.0, 2000.0
_NEAR_KNOTS = (0.0, 1.5, 3.0)  # of log2(1 + emitters within so many nm)
_AROUND_KNOTS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
_DEPTH_KNOTS = (0.0, 0.5, 1.0)  # of the distance from the middle of the PSF's depth over half of it
_LEAST_PHOTONS = 50.0
_LEAST_PROBABILITY = 1e-3


@dataclass(frozen=True)
class Correction:
    """What makes the bound the error of one network.

    ``photon_knots`` (K,): natural logarithms. ``weights``: for every axis those of ``features`` (Q,), whose weighted
    sum is the logarithm of the standard deviation. ``scores``, ``probabilities`` (K,): a decoded score is worth this
    probability, linear in between.
    """

    photon_knots: tuple[float, ...]
    weights: Mapping[str, tuple[float, ...]]
    scores: tuple[float, ...]
    probabilities: tuple[float, ...]

    def state(self) -> dict[str, Any]:
        """As plain numbers and lists."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Correction:
        """The correction of ``state()``."""
        weights = {axis: tuple(values) for axis, values in state["weights"].items()}
        rest = (tuple(state[name]) for name in ("scores", "probabilities"))
        return cls(tuple(state["photon_knots"]), weights, *rest)


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
        columns = {}
        for axis in AXES:
            if axis in correction.weights:
                features_NQ = self.features(emitters, bound, axis, correction.photon_knots)
                columns[_COLUMN[axis]] = np.exp(features_NQ @ np.asarray(correction.weights[axis]))
            else:
                columns[_COLUMN[axis]] = np.full(len(emitters), np.nan)
        score_N = _numpy(emitters.probability_N)
        columns["probability"] = np.interp(score_N, correction.scores, correction.probabilities)
        return columns

    def bound(self, emitters: Emitters, height: int, width: int) -> CrowdedCRLB:
        """The Cramér-Rao bounds at the decoded values."""
        return crowded_crlb(
            self.psf, self.noise_variance, self.pixel_size, emitters, height, width, free_z=self.is_3d
        )

    def features(
        self, emitters: Emitters, bound: CrowdedCRLB, axis: str, photon_knots: tuple[float, ...]
    ) -> np.ndarray:
        """(N, Q): what the error of an axis is told from: the bound and what the neighbours add to it, the decoded
        score, photons, depth and how crowded it is around."""
        crowded_N, alone_N = (_numpy(getattr(one, axis)) for one in (bound.crowded, bound.alone))
        score_N = _numpy(emitters.probability_N).clip(_LEAST_PROBABILITY)
        parts = [
            np.stack([np.log(crowded_N), np.log(crowded_N / alone_N), np.log(score_N)], axis=1),
            hats(np.log(_numpy(emitters.photons_N).clip(_LEAST_PHOTONS)), photon_knots),
        ]
        around = ((_NEAR_NM, _NEAR_KNOTS), (_AROUND_NM, _AROUND_KNOTS))
        for radius_nm, knots in around:
            crowd_N = np.log2(1 + self.neighbours(emitters, radius_nm))
            parts.append(hats(crowd_N, knots)[:, 1:])  # the first is what the photons' hats add up to
        if self.is_3d:
            low, high = self.psf.z_range_nm
            depth_N = np.abs(_numpy(emitters.z_nm_N) - (low + high) / 2) / ((high - low) / 2)
            parts.append(hats(depth_N, _DEPTH_KNOTS)[:, 1:])
        return np.concatenate(parts, axis=1)

    def neighbours(self, emitters: Emitters, radius_nm: float) -> np.ndarray:
        """(N,) other emitters of the same image within a radius."""
        if not len(emitters):
            return np.zeros(0)
        x_nm, y_nm = self.pixel_size.to_nm(_numpy(emitters.x_px_N), _numpy(emitters.y_px_N))
        apart_nm = 2 * radius_nm + np.ptp(x_nm) + np.ptp(y_nm)
        place_N3 = np.stack([x_nm, y_nm, _numpy(emitters.image_N) * apart_nm], axis=1)
        counts: np.ndarray = cKDTree(place_N3).query_ball_point(place_N3, radius_nm, return_length=True) - 1
        return counts


def hats(value_N: np.ndarray, knots: tuple[float, ...]) -> np.ndarray:
    """(N, K): weights of the knots between which a value lies, piecewise linear; they add up to 1."""
    knots_K = np.asarray(knots)
    value_N = value_N.clip(knots_K[0], knots_K[-1])
    return np.stack([np.interp(value_N, knots_K, one_K) for one_K in np.eye(len(knots_K))], axis=1)


def _numpy(tensor: Any) -> np.ndarray:
    values: np.ndarray = tensor.detach().cpu().double().numpy()
    return values
