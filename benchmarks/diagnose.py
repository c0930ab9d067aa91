"""What diagnose.py finds on simulated movies whose truth is known: estimated over true, and what share is within 20 %.

    python benchmarks/diagnose.py                          # 30 movies, some minutes of one core
    python benchmarks/diagnose.py --psf psf.h5             # and 15 with a PSF that calibrate.py made
    python benchmarks/diagnose.py --seed 2 --psf psf.h5 --only spline

Every camera type × density (0.05 to 3 emitters/µm²) × PSF (2D Gaussian, astigmatic, calibrated), each diagnosed without
and with its PSF given; background, photons and lifetime are drawn at random for every movie. The true density is that
of the movie's own emitters, which at 0.05 are few. Offset and gain are those that are found where the settings say 40
photons too many for the dark counts, or twice as many electrons to a count; an ideal camera has neither.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np
import torch

from emitter.inference.survey.camera_noise import photon_transfer
from emitter.inference.survey.frames import Sampled, sample_frames
from emitter.inference.survey.spot_shape import KnownShape
from emitter.inference.survey.survey import Survey, survey
from emitter.inference.survey.verdicts import CameraCheck, adu_per_photon, check_camera
from emitter.io.movie import ArrayMovie
from emitter.psf import PSF
from emitter.psf.build import PSFSettings, build
from emitter.psf.gaussian import AstigmaticSettings, GaussianSettings
from emitter.psf.spline import SplineSettings
from emitter.simulation.camera import Camera, CameraSettings
from emitter.simulation.settings import FluxSettings, SimulationSettings
from emitter.simulation.simulator import Simulator

CAMERAS = {
    "emccd": CameraSettings("emccd", 100.0, 100, 45, 300, 0.9, 74.4, 0.002),
    "scmos": CameraSettings("scmos", 100.0, 100, 0.46, None, 0.82, 1.6, 0.0),
    "ideal": CameraSettings("ideal"),
}
DENSITIES = (0.05, 0.2, 0.6, 1.5, 3.0)
PSFS: dict[str, PSFSettings] = {
    "gaussian": GaussianSettings(130.0),
    "astigmatic": AstigmaticSettings(100.0, depth_nm=300.0),
}
WITHIN = 0.2
OFFSET_PHOTONS, GAIN_TIMES = 40.0, 2.0  # by how much the settings are made wrong


@dataclass(frozen=True)
class Case:
    """A movie to simulate."""

    camera: str
    density_per_um2: float
    background: float
    flux: float
    cv: float
    lifetime_frames: float | None


def drawn(camera: str, density_per_um2: float, rng: np.random.Generator) -> Case:
    """A movie with background, photons and lifetime at random."""
    lifetime = (None, 1.0, 2.0, 4.0)[rng.integers(4)]
    background, flux = np.exp(rng.uniform(np.log((10, 1500)), np.log((100, 6000))))
    return Case(camera, density_per_um2, background, flux, rng.uniform(0.2, 0.5), lifetime)


def simulated(case: Case, psf: PSF, seed: int, n_frames: int, side_px: int = 64) -> tuple[ArrayMovie, float]:
    """The movie and the density of the emitters that are in it."""
    camera = Camera.build(CAMERAS[case.camera])
    settings = SimulationSettings(
        frame_size_px=(side_px, side_px),
        density_per_um2=(case.density_per_um2, case.density_per_um2),
        lifetime_frames=case.lifetime_frames,
        flux=FluxSettings(mean=case.flux, std=case.cv * case.flux),
        z_range_nm=psf.z_range_nm,
        background=(case.background, case.background),
    )
    chunks = list(Simulator(settings, psf, camera).movie(seed, n_frames))
    counts_THW = np.concatenate([counts.numpy() for counts, _ in chunks]).astype(np.uint16)
    area_um2 = side_px**2 * camera.pixel_size.area_um2
    return ArrayMovie(counts_THW), sum(len(emitters) for _, emitters in chunks) / n_frames / area_um2


def ratios(found: Survey, case: Case, density_per_um2: float) -> dict[str, float]:
    """Estimated over true."""
    return {
        "density": found.density_per_um2 / density_per_um2,
        "photons": found.priors.flux_mean / case.flux,
        "background": found.priors.background / case.background,
    }


def camera_ratios(movie: ArrayMovie, settings: CameraSettings) -> dict[str, float]:
    """Estimated over true of an offset and a gain that the settings have wrong."""
    if settings.kind == "ideal":
        return {}
    off = OFFSET_PHOTONS * adu_per_photon(Camera.build(settings))
    offset = _checked(movie, replace(settings, baseline_adu=settings.baseline_adu + off))
    gain = _checked(movie, replace(settings, e_per_adu=settings.e_per_adu * GAIN_TIMES))
    return {"offset": offset.baseline_off_adu / off, "gain": gain.photons_ratio / GAIN_TIMES}


def _checked(movie: ArrayMovie, settings: CameraSettings) -> CameraCheck:
    camera = Camera.build(settings)
    sampled: Sampled = sample_frames(movie, camera)
    return check_camera(photon_transfer(sampled.photons_THW, sampled.runs), camera)


def worded(values: dict[str, float]) -> str:
    """The ratios, those off by more than 20 % marked."""
    return " ".join(f"{value:5.2f}{' ' if abs(value - 1) <= WITHIN else '!'}" for value in values.values())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--n-frames", type=int, default=300)
    parser.add_argument("--psf", help="a psf.h5 of 100 nm pixels, for 15 movies more")
    parser.add_argument("--only", choices=("gaussian", "astigmatic", "spline"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    psfs = PSFS if arguments.psf is None else {**PSFS, "spline": SplineSettings(arguments.psf)}
    print("estimated/true: density photons background, without its PSF | with it | offset gain")
    collected: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    start, n_movies = time.process_time(), 0
    for name, settings in psfs.items():
        rng = np.random.default_rng((arguments.seed, len(name)))
        if arguments.only not in (None, name):
            continue
        for kind, density in itertools.product(CAMERAS, DENSITIES):
            case, camera = drawn(kind, density, rng), Camera.build(CAMERAS[kind])
            psf = build(settings, camera.pixel_size)
            movie, true_density = simulated(case, psf, arguments.seed, arguments.n_frames)
            found = survey(sample_frames(movie, camera), camera, KnownShape.of(psf))
            parts = {
                "without": ratios(replace(found, **_as_if_unknown(found, camera)), case, true_density),
                "with": ratios(found, case, true_density),
                "camera": camera_ratios(movie, CAMERAS[kind]),
            }
            for part, values in parts.items():
                for figure, value in values.items():
                    collected[name, part, figure].append(value)
            n_movies += 1
            print(
                f"{name:10s} {kind:5s} {density:4.2f}/µm² b {case.background:5.1f} f {case.flux:4.0f} "
                f"lifetime {case.lifetime_frames} → {found.lifetime_frames and round(found.lifetime_frames, 2)} | "
                f"{' | '.join(worded(one) for one in parts.values())}"
                f"{' 3D' if found.is_3d else ''}{'' if found.fits else ' PSF NOT RECOGNIZED'}",
                flush=True,
            )
    for (name, part, figure), values in collected.items():
        off = np.abs(np.array(values) - 1)
        print(
            f"{name:10s} {part:7s} {figure:10s} {(off <= WITHIN).sum():2d} of {len(off)} within 20 %, "
            f"median {100 * np.median(off):.0f} % off, worst {100 * off.max():.0f} %"
        )
    print(f"{(time.process_time() - start) / n_movies:.1f} CPU-seconds a movie, simulation included")


def _as_if_unknown(found: Survey, camera: Camera) -> dict[str, object]:
    return {"priors": found.free, "density_per_um2": found.free.density_px / camera.pixel_size.area_um2}


if __name__ == "__main__":
    main()
