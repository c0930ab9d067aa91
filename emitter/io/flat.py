"""Pixels that lie in a file one after the other.

Shape suffixes: T frames, H rows, W columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emitter.core.errors import EmitterError
from emitter.io.movie import Movie


class FlatMovie(Movie):
    """Frames (T, H, W) from a byte of a file on."""

    def __init__(self, path: Path, dtype: np.dtype, shape_THW: Sequence[int], offset: int = 0) -> None:
        self._path, self._dtype, self._offset = path, dtype, offset
        super().__init__(str(path), shape_THW, dtype)

    def _read(self, start: int, stop: int) -> np.ndarray:
        return read_flat(
            self._path, self._dtype, self._offset, start, (stop - start, self.height, self.width)
        )


def read_flat(
    path: Path, dtype: np.dtype, offset: int, start: int, shape_THW: tuple[int, int, int]
) -> np.ndarray:
    """Frames (T, H, W) from frame ``start`` on, where frame 0 begins at byte ``offset``.

    They are read, not mapped: a mapped file that another program cuts ends this one by a signal.

    Raises:
        EmitterError: the file ends before them.
    """
    begin = offset + start * math.prod(shape_THW[1:]) * dtype.itemsize
    flat = np.fromfile(path, dtype, math.prod(shape_THW), offset=begin)
    if flat.size < math.prod(shape_THW):
        raise EmitterError(
            f"{path} ends before frame {start + shape_THW[0] - 1}: it was cut after it was opened, copy or export it "
            "again"
        )
    return flat.reshape(shape_THW)
