"""The report of evaluate.py: the score, and what it is over photons, depth and crowding."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from emitter.app.scoring import Bound, describe, shown_metrics
from emitter.core.table import EmitterTable
from emitter.io.files import replacing
from emitter.metrics.binned import AROUND_NM, binned, density_around
from emitter.metrics.matching import Matches, match
from emitter.metrics.protocol import Protocol
from emitter.metrics.uncertainty import reliability, z_scores
from emitter.plots.report import Picture, Section, page
from emitter.plots.scores import Curves, plot_binned, plot_errors, plot_reliability

REPORT = "report.html"
_N_BINS = 12


def report_of(
    predicted: EmitterTable,
    truth: EmitterTable,
    protocol: Protocol,
    metrics: Mapping[str, Any],
    output: Path,
    bound: Bound | None = None,
) -> Path:
    """Write ``report.html`` into a folder.

    The figures count all rows, whatever the protocol leaves out at borders or for their photons; the table of metrics
    is the protocol's.

    Args:
        predicted, truth: the tables that were scored.
        protocol: its radii and axes pair them here too.
        metrics: what ``metrics.json`` holds.
        bound: the Cramér-Rao bound of true emitters, where the simulation is known.
    """
    if not protocol.axial:
        predicted = predicted.with_columns(z_nm=np.full(len(predicted), np.nan))
    pairs = match(predicted, truth, "optimal", protocol.radius_lateral_nm, protocol.radius_axial_nm)
    sections = [
        Section(
            "Score",
            text=f"Protocol {metrics['protocol']}: {describe(metrics['protocol_settings'])}.",
            rows=tuple(shown_metrics(metrics)),
            warnings=tuple(metrics["notes"]),
        ),
        Section(
            "What is found, and how well",
            text="All emitters count here, at borders and dim ones too.",
            pictures=_binned(predicted, truth, pairs),
        ),
        Section("Errors", pictures=_errors(predicted, truth, pairs, bound)),
        *_sureness(predicted, truth, pairs),
    ]
    path = output / REPORT
    title = f"Evaluation of {len(predicted)} localizations against {len(truth)} emitters"
    with replacing(path) as temporary:
        temporary.write_text(page(title, sections), encoding="utf-8")
    return path


def _binned(predicted: EmitterTable, truth: EmitterTable, pairs: Matches) -> tuple[Picture, ...]:
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
            by[label] = Curves(bins.middle, bins.n_truth, *shares, bins.rmse_lateral_nm, bins.rmse_axial_nm)
    if not by:
        return ()
    return (Picture.of(plot_binned(by), "Bins with fewer than five true emitters are left out."),)


def _errors(
    predicted: EmitterTable, truth: EmitterTable, pairs: Matches, bound: Bound | None
) -> tuple[Picture, ...]:
    if not len(pairs):
        return ()
    found, true = (
        table.select(rows).columns() for table, rows in ((predicted, pairs.predicted), (truth, pairs.truth))
    )
    errors = {axis: found[f"{axis}_nm"] - true[f"{axis}_nm"] for axis in ("x", "y", "z")}
    bounds = {}
    caption = "Errors of matched emitters."
    if bound is not None:
        of_pairs = bound(truth.select(pairs.truth))
        bounds = {axis: getattr(of_pairs, f"{axis}_nm").numpy() for axis in ("x", "y", "z")}
        caption += " The line: the errors of a perfect estimator that sees one frame, with no neighbour."
    return (Picture.of(plot_errors(errors, bounds), caption),)


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
    picture = Picture.of(plot_reliability(known.n, known.probability, known.true_share, scores), caption)
    return [Section("Does the table know how sure it is?", pictures=(picture,))]
