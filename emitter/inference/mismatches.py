"""In what a movie and the table found in it differ from what the network was trained for, one sentence for each.

Every sentence says what was seen, what the training had, and what to do. What is wrong at the root comes first: with
another pixel size or background the photons and the density found are not to be believed either.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize
from emitter.inference.appearance import Appearance, relative_width
from emitter.inference.bundle import Bundle
from emitter.inference.usual import Usual, crowding

CHI2_RANGE = (0.5, 2.5)  # of 1, which is noise alone, and of the network's own simulation at the same density
PHOTON_FACTOR = 1.5  # how far outside the trained range the median may lie
BACKGROUND_FACTOR = 1.5
FLAT_SHARE = 0.2  # of the background, by which the median pixel lies above it
CROWDING_FACTOR = 1.25  # over that of what is found at the highest trained density
OVERLAP_FACTOR = 1.75  # over that of frames at the highest trained density; its clusters reach 1.5
SAME_WIDTH = 0.10
WIDTH_ERRORS = 3.0  # and so many standard errors
FEW_SPOTS = 20
MAXIMA_FACTOR = 3.0  # over what the simulation of as many emitters shows
_OUTER = (0.05, 0.95)


@dataclass(frozen=True)
class Seen:
    """A movie: what was found in it, or in some of its frames; what its frames look like; the reduced χ² of some of
    them against the table; and the pixel size that its file states, or None."""

    table: EmitterTable
    appearance: Appearance
    chi2: float
    pixel_size: PixelSize | None = None


def mismatches(seen: Seen, bundle: Bundle, usual: Usual) -> list[str]:
    """What does not fit.

    Args:
        seen: the movie.
        bundle: of the network, with the camera of the movie.
        usual: of the network's own simulation.
    """
    stated = list(_pixel_size(seen.pixel_size, bundle.pixel_size))
    background = list(_background(seen.appearance, bundle))
    differs = list(_chi2(seen.chi2, usual.chi2))
    full = list(_overlap(seen.appearance.overlap, bundle, usual)) if background or differs else []
    if full:  # the floor is the emitters', and what stands alone or was found as one is several
        return [*stated, *full, *differs]
    if background and _flat(seen.appearance):  # a network takes light that it does not know for emitters
        return [*stated, *background, *differs]
    density = list(_density(seen, bundle, usual))
    return [
        *stated,
        *width_mismatch(seen.appearance, usual.appearance, bundle.pixel_size, seen.pixel_size),
        *([] if density else background),  # where emitters cover everything, the floor is theirs
        *_photons(seen, bundle, usual),
        *(density or _maxima(seen.appearance, usual.appearance)),
        *differs,
    ]


def trained_photons(bundle: Bundle) -> tuple[float, float]:
    """The photons a frame of most simulated emitters."""
    flux = bundle.simulation.flux
    if flux.distribution == "uniform":
        return flux.range
    return max(flux.mean - 2 * flux.std, 0.0), flux.mean + 2 * flux.std


def _pixel_size(stated: PixelSize | None, trained: PixelSize) -> Iterator[str]:
    if stated is not None and not stated.is_like(trained):
        yield (
            f"The movie's file states pixels of {_size(stated)} and the network was trained for {_size(trained)}: "
            "train with this movie's camera.pixel_size_nm; if the file is wrong, set its pixel size right."
        )


def width_mismatch(
    seen: Appearance, usual: Appearance, trained: PixelSize, stated: PixelSize | None = None
) -> Iterator[str]:
    """A sentence where the spots that stand alone are wider or narrower than the simulated ones.

    Args:
        seen, usual: the movie's frames and simulated ones.
        trained: the network's pixel size.
        stated: the pixel size in the movie's file.
    """
    width = relative_width(seen, usual)
    if width is None or abs(math.log(width.ratio)) <= SAME_WIDTH + WIDTH_ERRORS * width.error:
        return
    pixel_nm = math.sqrt(trained.x_nm * trained.y_nm)
    why = (
        f"if it is the pixel size, this movie's would be about {pixel_nm / width.ratio:.3g} nm and not {pixel_nm:.4g}; "
        "otherwise it is another PSF or another range of depths"
    )
    if stated is not None:
        explained = abs(math.log(stated.x_nm * width.ratio / trained.x_nm)) <= SAME_WIDTH
        why = (
            "the pixel size that the file states explains it"
            if explained
            else "the pixel size in the file does not explain it, it is another PSF or another range of depths"
        )
    yield (
        f"Spots that stand alone are {width.ratio:.2f} times as wide, in pixels, as those of the network's own "
        f"simulation: {why}. Calibrate this microscope's PSF and train with it."
    )


def _background(seen: Appearance, bundle: Bundle) -> Iterator[str]:
    if not len(seen.floor_F):
        return
    low, high = bundle.simulation.background
    floor, median = float(np.median(seen.floor_F)), float(np.median(seen.pixels_P))
    if floor > high * BACKGROUND_FACTOR or median < low / BACKGROUND_FACTOR:
        level, also = (
            (median, "") if floor <= high else (floor, "; frames full of emitters look like this too")
        )
        yield (
            f"The background is {level:.3g} photons a pixel and the network was trained on {low:g} to {high:g}: train "
            f"for this background (simulation.background), or check the camera's baseline and gain{also}."
        )


def _flat(seen: Appearance) -> bool:
    """Whether most of the light is the background's."""
    floor = float(np.median(seen.floor_F))
    return float(np.median(seen.pixels_P)) - floor < FLAT_SHARE * max(floor, 1.0)


