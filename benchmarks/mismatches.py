"""How often localize.py's warnings ring falsely, and how often they stay silent: simulated movies that fit a network
and ones that do not.

    python benchmarks/mismatches.py RUN [RUN …]             # about three minutes of one core for a run
    python benchmarks/mismatches.py RUN --seed 4 --seeds 6

Movies of 64×64 px and 40 frames with the PSF, the camera and the priors of the run's training, at densities from 0.05
emitters/µm² to its highest, seed by seed; then with one thing changed. The background of a movie is drawn within the
training's. A calibrated PSF gets wider or narrower as its spline is resampled.
"""

from __future__ import annotations

import argparse
import logging
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from emitter.app.localize_report import check_movie
from emitter.core.units import PixelSize
from emitter.inference.bundle import Bundle, load_bundle
from emitter.inference.localizer import Compute, Localizer
from emitter.io.movie import ArrayMovie
from emitter.psf.base import PSF
from emitter.psf.bspline import design_matrix
from emitter.psf.gaussian import AstigmaticPSF, GaussianPSF
from emitter.psf.spline import SplinePSF
from emitter.simulation.simulator import Simulator

N_FRAMES, SIDE_PX = 40, 64
FITTING = (0.05, 0.3, 1.0, 3.0, 6.0)  # emitters/µm², as far as the training goes
DENSITY = 0.5  # emitters/µm² of movies with something else changed


@dataclass(frozen=True)
class Movie:
    """What a movie differs in from the training: factors, but for the density in emitters/µm²."""

    density_per_um2: float = DENSITY
    pixel: float = 1.0
    width: float = 1.0
    background: float = 1.0
    photons: float = 1.0


def changed(bundle: Bundle) -> dict[str, Movie]:
    """Movies that do not fit."""
    highest = bundle.simulation.density_per_um2[1]
    low, high = bundle.simulation.background
    return {
        "pixels of 130 nm for 100": Movie(pixel=1.3),
        "PSF 1.4 times as wide": Movie(width=1.4),
        "PSF 0.75 times as wide": Movie(width=0.75),
        "background 3 times the highest": Movie(background=3 * high / (0.5 * (low + high))),
        "a third of the photons": Movie(photons=1 / 3),
        "3 times the photons": Movie(photons=3),
        "4 times the highest density": Movie(4 * highest),
    }


def simulated(bundle: Bundle, movie: Movie, seed: int) -> ArrayMovie:
    """The frames as a camera of the training's kind takes them."""
    low, high = bundle.simulation.background
    share = np.random.default_rng(seed).uniform() if movie.background == 1 else 0.5
    level = (low + share * (high - low)) * movie.background
    flux = bundle.simulation.flux
    settings = replace(
        bundle.simulation,
        frame_size_px=(SIDE_PX, SIDE_PX),
        density_per_um2=(movie.density_per_um2,) * 2,
        background=(level, level),
        flux=replace(
            flux,
            mean=flux.mean * movie.photons,
            std=flux.std * movie.photons,
            range=(flux.range[0] * movie.photons, flux.range[1] * movie.photons),
        ),
    )
    size = PixelSize(bundle.pixel_size.x_nm * movie.pixel, bundle.pixel_size.y_nm * movie.pixel)
    psf = reshaped(bundle.psf, movie.width, movie.pixel, size)
    simulator = Simulator(settings, psf, replace(bundle.camera, pixel_size=size))
    chunks = [counts for counts, _ in simulator.movie(seed, N_FRAMES)]
    return ArrayMovie(torch.cat(chunks).numpy().clip(0, 65535).astype(np.uint16))


def reshaped(psf: PSF, width: float, pixel: float, size: PixelSize) -> PSF:
    """So many times as wide, on pixels so many times as large, which is now their size."""
    if width == pixel == 1:
        return psf
    if isinstance(psf, GaussianPSF):
        state = psf.state()
        return GaussianPSF(state["sigma_x_px"] * width / pixel, state["sigma_y_px"] * width / pixel)
    if isinstance(psf, AstigmaticPSF):
        return AstigmaticPSF(replace(psf.settings, sigma_nm=psf.settings.sigma_nm * width), size)
    if isinstance(psf, SplinePSF):
        return resampled(psf, width / pixel)
    raise TypeError(f"no wider or narrower {psf.kind} PSF here")


def resampled(psf: SplinePSF, wider: float) -> SplinePSF:
    """A spline so many times as wide in pixels, dark where the calibration ends."""
    coefficients_ZCC = psf.coefficients_ZCC.double().numpy()
    n_z, n_old = len(coefficients_ZCC) - 2, psf.patch_px + 1
    radius = max(psf.radius_px, math.ceil(psf.radius_px * wider))
    from_centre_K = np.arange(2 * radius + 2) - (radius + 0.5)
    old_K = from_centre_K / wider + (psf.radius_px + 0.5)
    lateral_KC = design_matrix(old_K, n_old) * ((old_K >= 0) & (old_K <= n_old - 1))[:, None] / wider
    axial_KZ = design_matrix(np.arange(n_z), n_z)
    samples = np.einsum(
        "kz,zyx,iy,jx->kij", axial_KZ, coefficients_ZCC, lateral_KC, lateral_KC, optimize=True
    )
    return SplinePSF.from_samples(samples, psf.z_start_nm, psf.z_step_nm)


def warnings_of(bundle: Bundle, movie: ArrayMovie) -> list[str]:
    """As localize.py gives them."""
    localizer = Localizer(
        bundle.network,
        bundle.camera,
        bundle.scaling,
        bundle.thresholds,
        bundle.pixel_size,
        bundle.simulation.background,
        Compute(2**18, "cpu", "fp32"),
    )
    parts = (table for _, table in localizer.tables(movie))
    edges = np.array([0, N_FRAMES])
    return check_movie(parts, movie, range(N_FRAMES), bundle, None, edges).warnings


def counted(bundle: Bundle, movies: list[Movie], seeds: range) -> tuple[int, int, Counter[str]]:
    """Movies warned of, movies, and the warnings by their first words."""
    warned = [warnings_of(bundle, simulated(bundle, movie, seed)) for movie in movies for seed in seeds]
    words = Counter(" ".join(sentence.split()[:4]) for one in warned for sentence in one)
    return sum(map(bool, warned)), len(warned), words


def rows(bundle: Bundle, seeds: range) -> Iterator[str]:
    """Of the printed table."""
    highest = bundle.simulation.density_per_um2[1]
    for density in [one for one in FITTING if one < highest] + [highest]:
        yield line(f"fits, {density:g}/µm²", *counted(bundle, [Movie(density)], seeds))
    for name, movie in changed(bundle).items():
        yield line(name, *counted(bundle, [movie], seeds))


def line(name: str, warned: int, of: int, words: Counter[str]) -> str:
    """Of one case."""
    said = ", ".join(f"{count} “{word} …”" for word, count in words.most_common())
    return f"  {name:32s} warned of {warned} of {of}  {said}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--seed", type=int, default=1, help="of the first movie")
    parser.add_argument("--seeds", type=int, default=3, help="how many movies of a kind")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    for run in arguments.runs:
        print(run.name, flush=True)
        for row in rows(load_bundle(run), range(arguments.seed, arguments.seed + arguments.seeds)):
            print(row, flush=True)


if __name__ == "__main__":
    main()
