"""How well a network's uncertainties hold on fresh simulated frames, and what they cost.

python benchmarks/uncertainty.py --checkpoint RUN --densities 0.05 0.2 0.6 1.5 3

Prints, for x, y, z and photons, the standard deviation of error / precision of matched emitters and its standard error:
of all, in fifths of the predicted photons and at every density; their mean log-likelihood under Gaussians of these
precisions, in nats; the expected calibration error of the probability; and the CPU time of the uncertainties over the
network's.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
import torch

from emitter.core.decoding import decode
from emitter.core.memory import keep_freed_memory
from emitter.core.table import PRECISION_COLUMNS
from emitter.inference.bundle import Bundle, load_bundle
from emitter.inference.uncertainty import AXES
from emitter.inference.uncertainty_fit import errors_of, fit_correction
from emitter.metrics.uncertainty import reliability
from emitter.simulation.simulator import Domain, Simulator

_FIRST, _BATCH = 70_000, 32  # of the held-out samples: others than evaluate.py's
_FEWEST, _MOST = 96, 8000


def samples_for(bundle: Bundle, density: float, emitters: int = 6000) -> int:
    """Samples that hold about so many emitters."""
    height, width = bundle.simulation.frame_size_px
    x_nm, y_nm = bundle.pixel_size.to_nm(float(width), float(height))
    return int(min(_MOST, max(_FEWEST, emitters / (density * x_nm * y_nm * 1e-6))))


@torch.inference_mode()
def rows_at(bundle: Bundle, density: float) -> tuple[np.ndarray, float, float]:
    """Of every decoded emitter z-scores of the four axes (NaN where nothing is matched), photons, probability, density
    and the four precisions, (N, 11); CPU-seconds of the network and of the uncertainties."""
    simulation = replace(bundle.simulation, density_per_um2=(density, density))
    simulator = Simulator(simulation, bundle.psf, bundle.camera)
    uncertainty, network = bundle.uncertainty(), bundle.network.eval()
    parts, of_network, of_uncertainty = [np.zeros((0, 11))], 0.0, 0.0
    for index_B in torch.arange(_FIRST, _FIRST + samples_for(bundle, density)).split(_BATCH):
        sample = simulator.sample(1, index_B, Domain.HELD_OUT)
        start = time.process_time()
        emitters = decode(
            network(sample.photons_BTHW)[-1], bundle.scaling, bundle.thresholds, network.cells_px[-1]
        )
        middle = time.process_time()
        columns = uncertainty.columns(emitters, *simulation.frame_size_px)
        end = time.process_time()
        of_network, of_uncertainty = of_network + middle - start, of_uncertainty + end - middle
        errors = errors_of(emitters, sample.emitters, bundle)
        z_scores = [errors[axis] / columns[name] for axis, name in zip(AXES, PRECISION_COLUMNS, strict=True)]
        density_N = np.full(len(emitters), density)
        told = [emitters.photons_N.numpy(), columns["probability"], density_N]
        precisions = [columns[name] for name in PRECISION_COLUMNS]
        parts.append(np.stack([*z_scores, *told, *precisions], axis=1))
    return np.concatenate(parts), of_network, of_uncertainty


def spread(z_N: np.ndarray) -> str:
    """Standard deviation of what is known of z-scores (N,), and its standard error, which heavy tails make large."""
    z_N = z_N[np.isfinite(z_N)]
    std = z_N.std()
    kurtosis = ((z_N - z_N.mean()) ** 4).mean() / std**4
    return f"{std:.2f} ± {std * np.sqrt((kurtosis - 1) / (4 * len(z_N))):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--densities", nargs="+", type=float, default=[0.05, 0.2, 0.6, 1.5, 3])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    bundle = load_bundle(arguments.checkpoint)
    if bundle.correction is None:
        bundle = replace(bundle, correction=fit_correction(bundle))
    tables = []
    for density in arguments.densities:
        rows, of_network, of_uncertainty = rows_at(bundle, density)
        tables.append(rows)
        each_us = 1e6 * of_uncertainty / max(len(rows), 1)
        share = of_uncertainty / of_network
        print(
            f"{density:g}/um2: {len(rows)} emitters, {each_us:.0f} us each, {share:.2f} of the network's time"
        )
    rows = np.concatenate(tables)
    photons, probability, density = rows[:, 4], rows[:, 5], rows[:, 6]
    fifth = np.digitize(photons, np.quantile(photons, [0.2, 0.4, 0.6, 0.8]))
    for k, axis in enumerate(AXES):
        z = rows[:, k]
        if np.isfinite(z).any():
            by_photons = ", ".join(spread(z[fifth == one]) for one in range(5))
            by_density = ", ".join(spread(z[density == one]) for one in arguments.densities)
            likelihood = -np.nanmean(np.log(rows[:, 7 + k]) + 0.5 * z**2)
            print(f"| {axis} | {spread(z)} | {by_photons} | {by_density} | {likelihood:.3f} |")
    print(f"calibration error {reliability(probability, np.isfinite(rows[:, 0])).error:.4f}")


if __name__ == "__main__":
    main()