def _photons(seen: Seen, bundle: Bundle, usual: Usual) -> Iterator[str]:
    dim, bright = trained_photons(bundle)
    advice = "train for these photons (simulation.flux), or check the camera's gain."
    found = seen.table.photons[np.isfinite(seen.table.photons)]
    median = float(np.median(found)) if len(found) >= FEW_SPOTS else math.nan
    if median < dim / PHOTON_FACTOR or median > bright * PHOTON_FACTOR:
        yield (
            f"The emitters have {median:.0f} photons (median) and the network was trained on {dim:.0f} to "
            f"{bright:.0f}: {advice}"
        )
        return
    spots, known = seen.appearance.spot_photons_M, usual.appearance.spot_photons_M
    if min(len(spots), len(known)) < FEW_SPOTS:
        return
    middle, (low, high) = float(np.median(spots)), np.quantile(known, _OUTER).tolist()
    if not low / PHOTON_FACTOR <= middle <= high * PHOTON_FACTOR:
        yield (
            f"Spots that stand alone have {middle:.0f} photons (median) and those of the network's own simulation "
            f"{low:.0f} to {high:.0f}: {advice}"
        )


def _density(seen: Seen, bundle: Bundle, usual: Usual) -> Iterator[str]:
    if not len(seen.table):
        yield (
            "Nothing was found: the movie is empty, or its spots look unlike all that the network was trained on: "
            "look at it with diagnose.py."
        )
        return
    around = crowding(seen.table)
    if around > CROWDING_FACTOR * usual.most_crowded:
        yield (
            f"The density is higher than in the training: around a localization there are {around:.2g} per µm² in its "
            f"frame, and {usual.most_crowded:.2g} where the network's own simulation is densest "
            f"({bundle.simulation.density_per_um2[1]:g} emitters/µm²). Expect missed and merged emitters, or train "
            "with a higher simulation.density_per_um2."
        )


def _overlap(seen: float, bundle: Bundle, usual: Usual) -> Iterator[str]:
    """Of frames in which hardly an emitter can be told from the next."""
    times = seen / usual.most_overlap
    if times > OVERLAP_FACTOR:
        yield (
            f"The density is higher than in the training: spots overlap {times:.2g} times as much as where the "
            f"network's own simulation is densest ({bundle.simulation.density_per_um2[1]:g} emitters/µm²). Image fewer "
            "emitters at a time, train with a higher simulation.density_per_um2, or, if this movie's spots are wider, "
            "with its PSF."
        )


def _maxima(seen: Appearance, usual: Appearance) -> Iterator[str]:
    ratio = seen.maxima_per_px / max(usual.maxima_per_px, 1e-9)
    if len(seen.height_N) >= FEW_SPOTS and ratio > MAXIMA_FACTOR:
        yield (
            f"The frames have {ratio:.3g} times as many bright spots as the network's own simulation of as many "
            "emitters as were found: most of these spots are nothing to the network, check the PSF and the camera "
            "against this movie's."
        )


def _chi2(seen: float, usual: float) -> Iterator[str]:
    least, most = CHI2_RANGE
    if not least * min(usual, 1.0) <= seen <= most * usual:
        yield (
            f"The frames differ from what the table says is in them by a reduced χ² of {seen:.3g}, and those of the "
            f"network's own simulation by {usual:.3g}: check PSF, pixel size, camera and density against this movie's."
        )


def _size(size: PixelSize) -> str:
    return f"{size.x_nm:.4g} × {size.y_nm:.4g} nm"
