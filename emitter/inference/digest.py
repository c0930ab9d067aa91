"""A table of any length in little memory: how many rows there are and when, and all rows of some of its frames.

Shape suffixes: N rows, F frames, K bins of time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from emitter.core.random import keys
from emitter.core.table import EmitterTable

MOST_ROWS = 1 << 18  # of the sample
_SEED = 1


@dataclass(frozen=True)
class Digest:
    """``n_rows`` of the table; ``n_K`` of them between the edges of K bins of frame numbers; ``sample``: all rows of
    frames drawn at random, which is the whole table where that is short; ``chosen``: all rows of the frames asked for.
    """

    n_rows: int
    n_K: np.ndarray
    sample: EmitterTable
    chosen: EmitterTable


def digest(
    parts: Iterable[EmitterTable], edges: np.ndarray, chosen: np.ndarray, most_rows: int = MOST_ROWS
) -> Digest:
    """Of a table that comes in parts; how it is parted does not matter.

    Args:
        parts: the table's rows.
        edges: (K + 1,) ascending frame numbers; a bin holds its first edge and not its last, but the last bin's.
        chosen: (F,) numbers of frames.
        most_rows: of the sample, unless one frame alone has more.
    """
    n_rows, n_K = 0, np.zeros(len(edges) - 1, dtype=np.int64)
    sample, of_chosen = _WholeFrames(most_rows), []
    for part in parts:
        n_rows += len(part)
        n_K += np.histogram(part.frame, edges)[0]
        of_chosen.append(part.select(np.isin(part.frame, chosen)))
        sample.add(part)
    return Digest(n_rows, n_K, sample.table(), EmitterTable.concatenate(of_chosen))


class _WholeFrames:
    """The rows of the frames with the lowest random keys: as many frames as stay within ``most_rows``, one at least.

    A frame that does not make it once never does later, since those before it in the order only become more: its rows
    need not be kept.
    """

    def __init__(self, most_rows: int) -> None:
        self._most_rows = most_rows
        self._parts: list[EmitterTable] = []
        self._below: int | None = None  # the key of a frame that is sampled, once some are not

    def add(self, part: EmitterTable) -> None:
        if self._below is not None:
            part = part.select(_keys(part.frame) < self._below)
        self._parts.append(part)
        if sum(map(len, self._parts)) > 2 * self._most_rows:
            self._parts = [self.table()]

    def table(self) -> EmitterTable:
        """The sample of what was added until now."""
        table = EmitterTable.concatenate(self._parts)
        frame_F, n_F = np.unique(table.frame, return_counts=True)
        key_F = _keys(frame_F)
        order_F = np.argsort(key_F)
        n_kept = max(1, int(np.searchsorted(np.cumsum(n_F[order_F]), self._most_rows, side="right")))
        if n_kept >= len(frame_F):
            return table
        self._below = int(key_F[order_F[n_kept]])
        return table.select(np.isin(table.frame, frame_F[order_F[:n_kept]]))


def _keys(frame_N: np.ndarray) -> np.ndarray:
    """(N,) of the frames' numbers; the same in every run."""
    key_N: np.ndarray = keys(_SEED, torch.from_numpy(np.ascontiguousarray(frame_N))).numpy()
    return key_N
