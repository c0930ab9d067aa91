"""From a movie to tables of emitters, block by block.

Shape suffixes: B images, T frames of an image, F frames of a block, H rows, W columns, 6 channels.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from emitter.core.channels import Scaling
from emitter.core.decoding import Thresholds, decode
from emitter.core.errors import EmitterError, require
from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize
from emitter.inference.checks import FrameChecks, check_sample, check_size
from emitter.inference.frame_blocks import frame_blocks
from emitter.inference.refine import Refiner, background
from emitter.inference.tiling import MovieNetwork, predict
from emitter.inference.turned import mean_of_turned
from emitter.inference.uncertainty import Uncertainty
from emitter.io.movie import Movie
from emitter.io.prefetch import prefetched


class FrameCamera(Protocol):
    """What is asked of a camera."""

    def check_frame(self, height: int, width: int) -> None:
        """Raise EmitterError when frames of this size cannot be its own."""

    def to_photons(self, counts: Tensor) -> Tensor:
        """Photons from counts (…, H, W)."""

    def windows(self, top_B: Tensor, left_B: Tensor, height: int, width: int) -> FrameCamera:
        """As B windows of its chip see it, for counts (B, T, H, W)."""

    def to(self, device: str) -> Self:
        """The camera on a device."""


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


@dataclass(frozen=True)
class Region:
    """A part of the frame in pixels: columns ``x0`` to ``x1`` and rows ``y0`` to ``y1``, the last ones excluded."""

    x0: int
    y0: int
    x1: int
    y1: int

    def __post_init__(self) -> None:
        require(
            0 <= self.x0 < self.x1 and 0 <= self.y0 < self.y1,
            f"roi is [{self.x0},{self.y0},{self.x1},{self.y1}]: give [x0,y0,x1,y1] in pixels, counted from 0, the last "
            "column and row excluded",
        )

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def inside(self) -> tuple[slice, slice]:
        """Its rows and columns of a frame."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def with_margin(self, movie: Movie) -> Region:
        """What is read for it: emitters in it shine beyond it, and others shine into it."""
        return Region(
            max(0, self.x0 - _MARGIN_PX),
            max(0, self.y0 - _MARGIN_PX),
            min(movie.width, self.x1 + _MARGIN_PX),
            min(movie.height, self.y1 + _MARGIN_PX),
        )


# around a region: for what lies farther off, positions in it move by less than 1 nm in 95 of 100
_MARGIN_PX = 8
_READ_PX = 1 << 22  # of whole frames that are read at once where a region is cut out of them
Tables = Generator[tuple[int, EmitterTable], None, None]  # frames of a block, and its emitters


@dataclass(frozen=True)
class _Block:
    """Frames (F, H, W) in counts, or what is read of them for a region; for every predicted one the places of its T
    frames among them; and their numbers."""

    counts_FHW: np.ndarray
    read: Region | None
    window_BT: np.ndarray
    numbers_B: np.ndarray


