"""The report of an evaluation: scores, what they depend on, errors against the bound, and frames to look at.

Shape suffixes: N rows, B frames, H rows and W columns of pixels, P pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from emitter.app.held_out import held_out_frames
from emitter.app.report_files import ReportFiles
from emitter.app.scoring import Bound, describe, shown
from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize
from emitter.inference.bundle import Bundle
from emitter.io.movies import open_movie
from emitter.metrics.binned import (
    binned_rms,
    binned_scores,
    density_per_um2,
    probability_reliability,
    quantile_edges,
)
from emitter.metrics.pixel_bias import pixel_bias
from emitter.metrics.protocol import Counted, FieldNm, Protocol, count, photon_threshold
from emitter.plots.data_check import plot_data_check
from emitter.plots.frames import ExampleFrame, plot_examples
from emitter.plots.report import Report, Section
from emitter.plots.scores import (
    plot_binned_scores,
    plot_error_histograms,
    plot_errors_and_bound,
    plot_pixel_bias,
    plot_reliability,
)
from emitter.simulation.simulator import Simulator
from emitter.training.data_check import check_data, compare_with_movie, movie_pixels

_BINS = 8
_EXAMPLES = 3
_EXAMPLE_SIDE_PX = 128  # of a frame shown: more cannot be seen
_MAX_BIAS = 1.63  # of the Kolmogorov-Smirnov statistic times √n: 1 % of uniform samples are beyond
_AXES = ("x", "y", "z")


@dataclass(frozen=True)
class Evaluated:
    """What was scored, and how it came out.

    ``knows_pixels``: whether the pixel size is the camera's and not a guess. ``bundle`` and ``bound``: of the network,
    where one was scored; its frames are then those of ``held_out_frames``.
    """

    metrics: dict[str, Any]
    predicted: EmitterTable
    truth: EmitterTable
    protocol: Protocol
    field_nm: FieldNm | None
    pixel_size: PixelSize
    knows_pixels: bool
    bundle: Bundle | None = None
    bound: Bound | None = None


def write_evaluate_report(evaluated: Evaluated, folder: Path, movie: str | None) -> Path:
    """``report.html`` and its PNGs in a folder.

    Args:
        evaluated: the tables and figures.
        folder: where to.
        movie: of tables: the frames behind them; of a network: what its simulated frames are held against.

    Raises:
        EmitterError: a movie that cannot be read, or files that cannot be written.
    """
    files = ReportFiles(folder / "report.html", folder)
    predicted, truth = evaluated.predicted, evaluated.truth
    threshold = photon_threshold(truth, evaluated.protocol, evaluated.field_nm)
    counted = count(predicted, truth, evaluated.protocol, evaluated.field_nm, threshold)
    what = "a network on held-out simulation" if evaluated.bundle else "a table against its truth"
    report = Report(
        f"Evaluation of {what}",
        f"{len(predicted):,} localizations, {len(truth):,} true emitters; protocol "
        f"{evaluated.protocol.name}: {describe(evaluated.metrics['protocol_settings'])}.",
    )
    _add_metrics(report.section("Scores"), evaluated)
    _add_binned(report.section("Detection: what it depends on"), files, evaluated, counted)
    errors = _errors(predicted, truth, counted)
    _add_errors(report.section("Errors of matched pairs"), files, evaluated, counted, errors)
    _add_reliability(report.section("Can the probability be believed?"), files, predicted, counted)
    if evaluated.knows_pixels:
        _add_pixel_bias(report.section("Pixel bias"), files, predicted, evaluated.pixel_size)
    _add_examples(report.section("Example frames"), files, evaluated, movie)
    if movie is not None and evaluated.bundle is not None:
        _add_movie(report.section("Simulated against real frames"), files, evaluated.bundle, movie)
    return files.write(report)


def _add_metrics(section: Section, evaluated: Evaluated) -> None:
    for note in evaluated.metrics["notes"]:
        section.warning(note)
    rows = shown(evaluated.metrics)
    half = -(-len(rows) // 2)
    section.table(
        [(*left, *right) for left, right in zip_longest(rows[:half], rows[half:], fillvalue=("", ""))]
    )


def _add_binned(section: Section, files: ReportFiles, evaluated: Evaluated, counted: Counted) -> None:
    predicted, truth = evaluated.predicted, evaluated.truth
    values: dict[str, tuple[np.ndarray, np.ndarray]] = {"photons": (truth.photons, predicted.photons)}
    if evaluated.protocol.axial:
        values["z (nm)"] = (truth.z_nm, predicted.z_nm)
    if (area_um2 := _area_um2(evaluated)) > 0:
        values["true emitters per µm² in the frame"] = (
            density_per_um2(truth, truth, area_um2),
            density_per_um2(predicted, truth, area_um2),
        )
    tables = {}
    for label, (true, found) in values.items():
        edges = quantile_edges(np.concatenate((true[counted.truth_rows], true[counted.missed_rows])), _BINS)
        if len(edges):
            # what lies beyond the truth's range counts in the outermost bins
            false = np.clip(found[counted.false_rows], edges[0], np.nextafter(edges[-1], -np.inf))
            tables[label] = binned_scores(true[counted.truth_rows], true[counted.missed_rows], false, edges)
    if not tables:
        section.text("Neither photons nor z of the truth are known.")
        return
    caption = (
        "Jaccard index, precision and recall in bins of about equally many true emitters. Pairs and missed emitters "
        "count at the truth's value, false localizations at their own."
    )
    files.draw(section, "scores", caption, partial(plot_binned_scores, tables))


def _area_um2(evaluated: Evaluated) -> float:
    """Of the field; 0 when it is not known."""
    return 0.0 if evaluated.field_nm is None else evaluated.field_nm[0] * evaluated.field_nm[1] * 1e-6


def _errors(predicted: EmitterTable, truth: EmitterTable, counted: Counted) -> dict[str, np.ndarray]:
    """Predicted − true of the pairs on every axis, nm."""
    return {
        axis: getattr(predicted, f"{axis}_nm")[counted.predicted_rows]
        - getattr(truth, f"{axis}_nm")[counted.truth_rows]
        for axis in _AXES
    }


def _add_errors(
    section: Section,
    files: ReportFiles,
    evaluated: Evaluated,
    counted: Counted,
    errors: dict[str, np.ndarray],
) -> None:
    if not len(counted.truth_rows):
        section.text("Nothing is matched.")
        return
    matched = evaluated.truth.select(counted.truth_rows)
    scored = errors if evaluated.protocol.axial else {axis: errors[axis] for axis in ("x", "y")}
    ratio = evaluated.predicted.photons[counted.predicted_rows] / np.where(
        matched.photons > 0, matched.photons, np.nan
    )
    caption = "Predicted − true of the matched pairs (nm), and their photons over the truth's."
    files.draw(section, "errors", caption, partial(plot_error_histograms, scored, ratio))
    columns = {f"error_{axis}": error for axis, error in scored.items()}
    if evaluated.bound is not None:
        bound = evaluated.bound(matched)
        columns |= {f"bound_{axis}": getattr(bound, f"{axis}_nm").cpu().numpy() for axis in scored}
    edges = quantile_edges(matched.photons, _BINS)
    if not len(edges):
        return
    binned = binned_rms(matched.photons, edges, **columns)
    caption = "RMSE of the matched pairs against the true photons, in bins of equally many."
    if evaluated.bound is not None:
        caption += (
            " CRLB: the Cramér-Rao bound of one isolated emitter in one frame (root mean square); crowding lifts the "
            "error above it, neighbouring frames lower it, and the matching radius cuts the error of the dimmest off."
        )
    files.draw(section, "errors_bound", caption, partial(plot_errors_and_bound, binned, "photons"))
    section.table(*_error_rows(binned))


def _error_rows(binned: pd.DataFrame) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """A row for every bin of photons, and the header."""
    names = [name for name in binned.columns if name not in ("low", "high", "n")]
    header = [name.replace("error_", "RMSE ").replace("bound_", "CRLB ") + " (nm)" for name in names]
    rows = [
        (f"{row['low']:.0f} to {row['high']:.0f}", f"{row['n']:.0f}", *(f"{row[name]:.1f}" for name in names))
        for _, row in binned.iterrows()
    ]
    return rows, ("photons", "pairs", *header)


def _add_reliability(section: Section, files: ReportFiles, predicted: EmitterTable, counted: Counted) -> None:
    table, error = probability_reliability(predicted, counted)
    if table["n"].sum() == 0 or (
        table["n"].iloc[-1] == table["n"].sum() and bool((predicted.probability == 1).all())
    ):
        section.text("The table states no probabilities.")
        return
    caption = (
        "Share of the localizations that are matched with a true emitter, against the probability that the table "
        f"states (bars: one standard deviation). Expected calibration error {error:.3f}. A network's probability is "
        "that of an emitter near by, to about 40 nm laterally and 80 nm in z, while the protocol's radius is wider: "
        "points above the diagonal are to be expected then."
    )
    files.draw(section, "reliability", caption, partial(plot_reliability, table))


def _add_pixel_bias(
    section: Section, files: ReportFiles, predicted: EmitterTable, pixel_size: PixelSize
) -> None:
    if not len(predicted):
        section.text("Nothing was found.")
        return
    bias = pixel_bias(predicted, pixel_size)
    limit = _MAX_BIAS / len(predicted) ** 0.5
    worst = max(bias.values())
    verdict = (
        "as chance alone makes it"
        if worst <= limit
        else "more than chance alone makes it in 99 of 100 tables"
    )
    x_px, y_px = pixel_size.to_px(predicted.x_nm, predicted.y_nm)
    caption = (
        "Where localizations lie within their pixel: flat for emitters that are placed at random. Largest difference "
        f"from uniform (Kolmogorov-Smirnov) {bias['pixel_bias_x']:.3f} in x and {bias['pixel_bias_y']:.3f} in y, "
        f"{verdict} ({limit:.3f})."
    )
    files.draw(section, "pixel_bias", caption, partial(plot_pixel_bias, x_px % 1, y_px % 1))


def _add_examples(section: Section, files: ReportFiles, evaluated: Evaluated, movie: str | None) -> None:
    if not len(evaluated.truth):
        return
    examples, unit = _examples(evaluated, movie)
    if not examples:
        section.text("The movie holds none of the tables' frames.")
        return
    caption = f"True emitters (circles) and localizations (crosses){unit}; frames count from 0."
    files.draw(section, "examples", caption, partial(plot_examples, examples))


def _examples(evaluated: Evaluated, movie: str | None) -> tuple[list[ExampleFrame], str]:
    """Frames spread over the truth's, and what they are of."""
    numbers = np.unique(evaluated.truth.frame)
    if evaluated.bundle is not None:
        chosen = _spread(numbers).tolist()
        held_out = held_out_frames(evaluated.bundle, chosen).numpy()
        pairs = zip(chosen, held_out, strict=True)
        return [_example(evaluated, number, frame) for number, frame in pairs], " in simulated frames"
    if movie is None:
        return [_example(evaluated, number, None) for number in _spread(numbers).tolist()], ""
    with open_movie(movie) as opened:
        there = _spread(numbers[np.isin(numbers, opened.frame_numbers)]).tolist()
        places = np.searchsorted(opened.frame_numbers, there).tolist()
        frames = [opened.read(place, place + 1)[0].astype(np.float64) for place in places]
    return [_example(evaluated, *pair) for pair in zip(there, frames, strict=True)], " in the movie's frames"


