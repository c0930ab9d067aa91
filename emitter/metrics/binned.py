"""Scores and errors by what an emitter is like: its photons, its depth, how crowded its frame is.

Every function returns a table with one row for each bin, ``low`` and ``high`` its edges and ``n`` what lies in it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from emitter.core.table import EmitterTable
from emitter.metrics.protocol import Counted


def density_per_um2(table: EmitterTable, truth: EmitterTable, area_um2: float) -> np.ndarray:
    """(N,) true emitters per µm² of the frame that each row of ``table`` is in; 0 in frames without any."""
    frames, counts = np.unique(truth.frame, return_counts=True)
    if not len(frames):
        return np.zeros(len(table))
    place = np.searchsorted(frames, table.frame).clip(max=len(frames) - 1)
    return np.where(frames[place] == table.frame, counts[place], 0) / area_um2


def quantile_edges(values: np.ndarray, n_bins: int) -> np.ndarray:
    """Edges (at most n_bins + 1, ascending, the last a little above the largest) of bins that hold equally many of
    the finite values; none without values."""
    known = values[np.isfinite(values)]
    if not len(known):
        return np.empty(0)
    edges = np.unique(np.quantile(known, np.linspace(0, 1, n_bins + 1)))
    last = np.nextafter(edges[-1], np.inf)
    return np.append(edges[:-1], last) if len(edges) > 1 else np.array([edges[0], last])


def binned_scores(
    matched_N: np.ndarray, missed_N: np.ndarray, false_N: np.ndarray, edges: np.ndarray
) -> pd.DataFrame:
    """Jaccard index, precision and recall in bins of a quantity.

    A pair and a missed emitter count where the truth's value lies, a false localization where its own does: summed
    over bins that hold everything, the counts are those of the whole table.

    Args:
        matched_N, missed_N, false_N: the quantity for each true positive, false negative and false positive.
        edges: ascending; a bin holds its lower edge and not its upper one.

    Returns:
        Columns ``low``, ``high``, ``n`` (true emitters), ``matched``, ``missed``, ``false``, ``jaccard``,
        ``precision``, ``recall``; NaN where a score is undefined.
    """
    matched, missed, false = (_count(values, edges) for values in (matched_N, missed_N, false_N))
    return pd.DataFrame(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "n": matched + missed,
            "matched": matched,
            "missed": missed,
            "false": false,
            "jaccard": _ratio(matched, matched + missed + false),
            "precision": _ratio(matched, matched + false),
            "recall": _ratio(matched, matched + missed),
        }
    )


def binned_rms(value_N: np.ndarray, edges: np.ndarray, **columns_N: np.ndarray) -> pd.DataFrame:
    """Root mean square of every column in bins of a value; numbers that are not finite are left out.

    Returns:
        Columns ``low``, ``high``, ``n`` (values in the bin) and those given; NaN in bins without any.
    """
    result = {"low": edges[:-1], "high": edges[1:], "n": _count(value_N, edges)}
    for name, column_N in columns_N.items():
        known = np.isfinite(column_N) & np.isfinite(value_N)
        count = _count(value_N[known], edges)
        total = _count(value_N[known], edges, column_N[known] ** 2)
        result[name] = np.sqrt(_ratio(total, count))
    return pd.DataFrame(result)


def probability_reliability(
    predicted: EmitterTable, counted: Counted, n_bins: int = 10
) -> tuple[pd.DataFrame, float]:
    """How often localizations of a stated probability are right under a protocol, and the expected calibration error.

    Returns:
        Columns ``low``, ``high``, ``n``, ``stated`` (mean probability), ``right`` (share that is matched); and the
        mean over the localizations of |stated − right| of their bin, NaN without any.
    """
    rows = np.concatenate((counted.predicted_rows, counted.false_rows))
    probability = predicted.probability[rows]
    right = np.arange(len(rows)) < len(counted.predicted_rows)
    edges = np.linspace(0, 1, n_bins + 1)
    edges[-1] = np.nextafter(1.0, 2.0)
    n = _count(probability, edges)
    table = pd.DataFrame(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "n": n,
            "stated": _ratio(_count(probability, edges, probability), n),
            "right": _ratio(_count(probability[right], edges), n),
        }
    )
    gap = (table["stated"] - table["right"]).abs().fillna(0.0)
    return table, float((gap * n).sum() / n.sum()) if n.sum() else float("nan")


def _count(values: np.ndarray, edges: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Values (or the sum of their weights) per bin, (len(edges) − 1,); what lies outside or is NaN is left out."""
    n_bins = len(edges) - 1
    place = np.searchsorted(edges, values, side="right") - 1
    inside = (place >= 0) & (place < n_bins) & np.isfinite(values)
    chosen = None if weights is None else weights[inside]
    return np.bincount(place[inside], weights=chosen, minlength=n_bins)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.where(denominator > 0, numerator / np.maximum(denominator, 1e-300), np.nan)
