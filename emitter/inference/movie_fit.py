"""Whether a movie and the table found in it look like what the network was trained for, in sentences.

Every sentence says what was seen, what the training had, and what to do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize
from emitter.simulation.settings import FluxSettings, SimulationSettings

BACKGROUND_FACTOR = 2.0  # how far outside the trained range without a word; as in checks.py
PHOTON_FACTOR = 2.0
DENSITY_FACTOR = 2.0
SPARSE_FACTOR = 100.0  # a sparse movie is no harm, but so few are rather not recognized
PIXEL_SIZE_SHARE = 0.02
CHI2_FACTOR = 2.0  # over that of simulated frames of the same density and background
_CENTRAL = 0.05


@dataclass(frozen=True)
class Residuals:
    """Reduced χ² of sampled frames against their reconstruction: in pixels that emitters light, and in the others."""

    at_emitters: float
    elsewhere: float


def misfits(
    table: EmitterTable,
    movie_um2: float,
    median_photons_per_pixel: float,
    simulation: SimulationSettings,
    pixel_size: PixelSize,
    residuals: Residuals | None = None,
    simulated: Residuals | None = None,
    stated_pixel_size: PixelSize | None = None,
) -> list[str]:
    """What does not fit.

    Args:
        table: what was found, or a sample of whole frames of it.
        movie_um2: area of the field times the number of frames that the table is of.
        median_photons_per_pixel: of the movie.
        simulation: the priors of the training.
        pixel_size: of the training.
        residuals: None where nothing was reconstructed.
        simulated: the same of simulated frames of this density, in which dim emitters are missed too; None: as if all
            were found.
        stated_pixel_size: what the movie's file says; None where it does not.
    """
    return [
        *_pixel_size(stated_pixel_size, pixel_size),
        *_background(median_photons_per_pixel, simulation.background),
        *_photons(table, simulation.flux),
        *_density(table, movie_um2, simulation, pixel_size),
        *(_residuals(residuals, simulated or Residuals(1.0, 1.0)) if residuals else ()),
    ]


def _pixel_size(stated: PixelSize | None, trained: PixelSize) -> Iterator[str]:
    if stated is None:
        return
    shares = (stated.x_nm / trained.x_nm, stated.y_nm / trained.y_nm)
    if any(abs(share - 1) > PIXEL_SIZE_SHARE for share in shares):
        yield (
            f"Pixel size: the movie's file says {stated.x_nm:.4g} × {stated.y_nm:.4g} nm and the network was trained "
            f"for {trained.x_nm:.4g} × {trained.y_nm:.4g} nm: train with camera.pixel_size_nm of this movie."
        )


def _background(median: float, trained: tuple[float, float]) -> Iterator[str]:
    low, high = trained
    if not low / BACKGROUND_FACTOR <= median <= high * BACKGROUND_FACTOR:
        yield (
            f"Background: the movie's median pixel holds {median:.3g} photons and the network was trained on {low:g} "
            f"to {high:g}: check baseline_adu and the camera's gain, or train with simulation.background around it."
        )


def flux_range(flux: FluxSettings) -> tuple[float, float]:
    """Photons per frame between which the central 90 % of the training's emitters lie that are on for all of it."""
    if flux.distribution == "uniform":
        low, high = flux.range
        return low + _CENTRAL * (high - low), high - _CENTRAL * (high - low)
    normal = float(ndtri(1 - _CENTRAL))
    if flux.distribution == "lognormal":
        variance = math.log1p((flux.std / flux.mean) ** 2)
        middle, spread = math.log(flux.mean) - variance / 2, math.sqrt(variance) * normal
        return math.exp(middle - spread), math.exp(middle + spread)
    cut = float(0.5 * math.erfc(flux.mean / flux.std / math.sqrt(2)))  # the normal's part below 0 is left out
    low, high = (flux.mean + flux.std * float(ndtri(cut + q * (1 - cut))) for q in (_CENTRAL, 1 - _CENTRAL))
    return low, high


def _photons(table: EmitterTable, flux: FluxSettings) -> Iterator[str]:
    known = table.photons[np.isfinite(table.photons)]
    if not len(known):
        return
    low, high = flux_range(flux)
    median = float(np.median(known))
    # the dimmer side is wider: an emitter is often on for a part of the frame only
    if not low / PHOTON_FACTOR <= median <= high:
        yield (
            f"Photons: the median localization has {median:.4g} photons and the training's emitters mostly {low:.4g} "
            f"to {high:.4g} per frame: train with simulation.flux of this movie, or check the camera's gain."
        )


def crowding_per_um2(table: EmitterTable, tile_px: tuple[int, int], pixel_size: PixelSize) -> float:
    """Median over the localizations of how many others per µm² there are in their frame and tile; NaN without any."""
    if not len(table):
        return math.nan
    x_px, y_px = pixel_size.to_px(table.x_nm, table.y_nm)
    tile = np.stack((table.frame, np.floor(y_px / tile_px[0]), np.floor(x_px / tile_px[1])))
    _, where, counts = np.unique(tile, axis=1, return_inverse=True, return_counts=True)
    return float(np.median(counts[where.ravel()] - 1)) / (tile_px[0] * tile_px[1] * pixel_size.area_um2)


def _density(
    table: EmitterTable, movie_um2: float, simulation: SimulationSettings, pixel_size: PixelSize
) -> Iterator[str]:
    if not len(table):
        yield (
            "Density: nothing was found: the movie is empty, or looks unlike all that the network was trained for."
        )
        return
    low, high = simulation.density_per_um2
    found = len(table) / movie_um2
    if found < low / SPARSE_FACTOR:
        yield (
            f"Density: {found:.2g} localizations per µm² and frame were found and the network was trained on {low:g} "
            f"to {high:g}: the movie is nearly empty, or its spots look unlike the network's PSF."
        )
    density = crowding_per_um2(table, simulation.frame_size_px, pixel_size)
    if density > DENSITY_FACTOR * high:
        yield (
            f"Density: half of the localizations have {density:.3g} others per µm² around them and the network was "
            f"trained up to {high:g}: expect missed and merged emitters, or train with a higher "
            "simulation.density_per_um2."
        )


def _residuals(found: Residuals, simulated: Residuals) -> Iterator[str]:
    at, elsewhere = (max(1.0, value) for value in (simulated.at_emitters, simulated.elsewhere))
    if found.at_emitters > CHI2_FACTOR * at:
        yield (
            "PSF: where emitters were found, the frames differ from their reconstruction by a reduced χ² of "
            f"{found.at_emitters:.3g} (simulated frames: {at:.3g}): the movie's spots do not look like the network's "
            "PSF; calibrate this microscope's PSF and train with it."
        )
    if found.elsewhere > CHI2_FACTOR * elsewhere:
        yield (
            "Left over: away from the found emitters the frames differ from the predicted background by a reduced χ² "
            f"of {found.elsewhere:.3g} (simulated frames: {elsewhere:.3g}): emitters are missed, or the camera's "
            "baseline, gain or read noise are not this movie's."
        )
