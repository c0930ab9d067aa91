"""The report of a localized movie: the image, what was found, and whether the table explains the movie.

The finished table is read back, so that localizing itself holds none of it. Shape suffixes: H rows, W columns.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from emitter.app.report_files import ReportFiles
from emitter.core.table import EmitterTable
from emitter.inference.bundle import Bundle
from emitter.inference.localizer import Localizer
from emitter.inference.movie_fit import Residuals, crowding_per_um2, misfits
from emitter.io.movie import ArrayMovie, Movie
from emitter.io.tables import read_table
from emitter.metrics.residuals import FrameResidual, background_around, frame_residual
from emitter.plots.frames import Reconstructed, plot_chi2_map, plot_reconstructed
from emitter.plots.localizations import plot_columns, plot_counts
from emitter.plots.report import Report, Section
from emitter.plots.superres import SuperResImage
from emitter.simulation.camera import Camera
from emitter.simulation.simulator import Simulator

log = logging.getLogger(__name__)

_SAMPLED_FRAMES = 64
_SAMPLED_PIXELS = 1 << 23  # of all sampled frames together: bounds the time, not the memory
_BACKGROUND_ROWS = 1000  # before and after a frame that tell its background: one frame's are few and noisy
_SIMULATED_FRAMES = 24
_SEED = 0
_SHOWN = 3
_SHOWN_SIDE_PX = 96  # of a frame beside its reconstruction: more cannot be seen
_MAP_SIDE_PX = 256
_IMAGE_SIDE_PX = 1000
_MIN_IMAGE_NM = 5.0
_COLUMNS = (
    ("photons", "photons"),
    ("background", "background (photons per pixel)"),
    ("z_nm", "z (nm)"),
    ("probability", "probability"),
    ("precision_x_nm", "precision in x (nm)"),
    ("precision_y_nm", "precision in y (nm)"),
    ("precision_z_nm", "precision in z (nm)"),
    ("precision_photons", "precision of the photons"),
)


class LocalizeSettings(Protocol):
    """What is asked of localize.py's settings."""

    @property
    def baseline_adu(self) -> float | None: ...
    @property
    def superres_nm(self) -> float | None: ...


@dataclass(frozen=True)
class ResidualCheck:
    """Sampled frames against their reconstruction.

    ``chi2_HW``: mean over the frames of the squared error, block by block of ``block_px`` camera pixels;
    ``chi2`` and ``residuals``: of all pixels but those at the field's edge; ``median_photons``: of the frames' pixels;
    ``shown``: parts of some of them.
    """

    n_frames: int
    chi2: float
    chi2_HW: np.ndarray
    block_px: int
    residuals: Residuals
    median_photons: float
    shown: list[Reconstructed]


def write_localize_report(table_path: Path, movie: Movie, bundle: Bundle, settings: LocalizeSettings) -> Path:
    """``NAME_report.html`` beside the table and its pictures in ``NAME_report/``; what does not fit is logged too.

    Memory: the table's columns (about 0.1 GB for a million rows) and one frame at a time.

    Raises:
        EmitterError: a table or a movie that cannot be read, or files that cannot be written.
    """
    stem = table_path.with_name(f"{table_path.stem}_report")
    files = ReportFiles(stem.with_name(f"{stem.name}.html"), stem)
    table = read_table(table_path, bundle.pixel_size)
    camera = bundle.camera.to("cpu")
    if settings.baseline_adu is not None:
        camera = replace(camera, baseline_adu=torch.tensor(float(settings.baseline_adu)))
    check = check_residuals(table, movie, bundle, camera)
    simulated = simulated_residuals(table, check, bundle, camera)
    movie_um2 = movie.n_frames * movie.height * movie.width * bundle.pixel_size.area_um2
    sentences = misfits(
        table,
        movie_um2,
        check.median_photons,
        bundle.simulation,
        bundle.pixel_size,
        check.residuals,
        simulated,
    )
    for sentence in sentences:
        log.warning(sentence)
    report = Report(
        f"Localizations of {'/'.join(Path(movie.name).parts[-2:])}",
        f"{len(table):,} localizations in {movie.n_frames:,} frames of {movie.height} × {movie.width} px; "
        f"table {table_path.name}",
    )
    _add_fit(report.section("Does the movie fit the network?"), sentences)
    _add_image(report.section("Super-resolved image"), files, table, movie, bundle, settings)
    _add_counts(report.section("Localizations over time"), files, table, movie)
    _add_columns(report.section("What was found"), files, table, bundle.is_3d)
    _add_residuals(report.section("Does the table explain the movie?"), files, check, simulated)
    return files.write(report)


