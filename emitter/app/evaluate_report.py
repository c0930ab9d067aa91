"""The report of evaluate.py: the score, and what it is over photons, depth and crowding."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np

from emitter.app.examples import ShownFrames, example_frames
from emitter.app.real_frames import real_frames_section
from emitter.app.report_files import write_page
from emitter.app.scoring import Scored, conditions, shown_metrics
from emitter.core.table import EmitterTable
from emitter.io.movie import Movie
from emitter.metrics.binned import AROUND_NM, binned, density_around, root_mean
from emitter.metrics.crlb import CRLB
from emitter.metrics.matching import Matches, match
from emitter.metrics.pixel_bias import pixel_bias
from emitter.metrics.protocol import Protocol
from emitter.metrics.uncertainty import reliability, z_scores
from emitter.metrics.within_radius import axial_mean_square, lateral_mean_square
from emitter.plots.frames import plot_examples
from emitter.plots.report import Picture, Section
from emitter.plots.scores import Curves, plot_binned, plot_errors, plot_pixel_bias, plot_reliability

log = logging.getLogger(__name__)

REPORT = "report.html"
_N_BINS = 12
_BIAS_AT_1_PERCENT = 1.63  # of the Kolmogorov-Smirnov statistic, times √n


def report_of(
    scored: Scored, output: Path, frames: ShownFrames | None = None, movie: Movie | None = None
) -> Path:
    """Write ``report.html`` into a folder, and its pictures into ``report/``.

    The figures count all rows, whatever the protocol leaves out at borders or for their photons; the table of metrics
    is the protocol's.

    Args:
        scored: the tables and metrics; the protocol's radii and axes pair the tables here too.
        output: the folder.
        frames: those that the tables are of, where there are some.
        movie: of a network: a real movie to hold its simulation against.
    """
    predicted, truth, protocol, metrics = scored.predicted, scored.truth, scored.protocol, scored.metrics
    if not protocol.axial:
        predicted = predicted.with_columns(z_nm=np.full(len(predicted), np.nan))
    pairs = match(predicted, truth, "optimal", protocol.radius_lateral_nm, protocol.radius_axial_nm)
    bound = None if scored.bound is None else scored.bound(truth.select(pairs.truth))
    sections = [
        Section(
            "Score",
            text=" ".join(conditions(metrics)),
            rows=tuple(shown_metrics(metrics)),
            warnings=tuple(metrics["notes"]),
        ),
        Section(
            "What is found, and how well",
            text="All emitters count here, at borders and dim ones too.",
            pictures=_binned(predicted, truth, pairs, bound, protocol),
        ),
        *_examples(predicted, truth, pairs, frames),
        *_errors(predicted, truth, pairs, bound),
        *_sureness(predicted, truth, pairs),
        *_pixel_bias(predicted, scored, frames),
    ]
    if scored.bundle is not None and movie is not None:
        section = real_frames_section(scored.bundle, movie)
        for sentence in section.warnings:
            log.warning(sentence)
        sections.append(section)
    title = f"Evaluation of {len(predicted)} localizations against {len(truth)} emitters"
    return write_page(output / REPORT, title, sections)


def _examples(
    predicted: EmitterTable, truth: EmitterTable, pairs: Matches, frames: ShownFrames | None
) -> list[Section]:
    if frames is None:
        return []
    examples = example_frames(predicted, truth, pairs, frames)
    if not examples:
        return [Section("Examples", warnings=("The movie holds none of the tables' frames.",))]
    caption = "Frames count from 0. Of frames over 64 px the part around the errors is shown."
    return [
        Section("Examples", pictures=(Picture.of(plot_examples(examples, frames.unit), caption, "examples"),))
    ]


def _pixel_bias(predicted: EmitterTable, scored: Scored, frames: ShownFrames | None) -> list[Section]:
    """Nothing where the pixels are not known."""
    if frames is None or not len(predicted):
        return []
    bias = pixel_bias(predicted, frames.pixel_size)
    by_chance = _BIAS_AT_1_PERCENT / math.sqrt(len(predicted))
    caption = (
        "Where localizations lie within their pixel: flat of emitters that lie anywhere. The largest difference of the "
        f"cumulative distributions (Kolmogorov-Smirnov) is {bias['pixel_bias_x']:.3f} in x and "
        f"{bias['pixel_bias_y']:.3f} in y, "
        + ("as chance makes it" if max(bias.values()) <= by_chance else "more than chance makes it")
        + f" (up to {by_chance:.3f} in 99 of 100 tables). In grey: two standard deviations."
    )
    x_px, y_px = frames.pixel_size.to_px(predicted.x_nm, predicted.y_nm)
    return [Section("Pixel bias", pictures=(Picture.of(plot_pixel_bias(x_px, y_px), caption, "pixel_bias"),))]


def _binned(
    predicted: EmitterTable, truth: EmitterTable, pairs: Matches, bound: CRLB | None, protocol: Protocol
) -> tuple[Picture, ...]:
    values = {
        "photons": (predicted.photons, truth.photons),
        "z (nm)": (predicted.z_nm, truth.z_nm),
        f"emitters per µm² within {AROUND_NM / 1000:g} µm": (
            density_around(predicted),
            density_around(truth),
        ),
    }
    by = {}
    for label, (of_found, of_true) in values.items():
        known = of_true[np.isfinite(of_true)]
        if len(known) and known.min() < known.max():
            low, high = np.percentile(known, (0.5, 99.5)).tolist()
            edges = np.linspace(low, high, _N_BINS + 1)
            bins = binned(predicted, truth, pairs, of_found, of_true, edges)
            shares = (bins.jaccard, bins.precision, bins.recall)
            rmse = (bins.rmse_lateral_nm, bins.rmse_axial_nm)
            least = () if bound is None else _least(bound, protocol, of_true[pairs.truth], edges)
            by[label] = Curves(bins.middle, bins.n_truth, *shares, *rmse, *least)
    if not by:
        return ()
    caption = "Bins with fewer than five true emitters are left out."
    if bound is not None:
        caption += (
            " Dashed: the errors at the Cramér-Rao bound of the matched emitters, each alone in one frame, as far as "
            "they would lie within the matching radius: neighbours lift the error above it, the frames before and "
            "after lower it."
        )
    return (Picture.of(plot_binned(by), caption, "scores"),)


def _least(
    bound: CRLB, protocol: Protocol, value_M: np.ndarray, edges: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The lateral and the axial RMSE in bins of errors that are at the bound."""
    x_M, y_M, z_M = (one.cpu().double().numpy() for one in (bound.x_nm, bound.y_nm, bound.z_nm))
    lateral_M = lateral_mean_square(np.sqrt((x_M**2 + y_M**2) / 2), protocol.radius_lateral_nm)
    axial_M = axial_mean_square(z_M, protocol.radius_axial_nm)
    return root_mean(lateral_M, value_M, edges), root_mean(axial_M, value_M, edges)


