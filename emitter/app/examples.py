"""Frames to look at: what is typical of a score, and what is worst.

Shape suffixes: F frames, H rows, W columns, N emitters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize
from emitter.metrics.matching import Matches
from emitter.plots.frames import ExampleFrame

_OF_EACH = 2
FrameReader = Callable[[Sequence[int]], np.ndarray]  # numbers of frames → (F, H, W)


@dataclass(frozen=True)
class ShownFrames:
    """Where the frames behind two tables come from.

    ``numbers``: of those there are; ``read``: gets some of them; ``unit``: of their pixels; ``pixel_size``: of their
    pixels, which tells where a position lies.
    """

    numbers: np.ndarray
    read: FrameReader
    unit: str
    pixel_size: PixelSize


def chosen_frames(
    predicted: EmitterTable, truth: EmitterTable, pairs: Matches, there: np.ndarray
) -> list[tuple[int, str]]:
    """Frame numbers, and why each is shown: two of about the median Jaccard index and number of emitters, and the two
    of the lowest index (of equal ones those with more errors).

    Args:
        predicted, truth, pairs: the tables and their matched rows.
        there: numbers of the frames that can be shown.
    """
    numbers = np.intersect1d(np.union1d(truth.frame, predicted.frame), there)
    if not len(numbers):
        return []
    n_true, n_found = (_per_frame(table.frame, numbers) for table in (truth, predicted))
    n_matched = _per_frame(truth.frame[pairs.truth], numbers)
    n_errors = n_true + n_found - 2 * n_matched
    jaccard = n_matched / (n_matched + n_errors)
    unlike = np.abs(n_true - np.median(n_true)) / max(np.median(n_true), 1)
    typical = np.lexsort((unlike, np.abs(jaccard - np.median(jaccard))))[:_OF_EACH]
    order = np.lexsort((-n_errors, jaccard))
    worst = order[~np.isin(order, typical)][:_OF_EACH]
    return [
        (int(numbers[k]), f"{kind}: frame {numbers[k]}, Jaccard index {jaccard[k]:.2f}")
        for kind, places in (("typical", typical), ("among the worst", worst))
        for k in places.tolist()
    ]


def _per_frame(frame_N: np.ndarray, numbers_F: np.ndarray) -> np.ndarray:
    """(F,) rows of every frame."""
    frame_N = np.sort(frame_N)
    n_F: np.ndarray = np.searchsorted(frame_N, numbers_F, "right") - np.searchsorted(frame_N, numbers_F)
    return n_F


def example_frames(
    predicted: EmitterTable, truth: EmitterTable, pairs: Matches, shown: ShownFrames
) -> list[ExampleFrame]:
    """The chosen frames with what is in them."""
    chosen = chosen_frames(predicted, truth, pairs, shown.numbers)
    if not chosen:
        return []
    missed = np.setdiff1d(np.arange(len(truth)), pairs.truth)
    false = np.setdiff1d(np.arange(len(predicted)), pairs.predicted)
    frames_FHW = shown.read([number for number, _ in chosen])

    def places(table: EmitterTable, rows: np.ndarray, number: int) -> np.ndarray:
        here = table.select(rows[table.frame[rows] == number])
        return np.stack(shown.pixel_size.to_px(here.x_nm, here.y_nm), axis=1)

    return [
        ExampleFrame(
            title,
            frame_HW,
            places(truth, pairs.truth, number),
            places(predicted, pairs.predicted, number),
            places(truth, missed, number),
            places(predicted, false, number),
        )
        for (number, title), frame_HW in zip(chosen, frames_FHW, strict=True)
    ]