def simulated_residuals(
    table: EmitterTable, check: ResidualCheck, bundle: Bundle, camera: Camera
) -> Residuals:
    """The same of the network on simulated frames as crowded and as bright as the movie, within what it was trained
    for: what it misses there it may miss here."""
    trained = bundle.simulation
    density = crowding_per_um2(table, trained.frame_size_px, bundle.pixel_size) if len(table) else 0.0
    density = float(np.clip(density, *trained.density_per_um2))
    background = float(np.clip(check.median_photons, *trained.background))
    alike = replace(trained, density_per_um2=(density, density), background=(background, background))
    camera = replace(  # as if all of its pixels were its average one
        camera,
        baseline_adu=camera.baseline_adu.mean(),
        e_per_adu=camera.e_per_adu.mean(),
        read_noise_e=(camera.read_noise_e**2).mean().sqrt(),
    )
    simulator = Simulator(alike, bundle.psf.to("cpu"), camera)
    counts = torch.cat([counts for counts, _ in simulator.movie(_SEED, _SIMULATED_FRAMES)])
    movie = ArrayMovie(counts.numpy().astype(np.float32), "simulated frames")
    localizer = Localizer(
        bundle.network.to("cpu"),
        camera,
        bundle.scaling,
        bundle.thresholds,
        bundle.pixel_size,
        alike.background,
    )
    found = EmitterTable.concatenate(table for _, table in localizer.tables(movie))
    return check_residuals(found, movie, bundle, camera).residuals


