"""The correction of a network's uncertainties, fitted on simulated frames that nothing else uses.

Standard deviations: Gaussian maximum likelihood of the errors of matched emitters, log σ linear in the features. At its
optimum the mean squared error over variance is 1 along every feature, so also for dim and bright, lonely and crowded
emitters. Probability: the share of rows with a true emitter within the protocol's radius, monotone in the decoded score
(isotonic regression; Barlow et al., Statistical Inference under Order Restrictions, 1972).

Shape suffixes: N emitters, Q features, K knots, B images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from rich.progress import track
from scipy.optimize import isotonic_regression, minimize

from emitter.core.decoding import decode
from emitter.core.emitters import Emitters
from emitter.core.table import EmitterTable
from emitter.inference.bundle import Bundle
from emitter.inference.uncertainty import AXES, LEAST_DENSITY, Correction, Knots, Uncertainty, log_photons
from emitter.metrics.crowded_crlb import CrowdedCRLB
from emitter.metrics.matching import match
from emitter.simulation.simulator import Domain, Simulator

MOST_SAMPLES = 3072
ENOUGH_PAIRS = 60_000
FEWEST_PAIRS = 500  # below: the network finds next to nothing yet
SPARSER = 20.0  # the frames are from so many times sparser than the training's sparsest on,
LONELIEST = 0.5  # but not from fewer emitters a frame than this on: lonelier ones only cost time
LEAST_SCORE = 0.05  # the probability is known from here on, for who lowers the threshold
_SEED = 1
_BATCH = 32
_PROMISING = (4, 20)  # after so many batches a network that is worth it has found so many emitters
_PHOTON_QUANTILES = (0.02, 0.25, 0.5, 0.75, 0.98)
_DENSEST_QUANTILE, _N_DENSITIES = 0.98, 6
_N_SCORES = 24
_RIDGE = 1e-4
_LARGEST_RATIO = 1e8  # of squared error and variance, while the fit is far off


class _Found:
    """Decoded emitters of the batches so far.

    ``batches``: with their bounds and errors (NaN where nothing is matched), without those below the threshold;
    ``scores`` of these too, and whether there is a true emitter (``hits``).
    """

    def __init__(self) -> None:
        self.batches: list[tuple[Emitters, CrowdedCRLB, dict[str, np.ndarray]]] = []
        self.scores: list[np.ndarray] = []
        self.hits: list[np.ndarray] = []
        self.n_pairs = 0


def fit_correction(bundle: Bundle, most_samples: int = MOST_SAMPLES) -> Correction | None:
    """The correction for a trained network, in seconds; None while it finds too few emitters for one.

    Args:
        bundle: on the device where it is to be used.
        most_samples: simulated ones, log-uniform in density from a twentieth of the training's least on; fewer where
            they hold emitters enough.
    """
    found = _found(bundle, most_samples)
    if found.n_pairs < FEWEST_PAIRS:
        return None
    uncertainty, size_px = bundle.uncertainty(), bundle.simulation.frame_size_px
    knots = _knots([emitters for emitters, _, _ in found.batches], uncertainty, size_px)
    features: dict[str, list[np.ndarray]] = {axis: [] for axis in uncertainty.axes}
    errors: dict[str, list[np.ndarray]] = {axis: [] for axis in uncertainty.axes}
    weights: list[np.ndarray] = []
    for emitters, bound, error in found.batches:
        hit_N = np.isfinite(error["x_nm"])
        of_axis = uncertainty.features(emitters, bound, knots, *size_px)
        for axis in uncertainty.axes:
            features[axis].append(of_axis[axis][hit_N])
            errors[axis].append(error[axis][hit_N])
        image_N = emitters.image_N.numpy()
        per_image_N = np.bincount(image_N)[image_N]
        weights.append(per_image_N[hit_N] ** -0.5)  # else the crowded frames say it all
    weight_N = np.concatenate(weights)
    fitted = {
        axis: tuple(
            _likeliest(np.concatenate(features[axis]), np.concatenate(errors[axis]), weight_N).tolist()
        )
        for axis in uncertainty.axes
    }
    return Correction(knots, fitted, *_monotone(np.concatenate(found.scores), np.concatenate(found.hits)))


def calibration_simulator(bundle: Bundle) -> Simulator:
    """Of frames as in the training and sparser ones, on the network's device."""
    low, high = bundle.simulation.density_per_um2
    height, width = bundle.simulation.frame_size_px
    loneliest = LONELIEST / (height * width * bundle.pixel_size.area_um2)
    low = min(low, max(low / SPARSER, loneliest, 1e-4))
    simulation = replace(bundle.simulation, density_per_um2=(low, high))
    device = next(bundle.network.parameters()).device
    return Simulator(simulation, bundle.psf, bundle.camera).to(device)


