"""Which frames of a movie are predicted together, also of one that still grows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from emitter.core.errors import EmitterError
from emitter.io.movie import Movie


def places_of(movie: Movie, frames: tuple[int, int] | None) -> range:
    """Places in the movie of the frames from the first to the last, by their numbers; None: of all.

    Raises:
        EmitterError: when the movie has none of them.
    """
    if frames is None:
        return range(movie.n_frames)
    first, last = frames
    numbers_T = movie.frame_numbers
    places = range(
        int(np.searchsorted(numbers_T, first)), int(np.searchsorted(numbers_T, last, side="right"))
    )
    if not places:
        raise EmitterError(
            f"frames is [{first},{last}] and {movie.name} has the frames {numbers_T[0]} to {numbers_T[-1]}: give some "
            "of these"
        )
    return places


def frame_blocks(
    movie: Movie, size: int, half: int, frames: tuple[int, int] | None = None, done: int = 0
) -> Iterator[range]:
    """Consecutive places of at most ``size`` frames, the blocks that are predicted at once.

    Args:
        movie: where it grows, a block is waited for, with the ``half`` frames behind it that its last frames look at.
        size: of a block.
        half: frames that a frame looks at on each side.
        frames: numbers of the first and the last to be predicted; None: all.
        done: so many of these are done.

    Raises:
        EmitterError: when the movie has none of the frames.
    """
    # a frame's place is at most its number
    movie.wait_for(1 if frames is None else frames[0] + 1)
    start = places_of(movie, frames).start + done
    while True:
        wanted = start + size if frames is None else min(start + size, frames[1] + 1)
        movie.wait_for(wanted + half)
        stop = min(start + size, places_of(movie, frames).stop)
        if start >= stop:
            return
        yield range(start, stop)
        start = stop
