"""The report of localize.py: what was found, and whether the movie looks like what the network was trained for."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emitter.app.report_files import write_page
from emitter.core.table import EmitterTable
from emitter.inference.appearance import appearance, sampled_photons
from emitter.inference.bundle import Bundle
from emitter.inference.digest import Digest, digest
from emitter.inference.localizer import Region
from emitter.inference.mismatches import Seen, mismatches, trained_photons
from emitter.inference.residuals import Residuals, residuals
from emitter.inference.usual import Usual, usual
from emitter.io.movie import Movie
from emitter.plots.localizations import plot_counts, plot_histograms, plot_residuals, time_edges
from emitter.plots.report import Picture, Section

log = logging.getLogger(__name__)

_FITS = (
    "The movie looks like what the network was trained for, as far as pixel size, width of the spots, background, "
    "photons, density and what the table leaves unexplained tell."
)
_RESIDUAL_FRAMES = 12  # spread over the movie
_RESIDUAL_PIXELS = 1 << 22  # at most, of all of them


@dataclass(frozen=True)
class Checked:
    """What was found, sampled frames against it, what is usual of the network, and in what the movie does not fit."""

    found: Digest
    compared: Residuals
    usual: Usual
    warnings: list[str]


def report_of(
    path: Path,
    parts: Iterable[EmitterTable],
    image: Path | None,
    movie: Movie,
    places: range,
    bundle: Bundle,
    title: str,
    roi: Region | None = None,
) -> Path:
    """Write a page, and its pictures into a folder of its name, and say on the log what does not fit.

    Args:
        path: of the page.
        parts: the finished table; what is kept of it does not grow with its length.
        image: the super-resolved image, where there is one.
        movie: the movie, and the places in it that were localized.
        bundle: of the network, with the camera and the thresholds that were used.
        title: of the page.
        roi: the part of the frame that was localized; None: all of it.
    """
    edges = time_edges(*(int(movie.frame_numbers[place]) for place in (places.start, places.stop - 1)))
    checked = check_movie(parts, movie, places, bundle, roi, edges)
    warnings = tuple(checked.warnings)
    for warning in warnings:
        log.warning(warning)
    facts = _facts(checked, movie, places, roi)
    sections = [
        Section("Result", text="" if warnings else _FITS, rows=facts, warnings=warnings),
        *_image_section(image, bundle.is_3d),
        Section("Over the movie", pictures=(_counts(checked.found, edges),)),
        _histogram_section(checked.found, bundle),
        _residual_section(checked.compared, int(movie.frame_numbers[places.start]) + 1),
    ]
    return write_page(path, title, sections)


def check_movie(
    parts: Iterable[EmitterTable],
    movie: Movie,
    places: range,
    bundle: Bundle,
    roi: Region | None,
    edges: np.ndarray,
) -> Checked:
    """Whether a movie fits the network that localized it; the emitters are counted between ``edges`` (K + 1,), frame
    numbers, and the rest is as in ``report_of``."""
    chosen = _chosen_places(movie, places)
    found = digest(parts, edges, movie.frame_numbers[chosen])
    compared = _compared(found.chosen, movie, chosen, bundle, roi)
    height, width = (movie.height, movie.width) if roi is None else roi.size
    field_um2 = math.prod(bundle.pixel_size.to_nm(float(width), float(height))) * 1e-6
    inside = None if roi is None else roi.inside
    looks = appearance(sampled_photons(movie, places, bundle.camera, inside), bundle.camera)
    known = usual(bundle, found.n_rows / len(places) / field_um2, looks)
    seen = Seen(found.sample, looks, compared.chi2, movie.pixel_size)
    return Checked(found, compared, known, mismatches(seen, bundle, known))


def _chosen_places(movie: Movie, places: range) -> np.ndarray:
    """Of frames spread over the movie."""
    most = max(1, min(_RESIDUAL_FRAMES, _RESIDUAL_PIXELS // (movie.height * movie.width)))
    return np.unique(np.linspace(places.start, places.stop - 1, most).round().astype(int))


def _compared(
    found: EmitterTable, movie: Movie, chosen: np.ndarray, bundle: Bundle, roi: Region | None
) -> Residuals:
    """The residuals of the frames at the chosen places, of which ``found`` holds all rows."""
    counts_FHW = np.concatenate([movie.read(place, place + 1) for place in chosen.tolist()])
    return residuals(found, counts_FHW, movie.frame_numbers[chosen], bundle, roi)


def _facts(checked: Checked, movie: Movie, places: range, roi: Region | None) -> tuple[tuple[str, str], ...]:
    found = checked.found
    height, width = (movie.height, movie.width) if roi is None else roi.size
    of = "" if roi is None else f", a region of the {movie.height} × {movie.width} px"
    facts = [
        ("movie", movie.name),
        ("frames", f"{len(places)} of {height} × {width} px{of}"),
        ("emitters", f"{found.n_rows} ({found.n_rows / len(places):.3g} per frame)"),
        ("reduced χ² of sampled frames", f"{checked.compared.chi2:.2f}"),
        ("the same of the network's own simulation", f"{checked.usual.chi2:.2f}"),
    ]
    medians = (
        ("photons", "photons", "{:.0f}"),
        ("background (photons per pixel)", "background", "{:.1f}"),
        ("precision in x (nm)", "precision_x_nm", "{:.1f}"),
        ("precision in y (nm)", "precision_y_nm", "{:.1f}"),
        ("precision in z (nm)", "precision_z_nm", "{:.1f}"),
    )
    columns = found.sample.columns()
    for label, name, form in medians:
        if name in columns and np.isfinite(columns[name]).any():
            facts.append((f"{label}, median", form.format(np.nanmedian(columns[name]))))
    return tuple(facts)


def _image_section(image: Path | None, is_3d: bool) -> list[Section]:
    if image is None:
        return []
    return [
        Section(
            "Super-resolved image",
            pictures=(Picture(image.read_bytes(), f"Brightness: localizations.{' Colour: z.' * is_3d}"),),
        )
    ]


def _counts(found: Digest, edges: np.ndarray) -> Picture:
    return Picture.of(plot_counts(found.n_K, edges + 1), "Emitters found in a frame, on average.", "counts")


def _histogram_section(found: Digest, bundle: Bundle) -> Section:
    columns = found.sample.columns()
    labels = {
        "photons": "photons",
        "background": "background (photons per pixel)",
        "z_nm": "z (nm)",
        "precision_x_nm": "precision in x (nm)",
        "precision_z_nm": "precision in z (nm)",
        "probability": "probability",
    }
    values = {label: columns[name] for name, label in labels.items() if name in columns}
    trained = {
        labels["photons"]: trained_photons(bundle),
        labels["background"]: bundle.simulation.background,
        labels["z_nm"]: bundle.simulation.z_range_nm,
    }
    caption = (
        "In grey: what the network was trained on, of photons those of a whole frame; an emitter that shines for a "
        "part of a frame has fewer."
    )
    if len(found.sample) < found.n_rows:
        caption += f" Of {len(found.sample)} rows, which are all of frames drawn at random, as are the medians above."
    return Section(
        "What the emitters are like",
        pictures=(Picture.of(plot_histograms(values, trained), caption, "emitters"),),
    )


def _residual_section(compared: Residuals, number: int) -> Section:
    figure = plot_residuals(compared.frames_FHW[0], compared.expected_FHW[0], compared.chi2_HW, number)
    n = len(compared.frames_FHW)
    return Section(
        "Does the table explain the frames?",
        text="The table's emitters are drawn with the network's PSF, camera and background and held against the "
        "movie. χ² is 1 where only the noise differs, and more where emitters were missed or lie close together: the "
        "network's own simulation at this density tells what to expect. The edge, which emitters outside light, does "
        "not count in the number above.",
        pictures=(
            Picture.of(figure, f"The first of {n} sampled frames; χ² is the mean over all {n}.", "residuals"),
        ),
    )
