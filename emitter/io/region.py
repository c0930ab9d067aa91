"""A rectangle of a movie's frames.

Shape suffixes: T frames, H rows, W columns.
"""

from __future__ import annotations

import numpy as np

from emitter.core.errors import require
from emitter.io.movie import Movie

_READ_BYTES = 2**24  # of whole frames that are held at once


class RegionMovie(Movie):
    """The pixels ``[x0, x1) × [y0, y1)`` of another movie, which it closes with itself.

    Args:
        whole: the movie.
        roi_px: x0, y0, x1, y1: first column and row, and those after the last.

    Raises:
        SettingsError: the rectangle does not lie in the frames.
    """

    def __init__(self, whole: Movie, roi_px: tuple[int, int, int, int]) -> None:
        x0, y0, x1, y1 = roi_px
        require(
            0 <= x0 < x1 <= whole.width and 0 <= y0 < y1 <= whole.height,
            f"roi is {list(roi_px)} and the frames of {whole.name} have {whole.width} columns and {whole.height} "
            "rows: give [x0,y0,x1,y1] in pixels, within them",
        )
        self._whole, self._rows, self._columns = whole, slice(y0, y1), slice(x0, x1)
        super().__init__(whole.name, (whole.n_frames, y1 - y0, x1 - x0), whole.dtype, whole.frame_numbers)

    def wait_for(self, n_frames: int) -> None:
        self._whole.wait_for(n_frames)
        self.n_frames, self.frame_numbers = self._whole.n_frames, self._whole.frame_numbers

    def _read(self, start: int, stop: int) -> np.ndarray:
        frame_bytes = self._whole.height * self._whole.width * self.dtype.itemsize
        step = max(1, _READ_BYTES // frame_bytes)
        parts = [
            # a copy, so that the whole frames are let go
            self._whole.read(first, min(first + step, stop))[:, self._rows, self._columns].copy()
            for first in range(start, stop, step)
        ]
        return np.concatenate(parts)

    def close(self) -> None:
        self._whole.close()
