"""What a table is made from, as a few plain values: two programs with equal ones write equal tables."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import torch

from emitter.app.localize_settings import Settings
from emitter.core.errors import EmitterError
from emitter.inference.bundle import Bundle
from emitter.io.movie import Movie

# Settings that leave the rows alone, and those that stand for something that is looked at itself.
_LEFT_OUT = {
    "checkpoint",
    "movie",
    "output",
    "each",
    "superres_nm",
    "resume",
    "devices",
    "device",
    "precision",
    "follow_s",
}


def made_from(settings: Settings, bundle: Bundle, movie: Movie) -> dict[str, Any]:
    """The network, the movie and the settings; where the files lie is of no account.

    Of the movie the size and three frames count, of one that grows only the first frame.

    Raises:
        EmitterError: no frame of the movie is asked for.
    """
    if settings.frames is not None and settings.follow_s is None:
        first, last = settings.frames
        numbers = movie.frame_numbers
        if not ((numbers >= first) & (numbers <= last)).any():
            raise EmitterError(
                f"{movie.name} has frames {numbers[0]} to {numbers[-1]} (counted from 0), frames is [{first},{last}]: "
                "give a range with frames in it"
            )
    names = [field.name for field in fields(settings) if field.name not in _LEFT_OUT]
    compute = settings.compute()
    return {
        "checkpoint": _digest(
            [bundle.network.state_dict(), asdict(bundle.thresholds), bundle.camera.state()]
        ),
        "movie": _movie(movie, growing=settings.follow_s is not None),
        "device": "gpu" if settings.on_gpu else "cpu",
        "precision": compute.precision,
        **{name: getattr(settings, name) for name in names},
    }


def _movie(movie: Movie, growing: bool) -> dict[str, Any]:
    places = [0] if growing else [0, movie.n_frames // 2, movie.n_frames - 1]
    frames = [movie.read(place, place + 1) for place in places]
    size = {} if growing else {"frames": movie.n_frames}
    return {
        **size,
        "rows": movie.height,
        "columns": movie.width,
        "digest": _digest([movie.dtype.name, frames]),
    }


def _digest(value: Any) -> str:
    digest = hashlib.sha256()
    _update(digest, value)
    return digest.hexdigest()[:16]


def _update(digest: Any, value: Any) -> None:
    if isinstance(value, dict):
        _update(digest, list(value.items()))
    elif isinstance(value, (list, tuple)):
        for one in value:
            _update(digest, one)
    elif isinstance(value, torch.Tensor):
        _update(digest, value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    elif isinstance(value, np.ndarray):
        digest.update(np.ascontiguousarray(value).tobytes())
    else:
        digest.update(repr(value).encode())