def _errors(
    predicted: EmitterTable, truth: EmitterTable, pairs: Matches, bound: CRLB | None
) -> list[Section]:
    """Nothing where nothing is matched."""
    if not len(pairs):
        return []
    found, true = (
        table.select(rows).columns() for table, rows in ((predicted, pairs.predicted), (truth, pairs.truth))
    )
    errors = {axis: found[f"{axis}_nm"] - true[f"{axis}_nm"] for axis in ("x", "y", "z")}
    bounds = {}
    caption = "Errors of matched emitters."
    if bound is not None:
        bounds = {axis: getattr(bound, f"{axis}_nm").cpu().numpy() for axis in ("x", "y", "z")}
        caption += " The line: the errors of a perfect estimator that sees one frame, with no neighbour."
    lit = np.where(true["photons"] > 0, true["photons"], np.nan)
    picture = Picture.of(plot_errors(errors, bounds, found["photons"] / lit), caption, "errors")
    return [Section("Errors", pictures=(picture,))]


def _sureness(predicted: EmitterTable, truth: EmitterTable, pairs: Matches) -> list[Section]:
    """Nothing where the table holds neither precision nor probability."""
    scores = z_scores(predicted, truth, pairs)
    scores = {axis: z_M for axis, z_M in scores.items() if np.isfinite(z_M).any()}
    if not scores and (predicted.probability == 1).all():
        return []
    true_N = np.isin(np.arange(len(predicted)), pairs.predicted)
    known = reliability(predicted.probability, true_N)
    error = "–" if math.isnan(known.error) else f"{known.error:.3f}"
    caption = (
        "Left: a table that knows its chances lies on the line; larger circles are more rows (calibration error "
        f"{error}). Right: where the precision is the error's standard deviation, the curves have one of 1."
    )
    picture = Picture.of(
        plot_reliability(known.n, known.probability, known.true_share, scores), caption, "sureness"
    )
    return [Section("Does the table know how sure it is?", pictures=(picture,))]
