"""What a network's own simulation shows, made as like a movie as the training allows: the same density, and the same
background as far as it was trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from emitter.core.decoding import decode
from emitter.core.table import EmitterTable
from emitter.inference.appearance import Appearance, appearance
from emitter.inference.bundle import Bundle
from emitter.inference.overlap import overlap
from emitter.inference.residuals import residuals
from emitter.metrics.binned import density_around
from emitter.simulation.settings import SimulationSettings
from emitter.simulation.simulator import Domain, Sample, Simulator

_SEED = 1
_SAMPLES = 32
_APPEARANCE_SAMPLES = 192
_APPEARANCE_DENSITY = 0.1  # at least, emitters/µm²: of sparser ones too few show
_AROUND_NM = 500.0


@dataclass(frozen=True)
class Usual:
    """``chi2``: reduced χ² of simulated frames against what the network finds in them; ``most_crowded``: ``crowding``
    of what it finds at the highest density of its training; ``appearance``: of the simulated frames; ``most_overlap``:
    ``overlap`` of those at the highest density."""

    chi2: float
    most_crowded: float
    appearance: Appearance
    most_overlap: float


@dataclass(frozen=True)
class _Found:
    """In simulated frames: the table, the share of the emitters that is in it, and χ²."""

    table: EmitterTable
    share: float
    chi2: float


def usual(bundle: Bundle, found_per_um2: float, movie: Appearance) -> Usual:
    """Simulate and predict.

    Args:
        bundle: the network and what it was trained on.
        found_per_um2: emitters per frame that it finds in the movie.
        movie: its frames; of their background, the nearest of the training is simulated.
    """
    background = float(np.median(movie.floor_F))
    highest = bundle.simulation.density_per_um2[1]
    full = _like(bundle, highest, background)
    top, most_overlap = _predicted(bundle, full), overlap(simulated_frames(bundle, full, _APPEARANCE_SAMPLES))
    least = max(found_per_um2, 1e-4)
    share = _predicted(bundle, _like(bundle, least, background)).share
    density = density_behind(found_per_um2, (least, least * share), (highest, highest * top.share))
    # the first says too much where a network finds no more in fuller frames, the second where emitters lie in clusters
    by_overlap = highest * movie.overlap / most_overlap
    if math.isfinite(by_overlap):
        density = min(density, max(least, by_overlap))
    here = _like(bundle, density, background)
    seen = replace(here, density_per_um2=(max(density, _APPEARANCE_DENSITY),) * 2)
    return Usual(
        _predicted(bundle, here).chi2,
        crowding(top.table),
        simulated_appearance(bundle, seen, _APPEARANCE_SAMPLES),
        most_overlap,
    )


def density_behind(found: float, low: tuple[float, float], high: tuple[float, float]) -> float:
    """The density of which so much is found, on a power law between two densities with what is found of each."""
    if found >= high[1]:
        return max(found, high[0])
    if not 0 < low[1] < high[1]:
        return low[0]
    (at_low, of_low), (at_high, of_high) = np.log(low), np.log(high)
    return float(np.exp(np.interp(np.log(max(found, low[1])), (of_low, of_high), (at_low, at_high))))


def crowding(table: EmitterTable) -> float:
    """Emitters per µm² within 0.5 µm of an emitter in its frame, itself among them, in the mean over all; 0 of none."""
    return float(density_around(table, _AROUND_NM).mean()) if len(table) else 0.0


def simulated_appearance(bundle: Bundle, simulation: SimulationSettings, n_samples: int) -> Appearance:
    """What the middle frames of so many samples look like."""
    return appearance(simulated_frames(bundle, simulation, n_samples), bundle.camera)


def simulated_frames(bundle: Bundle, simulation: SimulationSettings, n_samples: int) -> np.ndarray:
    """The middle frames of so many samples in photons, (B, H, W)."""
    sample = _sample(bundle, simulation, n_samples)
    photons_BHW: np.ndarray = sample.photons_BTHW[:, sample.counts_BTHW.shape[1] // 2].numpy()
    return photons_BHW


def _like(bundle: Bundle, density_per_um2: float, background: float) -> SimulationSettings:
    level = float(np.clip(background, *bundle.simulation.background))
    return replace(
        bundle.simulation, density_per_um2=(density_per_um2, density_per_um2), background=(level, level)
    )


@torch.inference_mode()
def _predicted(bundle: Bundle, simulation: SimulationSettings) -> _Found:
    sample = _sample(bundle, simulation, _SAMPLES)
    network = bundle.network.to("cpu").eval()
    found = decode(network(sample.photons_BTHW)[-1], bundle.scaling, bundle.thresholds, network.cells_px[-1])
    table = EmitterTable.from_emitters(found, bundle.pixel_size)
    middle_BHW = sample.counts_BTHW[:, network.n_frames // 2].numpy()
    chi2 = residuals(table, middle_BHW, np.arange(_SAMPLES), bundle).chi2
    return _Found(table, len(table) / max(len(sample.emitters), len(table), 1), chi2)


def _sample(bundle: Bundle, simulation: SimulationSettings, n_samples: int) -> Sample:
    simulator = Simulator(simulation, bundle.psf, bundle.camera)
    return simulator.sample(_SEED, torch.arange(n_samples), Domain.HELD_OUT)