@dataclass(frozen=True)
class Localizer:
    """A trained network with all that it takes to turn counts into a table.

    Every frame is predicted from itself and its neighbours. Where a neighbour is missing, at the movie's ends
    and at gaps of the frame numbers, the nearest consecutive frame on that side, at last the frame itself,
    stands in. ``trained_background``: range of photons per pixel of the training, which a movie is held against.
    ``uncertainty``: of the localizations; None: no columns of precision. ``refiner``: moves them, and needs their
    uncertainty; None: they stay. ``roi``: emitters in it alone are given, as they are found in whole frames to a margin
    around it; positions stay those in the whole frame.
    """

    network: MovieNetwork
    camera: FrameCamera
    scaling: Scaling
    thresholds: Thresholds
    pixel_size: PixelSize
    trained_background: tuple[float, float]
    compute: Compute = Compute()
    uncertainty: Uncertainty | None = None
    roi: Region | None = None
    refiner: Refiner | None = None

    def tables(self, movie: Movie, frames: tuple[int, int] | None = None) -> Tables:
        """Predict a movie: for every block in order, the number of its frames and the table of its emitters.

        Args:
            movie: the movie.
            frames: numbers of the first and the last frame, which alone are predicted; None: all. Frames around them
                are looked at where they have neighbours there.

        Raises:
            EmitterError: frames too small, constant, NaN or negative throughout, or of another camera; a region that is
                not in the frame.
        """
        self.check(movie)
        checks = FrameChecks(movie.name)
        yield from self.predicted(movie, self.blocks(movie, frames), checks)
        checks.summarize()

    def check(self, movie: Movie) -> None:
        """Raise EmitterError for what ``tables`` refuses before it predicts, warn of what looks odd."""
        self._check_size(movie)
        self.camera.check_frame(movie.height, movie.width)
        inside = (slice(None), slice(None)) if self.roi is None else self.roi.inside
        check_sample(
            movie,
            lambda counts: self._photons(counts, self.roi).cpu().numpy(),
            self.trained_background,
            inside,
        )

    def blocks(self, movie: Movie, frames: tuple[int, int] | None = None, done: int = 0) -> Iterator[range]:
        """Places of the frames that are predicted at once, without the first that are done (see frame_blocks.py)."""
        read = self._read_region(movie)
        size_px = movie.height * movie.width if read is None else math.prod(read.size)
        size = max(1, self.compute.batch_px // size_px)
        return frame_blocks(movie, size, self.network.n_frames // 2, frames, done)

    def predicted(self, movie: Movie, blocks: Iterable[range], checks: FrameChecks) -> Tables:
        """As ``tables``, of these blocks of a movie that was checked; the next is read while one is predicted."""
        with contextlib.closing(prefetched(self._read(movie, blocks, checks))) as ready:
            for one in ready:
                yield len(one.numbers_B), self._predict_block(one)

    def on(self, device: str) -> Localizer:
        """The same on another device."""
        return replace(
            self,
            network=self.network.to(device),
            camera=self.camera.to(device),
            compute=replace(self.compute, device=device),
        )

    def _read(self, movie: Movie, blocks: Iterable[range], checks: FrameChecks) -> Iterator[_Block]:
        """The frames of every block, with their neighbours."""
        read = self._read_region(movie)
        for block in blocks:
            window_BT = windows(movie.frame_numbers, block.start, block.stop, self.network.n_frames)
            first, last = int(window_BT.min()), int(window_BT.max())
            counts_FHW = _counts(movie, first, last + 1, read)
            numbers_B = movie.frame_numbers[block.start : block.stop]
            checks(counts_FHW[block.start - first : block.stop - first], numbers_B)
            yield _Block(counts_FHW, read, window_BT - first, numbers_B)

    def _read_region(self, movie: Movie) -> Region | None:
        return None if self.roi is None else self.roi.with_margin(movie)

    def _check_size(self, movie: Movie) -> None:
        if self.roi is None:
            check_size(movie.name, movie.height, movie.width)
            return
        if self.roi.x1 > movie.width or self.roi.y1 > movie.height:
            raise EmitterError(
                f"roi ends at column {self.roi.x1} and row {self.roi.y1} and the frames of {movie.name} have "
                f"{movie.width} columns and {movie.height} rows: give one inside"
            )
        check_size(f"the roi of {movie.name}", *self.roi.size)

    def _predict_block(self, block: _Block) -> EmitterTable:
        """Emitters of a block's frames, sorted."""
        with torch.inference_mode():
            photons_FHW = self._photons(block.counts_FHW, block.read)
            window = torch.from_numpy(block.window_BT).to(self.compute.device)
            with torch.autocast(
                photons_FHW.device.type, torch.bfloat16, enabled=self.compute.precision == "bf16"
            ):
                maps_B6HW = self._maps(photons_FHW, window)
            emitters = decode(maps_B6HW, self.scaling, self.thresholds, self.network.cells_px[-1])
            columns = {}
            if self.uncertainty is not None:
                columns = self.uncertainty.columns(emitters, *photons_FHW.shape[-2:])
            if self.refiner is not None:
                flat_BHW = background(maps_B6HW, self.scaling, *photons_FHW.shape[-2:])
                middle_BHW = photons_FHW[window[:, self.network.n_frames // 2]]
                emitters, columns = self.refiner(emitters, columns, middle_BHW, flat_BHW)
        table = EmitterTable.from_emitters(emitters, self.pixel_size, block.numbers_B.tolist())
        return self._in_region(table.with_columns(**columns), block.read).sorted()

    def _in_region(self, table: EmitterTable, read: Region | None) -> EmitterTable:
        """Those in the region alone, with positions in the frame. An edge of the frame cuts nothing off."""
        if self.roi is None or read is None:
            return table
        x_nm, y_nm = self.pixel_size.to_nm(float(read.x0), float(read.y0))
        table = table.with_columns(x_nm=table.x_nm + x_nm, y_nm=table.y_nm + y_nm)
        x_px, y_px = self.pixel_size.to_px(table.x_nm, table.y_nm)
        return table.select(
            ((x_px >= self.roi.x0) | (read.x0 == self.roi.x0))
            & ((y_px >= self.roi.y0) | (read.y0 == self.roi.y0))
            & ((x_px < self.roi.x1) | (read.x1 == self.roi.x1))
            & ((y_px < self.roi.y1) | (read.y1 == self.roi.y1))
        )

    def _maps(self, photons_FHW: Tensor, window_BT: Tensor) -> Tensor:
        """Maps (B, 6, H / cell, W / cell) of a block's windows."""

        def maps(frames_FHW: Tensor) -> Tensor:
            return predict(self.network, frames_FHW, window_BT, self.compute.batch_px)

        return mean_of_turned(maps, photons_FHW) if self.compute.turned else maps(photons_FHW)

    def _photons(self, counts_FHW: np.ndarray, read: Region | None) -> Tensor:
        """Photons (F, H, W), on the device, of frames or of a region of them."""
        counts = torch.from_numpy(counts_FHW.astype(np.float32)).to(self.compute.device)
        if read is None:
            return self.camera.to_photons(counts)
        top_1, left_1 = (torch.tensor([start], device=counts.device) for start in (read.y0, read.x0))
        return self.camera.windows(top_1, left_1, *read.size).to_photons(counts[None])[0]


def _counts(movie: Movie, start: int, stop: int, read: Region | None) -> np.ndarray:
    """Frames, or a region of them, of which many more fit into a block than whole frames into memory."""
    if read is None:
        return movie.read(start, stop)
    n_frames = max(1, _READ_PX // (movie.height * movie.width))
    rows, columns = read.inside
    parts = (movie.read(k, min(k + n_frames, stop)) for k in range(start, stop, n_frames))
    return np.concatenate([part_FHW[:, rows, columns].copy() for part_FHW in parts])


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
