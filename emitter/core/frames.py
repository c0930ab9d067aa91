"""How many frames a curve over frames may have."""

from __future__ import annotations

from emitter.core.errors import EmitterError

MAX_FRAMES = 10_000_000  # some 1 GB on the way


def span_of(first: int, last: int, what: str) -> int:
    """Number of frames from the first to the last.

    Raises:
        EmitterError: more than ``MAX_FRAMES``, as a stray number in a column of frames asks for.
    """
    n_frames = last - first + 1
    if n_frames > MAX_FRAMES:
        raise EmitterError(
            f"{what} spans the frames {first} to {last}, more than {MAX_FRAMES}: take stray rows off (filter.py)"
        )
    return n_frames
