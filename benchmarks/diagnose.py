"""What diagnose.py finds on simulated movies whose truth is known: estimated over true, and what share is within 20 %.

    python benchmarks/diagnose.py               # 30 movies, about two minutes of one core
    python benchmarks/diagnose.py --seed 2 --n-frames 300

Every camera type × density (0.05 to 3 emitters/µm²) × PSF (2D Gaussian, astigmatic); background, photons and lifetime
are drawn at random for every movie. The true density is that of the movie's own emitters, which at 0.05 are few.
"""

from __future__ import annotations

import argparse
import itertools
import time
from dataclasses import dataclass

import numpy as np
import torch

from emitter.inference.survey.frames import sample_frames
from emitter.inference.survey.survey import Survey, survey
from emitter.io.movie import ArrayMovie
from emitter.psf import build
from emitter.psf.gaussian import AstigmaticSettings, GaussianSettings
from emitter.simulation.camera import Camera, CameraSettings
from emitter.simulation.settings import FluxSettings, SimulationSettings
from emitter.simulation.simulator import Simulator

CAMERAS = {
    "emccd": CameraSettings("emccd", 100.0, 100, 45, 300, 0.9, 74.4, 0.002),
    "scmos": CameraSettings("scmos", 100.0, 100, 0.46, None, 0.82, 1.6, 0.0),
    "ideal": CameraSettings("ideal"),
}
DENSITIES = (0.05, 0.2, 0.6, 1.5, 3.0)
PSFS = {"gaussian": GaussianSettings(130.0), "astigmatic": AstigmaticSettings(100.0, depth_nm=300.0)}
WITHIN = 0.2


@dataclass(frozen=True)
class Case:
    """A movie to simulate."""

    camera: str
    density_per_um2: float
    psf: str
    background: float
    flux: float
    cv: float
    lifetime_frames: float | None


def drawn(camera: str, density_per_um2: float, psf: str, rng: np.random.Generator) -> Case:
    """A movie with background, photons and lifetime at random."""
    lifetime = (None, 1.0, 2.0, 4.0)[rng.integers(4)]
    background, flux = np.exp(rng.uniform(np.log((10, 1500)), np.log((100, 6000))))
    return Case(camera, density_per_um2, psf, background, flux, rng.uniform(0.2, 0.5), lifetime)


def simulated(case: Case, seed: int, n_frames: int, side_px: int = 64) -> tuple[np.ndarray, float]:
    """Counts (T, H, W) and the density of the emitters that are in them."""
    camera = Camera.build(CAMERAS[case.camera])
    settings = SimulationSettings(
        frame_size_px=(side_px, side_px),
        density_per_um2=(case.density_per_um2, case.density_per_um2),
        lifetime_frames=case.lifetime_frames,
        flux=FluxSettings(mean=case.flux, std=case.cv * case.flux),
        z_range_nm=(-500.0, 500.0) if case.psf == "astigmatic" else (0.0, 0.0),
        background=(case.background, case.background),
    )
    simulator = Simulator(settings, build(PSFS[case.psf], camera.pixel_size), camera)
    chunks = list(simulator.movie(seed, n_frames))
    counts = np.concatenate([counts.numpy() for counts, _ in chunks]).astype(np.uint16)
    area_um2 = side_px**2 * camera.pixel_size.area_um2
    return counts, sum(len(emitters) for _, emitters in chunks) / n_frames / area_um2


def ratios(found: Survey, case: Case, density_per_um2: float) -> dict[str, float]:
    """Estimated over true."""
    return {
        "density": found.density_per_um2 / density_per_um2,
        "photons": found.priors.flux_mean / case.flux,
        "background": found.priors.background / case.background,
    }


def surveyed(counts: np.ndarray, camera: CameraSettings) -> Survey:
    """The movie as diagnose.py sees it."""
    built = Camera.build(camera)
    return survey(sample_frames(ArrayMovie(counts), built), built)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--n-frames", type=int, default=300)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(arguments.seed)
    print(
        "psf         camera  density   background photons lifetime | estimated/true: density photons background"
    )
    all_ratios: dict[str, list[float]] = {}
    start = time.process_time()
    for psf, camera, density in itertools.product(PSFS, CAMERAS, DENSITIES):
        case = drawn(camera, density, psf, rng)
        counts, true_density = simulated(case, arguments.seed, arguments.n_frames)
        found = surveyed(counts, CAMERAS[camera])
        one = ratios(found, case, true_density)
        for name, value in one.items():
            all_ratios.setdefault(name, []).append(value)
        words = " ".join(f"{value:7.2f}{' ' if abs(value - 1) <= WITHIN else '!'}" for value in one.values())
        blinking = f"{case.lifetime_frames} → {found.lifetime_frames and round(found.lifetime_frames, 2)}"
        print(
            f"{psf:11s} {camera:7s} {density:5.2f}   {case.background:8.1f} {case.flux:8.0f} {blinking:>12s} | {words}"
            f" width {found.priors.width_px:.2f} px{' 3D' if found.is_3d else ''} {found.spots.elongation or 0:.2f}"
        )
    for name, values in all_ratios.items():
        off = np.abs(np.array(values) - 1)
        print(f"{name}: {100 * (off <= WITHIN).mean():.0f} % within 20 %, worst {100 * off.max():.0f} % off")
    print(f"{(time.process_time() - start) / len(off):.1f} CPU-seconds a movie, simulation included")


if __name__ == "__main__":
    main()
