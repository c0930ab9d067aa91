"""Whether a resolution can be trusted, in sentences. Shape suffix: N rows."""

from __future__ import annotations

import math

import numpy as np

from emitter.analysis.frc import THRESHOLD, RingCorrelation, blocks
from emitter.analysis.nena import Nena, distances_to_frame, scatter_over_precision
from emitter.core.table import EmitterTable

_SPREAD = 0.1  # of the figure itself: what more varies is not known
_FIELD_RINGS = 8  # coarser than this part of the field is its outline, which points at random have too
_MIN_PIXELS = 2.5  # 2 are the finest that an image shows
_OF_A_BLOCK = 0.1  # docs/tables.md: how far FRC is off where so much of the localizations goes on so long
_SHARED = 0.25
_SAME_NM = 50.0  # within it, two of frames near each other are one blink
_FINEST_RINGS = 5
# Of the scatter that a table's own precisions make one expect: 1.0 and 1.3 in tables of Picasso and SMAP, which fit
# each frame by itself, 0.4 in ours, of networks that look at three frames.
_MIN_SCATTER = 1 / 1.5


def frc_doubts(table: EmitterTable, curve: RingCorrelation) -> list[str]:
    """Why the FRC resolution of a table is not to be trusted, one sentence each; none where nothing speaks so."""
    found, finest_nm, rows = curve.resolution_nm, 2 * curve.pixel_nm, len(table)
    field_nm = 1 / curve.frequency_Q[1]
    doubts = []
    if math.isnan(found) and curve.correlation_Q[-_FINEST_RINGS:].mean() > THRESHOLD:
        doubts.append(
            f"FRC stays above 1/7 down to {finest_nm:.3g} nm: give a smaller pixel_nm, or link the blinks first"
        )
    elif math.isnan(found) or found > field_nm / _FIELD_RINGS:
        doubts.append(
            f"FRC finds nothing finer than the shape of the field in {rows} localizations: give more, or take drift "
            "off first (drift.py)"
        )
    elif curve.spread_nm > _SPREAD * found:
        doubts.append(
            f"FRC varies by more than {_SPREAD:.0%} from split to split: {rows} localizations are too few, give more"
        )
    if found < _MIN_PIXELS * curve.pixel_nm:
        doubts.append(
            f"FRC at {found:.3g} nm is near the image's finest, {finest_nm:.3g} nm: give a smaller pixel_nm, or a part "
            "of a large field"
        )
    shared = shared_blinks(table)
    if shared > _SHARED:
        doubts.append(
            f"FRC is drawn to finer values by {shared:.0%} of the localizations, of blinks so long that both halves "
            "share them: link them first (link.py)"
        )
    return doubts


def nena_doubts(found: Nena, table: EmitterTable) -> list[str]:
    """Why the NeNA precision of a table is not to be trusted, one sentence each."""
    doubts = []
    if found.error_nm > _SPREAD * found.precision_nm:
        doubts.append(
            f"NeNA is uncertain by {found.error_nm:.2g} nm: too few emitters are seen in two frames in a row, give "
            "more localizations or a table that is not linked"
        )
    scatter = scatter_over_precision(table)
    if scatter < _MIN_SCATTER:
        doubts.append(
            f"NeNA is probably too fine: from one frame to the next an emitter moves by {scatter:.0%} of what the "
            "table's own precisions say, as where a network sees several frames at once and errs alike in all; unless "
            f"these precisions are too large, go by them (median {_median_precision_nm(table):.3g} nm)"
        )
    return doubts


def _median_precision_nm(table: EmitterTable) -> float:
    """Of x and y together; NaN where nothing is known."""
    columns = (table.precision_x_nm, table.precision_y_nm)
    return float(np.nanmedian(np.concatenate([column for column in columns if column is not None])))


def shared_blinks(table: EmitterTable) -> float:
    """Share of the localizations whose blink is seen a tenth of one of FRC's blocks later: of those so long, many lie
    in two blocks, and so in both halves.

    What lies there by chance, or since the same place blinks again, is taken off: as much as half the movie later.
    """
    first, n_frames = int(table.frame.min()), int(np.ptp(table.frame)) + 1
    block_N = blocks(table)
    begin_B, end_B = np.full(block_N.max() + 1, np.iinfo(np.int64).max), np.zeros(block_N.max() + 1, np.int64)
    np.minimum.at(begin_B, block_N, table.frame)
    np.maximum.at(end_B, block_N, table.frame + 1)
    soon_N = table.frame + np.maximum(1, np.round(_OF_A_BLOCK * (end_B - begin_B)).astype(np.int64))[block_N]
    later_N = first + (table.frame - first + n_frames // 2) % n_frames
    on, by_chance = (
        float(np.mean(np.isfinite(distances_to_frame(table, frame_N, _SAME_NM))))
        for frame_N in (soon_N, later_N)
    )
    return max(0.0, (on - by_chance) / (1 - by_chance)) if by_chance < 1 else 0.0
