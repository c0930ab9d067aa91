"""A movie that is still being written.

Shape suffixes: T frames, H rows, W columns.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import numpy as np

from emitter.core.errors import EmitterError
from emitter.io.movie import Movie

log = logging.getLogger(__name__)

_POLL_S = 0.5
_OPENING_SHARE = 0.1  # most of the time that may be spent on opening the file again


class GrowingMovie(Movie):
    """Opens a movie again and again for the frames that came since; it ends when none came for a while.

    A file that cannot be opened at the moment, because its last frame is half written, counts as one to which nothing
    came; where that is so at its end, a warning says so. Its second frame is waited for before any is used: one file of
    one frame does not tell which of the numbers in its name counts frames.

    Args:
        open_now: opens the movie as it is now.
        idle_s: it is whole when no frame came for so many seconds.

    Raises:
        EmitterError: it could not be opened within ``idle_s``, or its frame size or its frames' numbers changed.
    """

    def __init__(self, open_now: Callable[[], Movie], idle_s: float) -> None:
        self._open_now, self._idle_s = open_now, idle_s
        self._ended = False
        self._unread: EmitterError | None = None  # why the file cannot be opened at the moment
        self._now = self._first()
        shape = (self._now.n_frames, self._now.height, self._now.width)
        super().__init__(self._now.name, shape, self._now.dtype, self._now.frame_numbers)
        self.pixel_size = self._now.pixel_size
        self.wait_for(2)

    def wait_for(self, n_frames: int) -> None:
        """Return when there are so many frames, or when the movie is whole."""
        last_new = time.monotonic()
        while self.n_frames < n_frames and not self._ended:
            opening_s = self._look()
            if opening_s is None:  # nothing new
                if time.monotonic() - last_new > self._idle_s:
                    self._end()
                else:
                    time.sleep(min(_POLL_S, self._idle_s / 4))
            else:
                last_new = time.monotonic()
                if self.n_frames < n_frames:
                    time.sleep(max(_POLL_S, opening_s / _OPENING_SHARE))

    def _end(self) -> None:
        """Take the movie as whole."""
        self._ended = True
        if self._unread is None:
            log.info("%s: no frame came for %g s, it is taken as whole", self.name, self._idle_s)
        else:
            log.warning(
                "%s: no frame came for %g s and its end cannot be read, only its first %d frames are used (%s)",
                self.name,
                self._idle_s,
                self.n_frames,
                self._unread,
            )

    def _first(self) -> Movie:
        start = time.monotonic()
        while True:
            try:
                return self._open_now()
            except EmitterError:
                if time.monotonic() - start > self._idle_s:
                    raise
                time.sleep(min(_POLL_S, self._idle_s / 4))

    def _look(self) -> float | None:
        """Take over the frames that came; the seconds that it took, or None when there are none."""
        start = time.monotonic()
        try:
            now = self._open_now()
        except EmitterError as error:
            self._unread = error
            return None
        self._unread = None
        if now.n_frames <= self.n_frames:
            now.close()
            return None
        if (now.height, now.width, now.dtype) != (self.height, self.width, self.dtype):
            now.close()
            raise EmitterError(f"{self.name} changed its frame size while it grew: give one movie")
        if self.n_frames > 1 and (now.frame_numbers[: self.n_frames] != self.frame_numbers).any():
            now.close()
            raise EmitterError(
                f"the frames of {self.name} got other numbers while it grew (a file came whose name does not count "
                "on): localize it when it is whole, without follow_s"
            )
        self._now.close()
        self._now = now
        self.n_frames, self.frame_numbers = now.n_frames, now.frame_numbers
        return time.monotonic() - start

    def _read(self, start: int, stop: int) -> np.ndarray:
        return self._now.read(start, stop)

    def close(self) -> None:
        self._now.close()