def _knots(batches: Sequence[Emitters], uncertainty: Uncertainty, size_px: tuple[int, int]) -> Knots:
    """At quantiles of the photons found, and evenly from no other emitter around up to the most crowded ones."""
    photons_N = np.concatenate([log_photons(emitters) for emitters in batches])
    density_N = np.concatenate([uncertainty.log_density(emitters, *size_px) for emitters in batches])
    photon_knots = np.unique(np.quantile(photons_N, _PHOTON_QUANTILES))
    densest = max(float(np.quantile(density_N, _DENSEST_QUANTILE)), np.log(2 * LEAST_DENSITY))
    density_knots = np.linspace(np.log(LEAST_DENSITY), densest, _N_DENSITIES)
    return Knots(tuple(photon_knots.tolist()), tuple(density_knots.tolist()))


@torch.inference_mode()
def _found(bundle: Bundle, most_samples: int) -> _Found:
    network, uncertainty = bundle.network, bundle.uncertainty()
    device = next(network.parameters()).device
    simulator = calibration_simulator(bundle)
    lower = replace(bundle.thresholds, mass=min(LEAST_SCORE, bundle.thresholds.mass))
    found = _Found()
    batches = torch.arange(_BATCH, _BATCH + most_samples).split(_BATCH)
    for batch, index_B in enumerate(track(batches, "learning the uncertainties", transient=True)):
        sample = simulator.sample(_SEED, index_B.to(device), Domain.UNCERTAINTY)
        maps_BCHW = network(sample.photons_BTHW)[-1]
        for thresholds in (bundle.thresholds, lower):
            emitters = decode(maps_BCHW, bundle.scaling, thresholds, network.cells_px[-1]).to("cpu")
            errors = errors_of(emitters, sample.emitters, bundle)
            assert emitters.probability_N is not None
            score_N, hit_N = emitters.probability_N.double().numpy(), np.isfinite(errors["x_nm"])
            if thresholds is lower:
                below_N = score_N <= bundle.thresholds.mass
                score_N, hit_N = score_N[below_N], hit_N[below_N]
            elif hit_N.any():
                bound = uncertainty.bound(emitters, *bundle.simulation.frame_size_px)
                found.batches.append((emitters, bound, errors))
                found.n_pairs += int(hit_N.sum())
            found.scores.append(score_N)
            found.hits.append(hit_N)
        n_batches, n_pairs = _PROMISING
        if found.n_pairs > ENOUGH_PAIRS or (batch + 1 == n_batches and found.n_pairs < n_pairs):
            break
    return found


def errors_of(found: Emitters, truth: Emitters, bundle: Bundle) -> dict[str, np.ndarray]:
    """(N,) by axis: found minus true; NaN where there is no true emitter within the protocol's radius.

    Args:
        found, truth: of the same images.
        bundle: of the network that found them.
    """
    predicted, true = (EmitterTable.from_emitters(one, bundle.pixel_size) for one in (found, truth))
    if not bundle.is_3d:
        predicted = predicted.with_columns(z_nm=np.full(len(predicted), np.nan))
    pairs = match(predicted, true, "optimal")
    errors = {}
    for axis in AXES:
        error_N = np.full(len(predicted), np.nan)
        error_N[pairs.predicted] = (
            predicted.columns()[axis][pairs.predicted] - true.columns()[axis][pairs.truth]
        )
        errors[axis] = error_N
    return errors


def _likeliest(features_NQ: np.ndarray, error_N: np.ndarray, weight_N: np.ndarray) -> np.ndarray:
    """(Q,) weights of the features under which errors of standard deviation exp(features · weights) are likeliest."""
    weight_N = weight_N / weight_N.sum()
    start_Q = np.zeros(features_NQ.shape[1])
    start_Q[0] = 1.0  # the bound itself

    def loss(weights_Q: np.ndarray) -> tuple[float, np.ndarray]:
        log_std_N = features_NQ @ weights_Q
        ratio_N = np.minimum(error_N**2 * np.exp(-2 * log_std_N), _LARGEST_RATIO)
        away_Q = weights_Q - start_Q
        value = weight_N @ (log_std_N + 0.5 * ratio_N) + 0.5 * _RIDGE * away_Q @ away_Q
        return float(value), features_NQ.T @ (weight_N * (1 - ratio_N)) + _RIDGE * away_Q

    result: np.ndarray = minimize(loss, start_Q, jac=True, method="L-BFGS-B").x
    return result


def _monotone(score_N: np.ndarray, true_N: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Knots (K,) of scores and the share of true emitters there."""
    order_N = np.argsort(score_N, kind="stable")
    score_N, share_N = score_N[order_N], isotonic_regression(true_N[order_N].astype(np.float64)).x
    place_K = np.linspace(0, len(score_N) - 1, _N_SCORES).round().astype(int)
    scores, first_K = np.unique(score_N[place_K], return_index=True)
    return tuple(scores.tolist()), tuple(share_N[place_K][first_K].tolist())
