"""What every movie offers, whatever its format.

Shape suffixes: T frames, H rows, W columns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self

import numpy as np

from emitter.core.errors import EmitterError
from emitter.core.units import PixelSize

DTYPES = ("uint8", "uint16", "int16", "float32")


class Movie(ABC):
    """Camera frames that are read in blocks, never all at once. Use it as a context manager.

    ``frame_numbers`` (T,) int64, ascending, counts from 0: the index in the file for a stack; what the names
    say for files of one frame each (see ``emitter.io.sequence``). ``pixel_size`` is what the file states; None where it
    states none.

    Raises:
        EmitterError: when there is no frame, or the pixels are of a type that is not supported.
    """

    def __init__(
        self, name: str, shape_THW: Sequence[int], dtype: np.dtype, frame_numbers: np.ndarray | None = None
    ) -> None:
        self.name = name
        self.n_frames, self.height, self.width = (int(side) for side in shape_THW)
        self.dtype = np.dtype(dtype).newbyteorder("=")
        if self.dtype.name not in DTYPES:
            raise EmitterError(
                f"{name} holds pixels of type {self.dtype.name}: convert them to one of {', '.join(DTYPES)}"
            )
        if min(self.n_frames, self.height, self.width) < 1:
            raise EmitterError(f"{name} holds no pixels (shape {tuple(shape_THW)}): give at least one frame")
        numbers = np.arange(self.n_frames) if frame_numbers is None else frame_numbers
        self.frame_numbers = np.asarray(numbers, dtype=np.int64)
        self.pixel_size: PixelSize | None = None

    def read(self, start: int, stop: int) -> np.ndarray:
        """Frames ``start`` to ``stop`` (excluded) by their position in the movie, (stop − start, H, W).

        Raises:
            EmitterError: they cannot be read.
        """
        if not 0 <= start <= stop <= self.n_frames:
            raise IndexError(f"frames {start} to {stop} of {self.n_frames}")
        if start == stop:
            return np.empty((0, self.height, self.width), dtype=self.dtype)
        with told(f"frames {start} to {stop - 1} of {self.name}"):
            return np.ascontiguousarray(self._read(start, stop), dtype=self.dtype)

    def wait_for(self, n_frames: int) -> None:  # noqa: B027 (a movie that does not grow has all its frames)
        """Return when there are so many frames, or when no more will come (see ``emitter.io.growing``)."""

    @abstractmethod
    def _read(self, start: int, stop: int) -> np.ndarray:
        """The frames, in any byte order."""

    def close(self) -> None:  # noqa: B027 (nothing to release is the usual case)
        """Release the file."""

    def __len__(self) -> int:
        return self.n_frames

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ArrayMovie(Movie):
    """An array in memory or memory-mapped: (H, W) or (T, H, W)."""

    def __init__(self, frames: np.ndarray, name: str = "the array") -> None:
        if frames.ndim not in (2, 3):
            raise EmitterError(
                f"{name} has {frames.ndim} dimensions (shape {frames.shape}): give (rows, columns) or "
                "(frames, rows, columns)"
            )
        self._frames_THW = frames[None] if frames.ndim == 2 else frames
        super().__init__(name, self._frames_THW.shape, frames.dtype)

    def _read(self, start: int, stop: int) -> np.ndarray:
        return self._frames_THW[start:stop]


@contextmanager
def told(what: str) -> Iterator[None]:
    """Anything that a library raises on a damaged file becomes one sentence about ``what``.

    Raises:
        EmitterError: for any other exception.
    """
    try:
        yield
    except EmitterError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if "'imagecodecs'" in reason:  # tifffile's, of LZW and other compressions
            raise EmitterError(
                f"{what} cannot be read: its compression needs a package more, pip install imagecodecs"
            ) from error
        raise EmitterError(
            f"{what} cannot be read ({reason}): the file is truncated, damaged, locked or of another kind, copy or "
            "export it again"
        ) from error


def blocks(lengths: Sequence[int], start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Frames ``start`` to ``stop`` of parts laid end to end, as (part, first, end) within each part."""
    ends = np.cumsum(lengths)
    part = int(np.searchsorted(ends, start, side="right"))
    while start < stop:
        begin = int(ends[part]) - lengths[part]
        end = min(stop, int(ends[part]))
        yield part, start - begin, end - begin
        start, part = end, part + 1
