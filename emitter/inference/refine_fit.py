"""How far to go with a network's refinement, fitted on simulated frames that nothing else uses.

Of every matched emitter the error that is left, true − found, is regressed on the way to the maximum a posteriori, in
knots of the density around it, each error in units of its standard deviation. A share that is not above 0 by more than
its standard error is not gone at all: the refinement switches itself off where it does not help.

Shape suffixes: M matched emitters, K knots.
"""

from __future__ import annotations

import numpy as np
import torch
from rich.progress import track
from scipy.optimize import lsq_linear

from emitter.core.decoding import decode
from emitter.core.table import PRECISION_COLUMNS
from emitter.inference.bundle import Bundle
from emitter.inference.refine import DENSITY_KNOTS, Refiner, background, density_weights
from emitter.inference.uncertainty import AXES
from emitter.inference.uncertainty_fit import calibration_simulator, errors_of
from emitter.simulation.simulator import Domain

MOST_SAMPLES = 1024
ENOUGH_PAIRS = 15_000
_FIRST = 100_000  # others than those of the uncertainties
_SEED, _BATCH = 1, 32
_LARGEST_Z = 4.0  # an error beyond is a wrong pair more often than a wrong place


def fit_refiner(bundle: Bundle, most_samples: int = MOST_SAMPLES) -> Refiner:
    """The refinement for a network with a correction, in seconds."""
    knots_MK, error_M4, way_M4 = _found(bundle, most_samples)
    gains, spreads = {}, {}
    for k, axis in enumerate(AXES):
        if axis == "z_nm" and not bundle.is_3d:
            continue
        near_M = np.abs(error_M4[:, k]) < _LARGEST_Z
        gain_K, spread_K = fitted_gains(knots_MK[near_M], error_M4[near_M, k], way_M4[near_M, k])
        gains[axis], spreads[axis] = tuple(gain_K.tolist()), tuple(spread_K.tolist())
    return Refiner(bundle.uncertainty(), gains, spreads)


def fitted_gains(
    knots_MK: np.ndarray, error_M: np.ndarray, way_M: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(K,) shares of the ways that take most of the errors off, from 0 to 1, and what is then left of the errors'
    standard deviation.

    Args:
        knots_MK: weights of the knots.
        error_M, way_M: in units of the standard deviation; the error is true − found.
    """
    design_MK = knots_MK * way_M[:, None]
    seen_K = (design_MK**2).sum(axis=0)
    best_K = lsq_linear(design_MK, error_M, bounds=(0.0, 1.0)).x
    noise = float((error_M - design_MK @ best_K).std()) if len(error_M) else 0.0
    sure_K = np.where(seen_K > 0, best_K - noise / np.sqrt(np.maximum(seen_K, 1e-12)), 0.0)
    gain_K = np.clip(sure_K, 0.0, 1.0)
    left_M = error_M - design_MK @ gain_K
    before_K, after_K = ((knots_MK * one_M[:, None] ** 2).sum(axis=0) for one_M in (error_M, left_M))
    spread_K = np.sqrt(np.divide(after_K, before_K, out=np.ones_like(after_K), where=before_K > 0))
    return gain_K, np.minimum(spread_K, 1.0)


@torch.inference_mode()
def _found(bundle: Bundle, most_samples: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of matched emitters the weights of the knots (M, K), errors (M, 4) and ways (M, 4) in standard deviations."""
    network, known = bundle.network, bundle.uncertainty()
    refiner = Refiner(known, {}, {})
    simulator = calibration_simulator(bundle)
    device = next(network.parameters()).device
    size_px = bundle.simulation.frame_size_px
    parts = [(np.zeros((0, len(DENSITY_KNOTS))), np.zeros((0, 4)), np.zeros((0, 4)))]
    n_pairs = 0
    for index_B in track(
        torch.arange(_FIRST, _FIRST + most_samples).split(_BATCH), "learning to refine", transient=True
    ):
        sample = simulator.sample(_SEED, index_B.to(device), Domain.UNCERTAINTY)
        maps_BCHW = network(sample.photons_BTHW)[-1]
        emitters = decode(maps_BCHW, bundle.scaling, bundle.thresholds, network.cells_px[-1])
        columns = known.columns(emitters, *size_px)
        background_BHW = background(maps_BCHW, bundle.scaling, *size_px)
        way_N4 = refiner.ways(emitters, columns, sample.predicted_photons_IHW, background_BHW).cpu().numpy()
        std_N4 = np.stack([columns[name] for name in PRECISION_COLUMNS], axis=1)
        errors = errors_of(emitters, sample.emitters, bundle)
        error_N4 = -np.stack([errors[axis] for axis in AXES], axis=1)
        hit_N = np.isfinite(error_N4[:, 0])
        knots_NK = density_weights(known, emitters, *size_px)
        parts.append((knots_NK[hit_N], (error_N4 / std_N4)[hit_N], way_N4[hit_N]))
        n_pairs += int(hit_N.sum())
        if n_pairs > ENOUGH_PAIRS:
            break
    return tuple(np.concatenate(one) for one in zip(*parts, strict=True))  # type: ignore[return-value]