def check_residuals(table: EmitterTable, movie: Movie, bundle: Bundle, camera: Camera) -> ResidualCheck:
    """Reconstruct frames spread evenly over the movie from their rows, one frame at a time."""
    pixels = movie.height * movie.width
    n = int(np.clip(_SAMPLED_PIXELS // pixels, 4, _SAMPLED_FRAMES))
    places = np.unique(np.linspace(0, movie.n_frames - 1, n).round().astype(int))
    order = np.argsort(table.frame, kind="stable")
    frame_N = table.frame[order]
    psf = bundle.psf.to("cpu")
    known = table.background[np.isfinite(table.background)]
    usual = float(np.median(known)) if len(known) else float(np.mean(bundle.simulation.background))
    sums_HW = np.zeros((movie.height, movie.width))
    # emitters outside the field, which no table can have, light its edge
    edges = [min(psf.radius_px, side // 4) for side in sums_HW.shape]
    inner = tuple(slice(edge, side - edge) for edge, side in zip(edges, sums_HW.shape, strict=True))
    lit = np.zeros(2)  # squared error and pixels near emitters
    medians: list[float] = []
    shown: list[Reconstructed] = []
    for place in places.tolist():
        number = int(movie.frame_numbers[place])
        begin, end = np.searchsorted(frame_N, [number, number + 1]).tolist()
        near = table.select(order[max(0, begin - _BACKGROUND_ROWS) : end + _BACKGROUND_ROWS])
        background_HW = background_around(near, bundle.pixel_size, sums_HW.shape, usual)
        observed = camera.to_photons(torch.from_numpy(movie.read(place, place + 1)[0].astype(np.float32)))
        frame = frame_residual(
            observed.numpy(),
            table.select(order[begin:end]),
            psf,
            camera.noise_variance,
            bundle.pixel_size,
            background_HW,
        )
        square_HW = np.nan_to_num(frame.error_HW) ** 2
        sums_HW += square_HW
        inner_lit_HW = frame.lit_HW[inner]
        lit += (square_HW[inner][inner_lit_HW].sum(), inner_lit_HW.sum())
        medians.append(float(np.median(frame.observed_HW)))
        if len(shown) < _SHOWN and place >= len(shown) * movie.n_frames / _SHOWN:
            shown.append(_part(number, frame))
    total, n_pixels = sums_HW[inner].sum(), len(places) * sums_HW[inner].size
    elsewhere = (total - lit[0]) / max(n_pixels - lit[1], 1)
    block_px = max(1, -(-max(movie.height, movie.width) // _MAP_SIDE_PX))
    return ResidualCheck(
        n_frames=len(places),
        chi2=float(total / n_pixels),
        chi2_HW=_blocks(sums_HW / len(places), block_px),
        block_px=block_px,
        residuals=Residuals(float(lit[0] / lit[1]) if lit[1] else float("nan"), float(elsewhere)),
        median_photons=float(np.median(medians)),
        shown=shown,
    )


def _part(number: int, frame: FrameResidual) -> Reconstructed:
    """The part of a frame where most light was found, small enough to be seen."""
    height, width = (min(side, _SHOWN_SIDE_PX) for side in frame.observed_HW.shape)
    lit = frame.lit_HW.astype(np.float64).cumsum(0).cumsum(1)
    lit = np.pad(lit, ((1, 0), (1, 0)))
    count = lit[height:, width:] - lit[:-height, width:] - lit[height:, :-width] + lit[:-height, :-width]
    top, left = np.unravel_index(int(count.argmax()), count.shape)
    rows, columns = slice(top, top + height), slice(left, left + width)
    images = (frame.observed_HW, frame.expected_HW, frame.error_HW)
    return Reconstructed(number, *(image[rows, columns].copy() for image in images))


def _blocks(image_HW: np.ndarray, side: int) -> np.ndarray:
    """Means of blocks; those at the right and lower edge may be smaller."""
    height, width = image_HW.shape
    rows, columns = np.arange(0, height, side), np.arange(0, width, side)
    totals = np.add.reduceat(np.add.reduceat(image_HW, rows, axis=0), columns, axis=1)
    return totals / np.outer(np.diff(np.append(rows, height)), np.diff(np.append(columns, width)))


def _add_fit(section: Section, sentences: list[str]) -> None:
    for sentence in sentences:
        section.warning(sentence)
    if not sentences:
        section.fine(
            "Background, photons, density and the look of the spots are what the network was trained for."
        )


def _add_image(
    section: Section,
    files: ReportFiles,
    table: EmitterTable,
    movie: Movie,
    bundle: Bundle,
    settings: LocalizeSettings,
) -> None:
    field_nm = bundle.pixel_size.to_nm(float(movie.width), float(movie.height))
    pixel_nm = max(settings.superres_nm or _MIN_IMAGE_NM, max(field_nm) / _IMAGE_SIDE_PX)
    image = SuperResImage(field_nm, pixel_nm, bundle.simulation.z_range_nm if bundle.is_3d else None)
    image.add(table)
    caption = f"Density of the localizations in pixels of {pixel_nm:.3g} nm"
    caption += "; the colour is the mean z in nm." if bundle.is_3d else "."
    files.draw(section, "image", caption, image.save)


def _add_counts(section: Section, files: ReportFiles, table: EmitterTable, movie: Movie) -> None:
    first, last = int(movie.frame_numbers[0]), int(movie.frame_numbers[-1])
    files.draw(
        section,
        "counts",
        "Localizations per frame over the movie. A fall is bleaching; a jump may be a change of the laser or focus.",
        lambda path: plot_counts(table.frame, first, last, path),
    )


def _add_columns(section: Section, files: ReportFiles, table: EmitterTable, is_3d: bool) -> None:
    columns, rows = {}, []
    for name, label in _COLUMNS:
        values = table.columns().get(name)
        if values is None or (name == "z_nm" and not is_3d):
            continue
        known = values[np.isfinite(values)]
        if len(known):
            columns[label] = known
            quantiles = np.quantile(known, (0.05, 0.5, 0.95))
            rows.append(
                (label, *(f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" for value in quantiles))
            )
    if not rows:
        section.text("Nothing was found.")
        return
    section.table(rows, ("", "5 %", "median", "95 %"))
    caption = "Histograms of the localizations' columns (the outermost 0.1 % on either side left out)."
    files.draw(section, "histograms", caption, lambda path: plot_columns(columns, path))


def _add_residuals(section: Section, files: ReportFiles, check: ResidualCheck, simulated: Residuals) -> None:
    section.text(
        f"{check.n_frames} frames spread over the movie were reconstructed from their rows of the table with the "
        "network's PSF, the predicted background and the camera's noise. A reduced χ² of 1 means that the noise is all "
        "that is left."
    )
    here = check.residuals
    section.table(
        [
            ("all pixels", f"{check.chi2:.2f}", ""),
            ("pixels lit by found emitters", f"{here.at_emitters:.2f}", f"{simulated.at_emitters:.2f}"),
            ("all other pixels", f"{here.elsewhere:.2f}", f"{simulated.elsewhere:.2f}"),
        ],
        ("reduced χ²", "this movie", "simulated frames"),
    )
    section.text(
        "Simulated frames: what the same network leaves over on frames of its own simulation with this density and "
        "background. The field's edge is left out: emitters outside the field light it."
    )
    files.draw(
        section,
        "residual_map",
        "Reduced χ² at every place of the field, mean over the frames: orange is more than noise, purple less.",
        lambda path: plot_chi2_map(check.chi2_HW, check.block_px, path),
    )
    files.draw(
        section,
        "residual_frames",
        "Frames, their reconstruction and the difference in standard deviations of the noise (red: light that the "
        "table lacks; blue: light that is not in the movie).",
        lambda path: plot_reconstructed(check.shown, path),
    )