def _spread(numbers: np.ndarray) -> np.ndarray:
    """A few of them, evenly."""
    if not len(numbers):
        return numbers
    return numbers[np.unique(np.linspace(0, len(numbers) - 1, _EXAMPLES).round().astype(int))]


def _example(evaluated: Evaluated, number: int, frame_HW: np.ndarray | None) -> ExampleFrame:
    """One frame, or its upper left part where it is large."""
    if frame_HW is not None:
        frame_HW = frame_HW[:_EXAMPLE_SIDE_PX, :_EXAMPLE_SIDE_PX]
        size = frame_HW.shape
    else:
        width_nm, height_nm = evaluated.field_nm or (
            float(evaluated.truth.x_nm.max()),
            float(evaluated.truth.y_nm.max()),
        )
        width, height = evaluated.pixel_size.to_px(width_nm, height_nm)
        size = (min(_EXAMPLE_SIDE_PX, round(height) + 1), min(_EXAMPLE_SIDE_PX, round(width) + 1))
    positions = [
        _positions(table, number, evaluated.pixel_size, size)
        for table in (evaluated.truth, evaluated.predicted)
    ]
    return ExampleFrame(number, frame_HW, (size[0], size[1]), positions[0], positions[1])


def _positions(
    table: EmitterTable, number: int, pixel_size: PixelSize, size_px: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    here = table.frame == number
    x_px, y_px = pixel_size.to_px(table.x_nm[here], table.y_nm[here])
    inside = (x_px <= size_px[1]) & (y_px <= size_px[0])
    return x_px[inside], y_px[inside]


def _add_movie(section: Section, files: ReportFiles, bundle: Bundle, movie: str) -> None:
    """The training's simulated frames against a movie, as train.py compares them."""
    simulator = Simulator(bundle.simulation, bundle.psf, bundle.camera).to("cpu")
    with torch.inference_mode():
        simulated = check_data(simulator, seed=0, foreground_weight=None, cell_px=bundle.network.cells_px[-1])
    pixels_P = movie_pixels(movie, bundle.camera)
    comparison = compare_with_movie(simulated, pixels_P)
    for advice in comparison.warnings:
        section.warning(advice.sentence)
    if not comparison.warnings:
        section.fine("Background and brightness of the movie lie within what is simulated.")
    section.listing("\n".join(comparison.summary_lines()))
    caption = (
        "Simulated frames, and the photons in their pixels beside the movie's, by the checkpoint's camera."
    )
    files.draw(
        section, "data_check", caption, partial(plot_data_check, simulated.data, movie_pixels_P=pixels_P)
    )
