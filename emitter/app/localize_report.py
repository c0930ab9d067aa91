"""The report of localize.py: what was found, and whether the movie looks like what the network was trained for."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np

from emitter.app.report_files import write_page
from emitter.core.table import EmitterTable
from emitter.inference.appearance import appearance, sampled_photons
from emitter.inference.bundle import Bundle
from emitter.inference.localizer import Region
from emitter.inference.mismatches import Seen, mismatches, trained_photons
from emitter.inference.residuals import Residuals, residuals
from emitter.inference.usual import Usual, usual
from emitter.io.movie import Movie
from emitter.io.tables import read_table
from emitter.plots.localizations import plot_counts, plot_histograms, plot_residuals
from emitter.plots.report import Picture, Section

log = logging.getLogger(__name__)

_RESIDUAL_FRAMES = 12  # spread over the movie
_RESIDUAL_PIXELS = 1 << 22  # at most, of all of them


def report_of(
    table_path: Path,
    image: Path | None,
    movie: Movie,
    places: range,
    bundle: Bundle,
    title: str,
    roi: Region | None = None,
) -> Path:
    """Write ``<table>_report.html``, and its pictures into ``<table>_report/``, and say on the log what does not fit.

    Args:
        table_path: the finished table.
        image: the super-resolved image, where there is one.
        movie: the movie, and the places in it that were localized.
        bundle: of the network, with the camera and the thresholds that were used.
        title: of the page.
        roi: the part of the frame that was localized; None: all of it.
    """
    table = read_table(table_path)
    compared, number = _compared(table, movie, places, bundle, roi)
    height, width = (movie.height, movie.width) if roi is None else roi.size
    field_um2 = math.prod(bundle.pixel_size.to_nm(float(width), float(height))) * 1e-6
    inside = None if roi is None else (slice(roi.y0, roi.y1), slice(roi.x0, roi.x1))
    looks = appearance(sampled_photons(movie, places, bundle.camera, inside), bundle.camera)
    known = usual(bundle, len(table) / len(places) / field_um2, float(np.median(looks.floor_F)))
    warnings = mismatches(Seen(table, looks, compared.chi2, movie.pixel_size), bundle, known)
    for warning in warnings:
        log.warning(warning)
    sections = [
        Section("Result", rows=_facts(table, movie, places, compared, known), warnings=tuple(warnings)),
        *_image_section(image),
        Section("Over the movie", pictures=(_counts(table, movie, places),)),
        Section("What the emitters are like", pictures=(_histograms(table, bundle),)),
        _residual_section(compared, number),
    ]
    return write_page(table_path.with_name(f"{table_path.stem}_report.html"), title, sections)


def _compared(
    table: EmitterTable, movie: Movie, places: range, bundle: Bundle, roi: Region | None
) -> tuple[Residuals, int]:
    """The residuals of frames spread over the movie, and the number of the first of them in the middle."""
    most = max(1, min(_RESIDUAL_FRAMES, _RESIDUAL_PIXELS // (movie.height * movie.width)))
    chosen = np.unique(np.linspace(places.start, places.stop - 1, most).round().astype(int))
    counts_FHW = np.concatenate([movie.read(place, place + 1) for place in chosen.tolist()])
    numbers_F = movie.frame_numbers[chosen]
    near = table.select(np.isin(table.frame, numbers_F))
    return residuals(near, counts_FHW, numbers_F, bundle, roi), int(numbers_F[0]) + 1


def _facts(
    table: EmitterTable, movie: Movie, places: range, compared: Residuals, known: Usual
) -> tuple[tuple[str, str], ...]:
    facts = [
        ("movie", movie.name),
        ("frames", f"{len(places)} of {movie.height} × {movie.width} px"),
        ("emitters", f"{len(table)} ({len(table) / len(places):.3g} per frame)"),
        ("reduced χ² of sampled frames", f"{compared.chi2:.2f}"),
        ("the same of the network's own simulation", f"{known.chi2:.2f}"),
    ]
    medians = (
        ("photons", "photons", "{:.0f}"),
        ("background (photons per pixel)", "background", "{:.1f}"),
        ("precision in x (nm)", "precision_x_nm", "{:.1f}"),
        ("precision in y (nm)", "precision_y_nm", "{:.1f}"),
        ("precision in z (nm)", "precision_z_nm", "{:.1f}"),
    )
    columns = table.columns()
    for label, name, form in medians:
        if name in columns and np.isfinite(columns[name]).any():
            facts.append((f"{label}, median", form.format(np.nanmedian(columns[name]))))
    return tuple(facts)


def _image_section(image: Path | None) -> list[Section]:
    if image is None:
        return []
    return [
        Section(
            "Super-resolved image",
            pictures=(Picture(image.read_bytes(), "Brightness: localizations. Colour, in 3D: z."),),
        )
    ]


def _counts(table: EmitterTable, movie: Movie, places: range) -> Picture:
    first, last = (int(movie.frame_numbers[place]) for place in (places.start, places.stop - 1))
    return Picture.of(
        plot_counts(table.frame + 1, first + 1, last + 1), "Emitters found in a frame, on average.", "counts"
    )


def _histograms(table: EmitterTable, bundle: Bundle) -> Picture:
    columns = table.columns()
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
    return Picture.of(
        plot_histograms(values, trained), "In grey: what the network was trained on.", "emitters"
    )


def _residual_section(compared: Residuals, number: int) -> Section:
    figure = plot_residuals(compared.frames_FHW[0], compared.expected_FHW[0], compared.chi2_HW, number)
    n = len(compared.frames_FHW)
    return Section(
        "Does the table explain the frames?",
        text="The table's emitters are drawn with the network's PSF, camera and background and held against the "
        "movie. χ² is 1 where only the noise differs, and more where emitters were missed or lie close together: the "
        "network's own simulation at this density tells what to expect.",
        pictures=(
            Picture.of(figure, f"The first of {n} sampled frames; χ² is the mean over all {n}.", "residuals"),
        ),
    )
