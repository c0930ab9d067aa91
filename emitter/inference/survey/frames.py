"""A bounded number of a movie's frames, spread over it as runs of consecutive ones, in photons.

Shape suffixes: T frames, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from emitter.core.errors import EmitterError
from emitter.inference.checks import FrameChecks, check_size
from emitter.io.movie import Movie
from emitter.simulation.camera import Camera

RUN_FRAMES = 16
MAX_FRAMES = 512
MIN_FRAMES = 48  # of large frames, of which then only the middle is taken
MAX_PIXELS = 4_000_000


@dataclass(frozen=True)
class Sampled:
    """Frames in photons, the runs of consecutive ones among them, and how many pixels were at the converter's end."""

    photons_THW: np.ndarray
    runs: tuple[slice, ...]


def planned_runs(frame_numbers: np.ndarray, frame_px: int) -> list[tuple[int, int]]:
    """(start, stop) of the runs to read, by position in the movie; none spans a gap of the frames' numbers."""
    total = len(frame_numbers)
    wanted = min(total, int(np.clip(MAX_PIXELS // frame_px, MIN_FRAMES, MAX_FRAMES)))
    n_runs = -(-wanted // RUN_FRAMES)
    starts = np.unique(np.linspace(0, max(total - RUN_FRAMES, 0), n_runs).round().astype(int))
    stops = np.minimum(np.r_[starts[1:], total], starts + RUN_FRAMES)
    runs = []
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        gaps = start + 1 + np.flatnonzero(np.diff(frame_numbers[start:stop]) != 1)
        cuts = [start, *gaps.tolist(), stop]
        runs += [(a, b) for a, b in zip(cuts, cuts[1:], strict=False) if b > a]
    return runs


def sample_frames(movie: Movie, camera: Camera, advance: Callable[[int, int], None] | None = None) -> Sampled:
    """Read them.

    Args:
        movie: its frames in counts.
        camera: turns them into photons.
        advance: told (runs read, runs in all).

    Raises:
        EmitterError: frames that are too small, do not fit the camera's maps, are all constant, or hold NaN.
    """
    check_size(movie.name, movie.height, movie.width)
    camera.check_frame(movie.height, movie.width)
    checks = FrameChecks(movie.name)
    planned = planned_runs(movie.frame_numbers, movie.height * movie.width)
    rows, columns = _middle(movie, sum(stop - start for start, stop in planned))
    pieces: list[np.ndarray] = []
    runs: list[slice] = []
    at = 0
    for k, (start, stop) in enumerate(planned):
        counts_THW = movie.read(start, stop)
        checks(counts_THW, movie.frame_numbers[start:stop])
        photons = camera.to_photons(torch.from_numpy(counts_THW.astype(np.float32))).numpy()
        lit = counts_THW.min(axis=(1, 2)) != counts_THW.max(axis=(1, 2))
        for first, last in _stretches(lit):
            pieces.append(photons[first:last, rows, columns])
            runs.append(slice(at, at + last - first))
            at += last - first
        if advance is not None:
            advance(k + 1, len(planned))
    checks.summarize()
    if not pieces:
        raise EmitterError(
            f"all frames of {movie.name} are constant: there is nothing to diagnose, check the movie"
        )
    return Sampled(np.concatenate(pieces).astype(np.float32), tuple(runs))


def _middle(movie: Movie, n_frames: int) -> tuple[slice, slice]:
    """The middle of frames that are too large to be taken whole."""
    share = min(1.0, (MAX_PIXELS / (n_frames * movie.height * movie.width)) ** 0.5)
    sides = []
    for length in (movie.height, movie.width):
        kept = max(int(length * share), min(length, 64))
        sides.append(slice((length - kept) // 2, (length - kept) // 2 + kept))
    return sides[0], sides[1]


def _stretches(lit_T: np.ndarray) -> list[tuple[int, int]]:
    """(first, end) of the frames in a row that are lit."""
    edges = np.flatnonzero(np.diff(np.r_[False, lit_T, False].astype(int)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
