"""From a movie to tables of emitters, block by block.

Shape suffixes: B images, T frames of an image, F frames of a block, H rows, W columns, 6 channels.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from emitter.core.channels import Scaling
from emitter.core.decoding import Thresholds, decode
from emitter.core.errors import require
from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize
from emitter.inference.checks import FrameChecks, check_sample, check_size
from emitter.inference.tiling import MovieNetwork, predict
from emitter.inference.turned import mean_of_turned
from emitter.io.movie import Movie
from emitter.io.prefetch import prefetched


class FrameCamera(Protocol):
    """What is asked of a camera."""

    def check_frame(self, height: int, width: int) -> None:
        """Raise EmitterError when frames of this size cannot be its own."""

    def to_photons(self, counts: Tensor) -> Tensor:
        """Photons from counts."""


@dataclass(frozen=True)
class Compute:
    """How a movie is predicted: at most ``batch_px`` pixels at once, on a device, in a precision; ``turned``: a second
    time turned by 180°, for the mean (see turned.py)."""

    batch_px: int = 2**18
    device: str = "cpu"
    precision: Literal["fp32", "bf16"] = "fp32"
    turned: bool = False

    def __post_init__(self) -> None:
        require(self.batch_px >= 1024, f"batch_px is {self.batch_px}: give at least 1024 pixels")


Span = tuple[int, int]  # a block: the place of its first frame in the movie, and that after its last


class _Block(NamedTuple):
    """A block of frames, read."""

    counts_FHW: np.ndarray  # with the neighbours of the first and last
    window_BT: np.ndarray  # for every frame of the block, the places of its T frames in it
    numbers_B: np.ndarray


@dataclass(frozen=True)
class Localizer:
    """A trained network with all that it takes to turn counts into a table.

    Every frame is predicted from itself and its neighbours. Where a neighbour is missing, at the movie's ends
    and at gaps of the frame numbers, the nearest consecutive frame on that side, at last the frame itself,
    stands in. ``trained_background``: range of photons per pixel of the training, which a movie is held against.
    ``origin_px``: the column and row of the camera's frame at which the movie's frames begin; tables hold positions
    in the camera's frame.
    """

    network: MovieNetwork
    camera: FrameCamera
    scaling: Scaling
    thresholds: Thresholds
    pixel_size: PixelSize
    trained_background: tuple[float, float]
    compute: Compute = Compute()
    origin_px: tuple[int, int] = (0, 0)

    def tables(
        self, movie: Movie, todo: Iterable[Span] | None = None, checks: FrameChecks | None = None
    ) -> Generator[tuple[int, EmitterTable], None, None]:
        """Predict a movie: for every block in order, the number of its frames and the table of its emitters.

        The next block is read while one is predicted.

        Args:
            movie: the frames, in counts.
            todo: some of ``spans(movie, …)``; None for all of them.
            checks: looks at every block, and is then to be summarized; None for one of this call's own.

        Raises:
            EmitterError: frames too small, constant, NaN or negative throughout, or of another camera.
        """
        check_size(movie)
        self.camera.check_frame(movie.height, movie.width)
        check_sample(movie, lambda counts: self._photons(counts).cpu().numpy(), self.trained_background)
        own_checks = checks or FrameChecks(movie.name)
        todo = self.spans(movie) if todo is None else todo
        with contextlib.closing(prefetched(self._read(movie, todo, own_checks))) as ready:
            for block in ready:
                yield len(block.numbers_B), self._predict_block(block)
        if checks is None:
            own_checks.summarize()

    def spans(self, movie: Movie, frames: tuple[int, int] | None = None) -> Iterator[Span]:
        """The blocks of a movie, waiting for the frames of one that grows.

        They lie on one grid, whatever part of the movie is asked for: a network's last bits depend on how many frames
        it is given at once.

        Args:
            movie: the frames.
            frames: only blocks with frame numbers from the first to the last of these, both included.
        """
        size = max(1, self.compute.batch_px // (movie.height * movie.width))
        half = self.network.n_frames // 2
        for start in itertools.count(0, size):
            movie.wait_for(start + size + half)
            stop = min(start + size, movie.n_frames)
            if start >= stop or (frames and movie.frame_numbers[start] > frames[1]):
                return
            if not frames or movie.frame_numbers[stop - 1] >= frames[0]:
                yield start, stop

    def _read(self, movie: Movie, todo: Iterable[Span], checks: FrameChecks) -> Iterator[_Block]:
        """The frames of every block with their neighbours."""
        for start, stop in todo:
            window_BT = windows(movie.frame_numbers, start, stop, self.network.n_frames)
            first, last = int(window_BT.min()), int(window_BT.max())
            counts_FHW = movie.read(first, last + 1)
            numbers_B = movie.frame_numbers[start:stop]
            checks(counts_FHW[start - first : stop - first], numbers_B)
            yield _Block(counts_FHW.astype(np.float32, copy=False), window_BT - first, numbers_B)

    def _predict_block(self, block: _Block) -> EmitterTable:
        """Emitters of a block's frames, sorted."""
        with torch.inference_mode():
            photons_FHW = self._photons(block.counts_FHW)
            window = torch.from_numpy(block.window_BT).to(self.compute.device)
            with torch.autocast(
                photons_FHW.device.type, torch.bfloat16, enabled=self.compute.precision == "bf16"
            ):
                maps_B6HW = self._maps(photons_FHW, window)
            emitters = decode(maps_B6HW, self.scaling, self.thresholds, self.network.cells_px[-1])
        table = EmitterTable.from_emitters(emitters, self.pixel_size, block.numbers_B.tolist()).sorted()
        if self.origin_px == (0, 0):
            return table
        x_nm, y_nm = self.pixel_size.to_nm(*(float(side) for side in self.origin_px))
        return table.with_columns(x_nm=table.x_nm + x_nm, y_nm=table.y_nm + y_nm)

    def _maps(self, photons_FHW: Tensor, window_BT: Tensor) -> Tensor:
        """Maps (B, 6, H / cell, W / cell) of a block's windows."""

        def maps(frames_FHW: Tensor) -> Tensor:
            return predict(self.network, frames_FHW, window_BT, self.compute.batch_px)

        return mean_of_turned(maps, photons_FHW) if self.compute.turned else maps(photons_FHW)

    def _photons(self, counts_FHW: np.ndarray) -> Tensor:
        """Photons (F, H, W), on the device."""
        counts = torch.from_numpy(counts_FHW.astype(np.float32, copy=False)).to(self.compute.device)
        return self.camera.to_photons(counts)


def windows(frame_numbers: np.ndarray, start: int, stop: int, n_frames: int) -> np.ndarray:
    """Places (B, T) in the movie of the frames from which each frame ``start`` to ``stop`` is predicted."""
    place_B = np.arange(start, stop)
    half = n_frames // 2
    window_BT = np.empty((stop - start, n_frames), dtype=np.int64)
    window_BT[:, half] = place_B
    for direction in (-1, 1):
        for step in range(1, half + 1):
            nearer_B = window_BT[:, half + direction * (step - 1)]
            wanted_B = place_B + direction * step
            there_B = (wanted_B >= 0) & (wanted_B < len(frame_numbers))
            distance_B = frame_numbers[wanted_B.clip(0, len(frame_numbers) - 1)] - frame_numbers[place_B]
            window_BT[:, half + direction * step] = np.where(
                there_B & (distance_B == direction * step), wanted_B, nearer_B
            )
    return window_BT
