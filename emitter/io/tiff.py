"""TIFF, BigTIFF, OME-TIFF and ImageJ stacks, through tifffile.

Shape suffixes: T frames, H rows, W columns.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import tifffile

from emitter.core.errors import EmitterError
from emitter.io.flat import read_flat
from emitter.io.movie import Movie, blocks
from emitter.io.pixel_size import stated_pixel_size

TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")
_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def is_tiff(path: Path) -> bool:
    """Whether the file begins as a TIFF or BigTIFF does."""
    with path.open("rb") as file:
        return file.read(4) in _MAGIC


class TiffMovie(Movie):
    """All frames of one TIFF file. Several series (a writer that saved frame by frame) are laid end to end.

    Args:
        path: the file.
        follow_ome: read the other files of a multi-file OME-TIFF too; False when they are given themselves.
        series: only this image series, counted from 0; None: all.

    Raises:
        EmitterError: not a TIFF, truncated, colour, images of several sizes, more than one axis beside rows
            and columns, a compression that cannot be read, or no such series.
    """

    def __init__(self, path: Path, follow_ome: bool = True, series: int | None = None) -> None:
        if not is_tiff(path):
            raise EmitterError(f"{path} is not a TIFF file (it does not begin like one): give a camera movie")
        with _damage_reported(path):
            self._file = tifffile.TiffFile(path, is_ome=None if follow_ome else False)
            try:
                len(self._file.pages)  # walks the whole chain of pages, so that a cut file shows now
                self._series = list(self._file.series)
            except BaseException:
                self._file.close()
                raise
        self._path = path
        try:
            self._choose(series)
            shapes = [_frames_shape(path, series) for series in self._series]
            if not shapes:
                raise EmitterError(f"{path} holds no image: give a camera movie")
            self._check(shapes)
            self._lengths = [shape[0] for shape in shapes]
            name = str(path) if series is None else f"{path}:/{series}"
            super().__init__(name, (sum(self._lengths), *shapes[0][1:]), self._series[0].dtype)
            self.pixel_size = stated_pixel_size(self._file)
        except BaseException:
            self.close()
            raise

    def _choose(self, series: int | None) -> None:
        """Keep one series only."""
        if series is None:
            return
        if series >= len(self._series):
            last = len(self._series) - 1
            which = f"one from {self._path}:/0 to {self._path}:/{last}" if last > 0 else str(self._path)
            raise EmitterError(f"{self._path} has {last + 1} image series and no '/{series}': give {which}")
        self._series = [self._series[series]]

    def _check(self, shapes: list[tuple[int, int, int]]) -> None:
        kinds = {(*shape[1:], series.dtype) for shape, series in zip(shapes, self._series, strict=True)}
        if len(kinds) > 1 or (len(shapes) > 1 and self._file.is_ome):
            raise EmitterError(
                f"{self._path} holds {len(shapes)} image series of {len(kinds)} kinds: name the one that is the movie, "
                f"from {self._path}:/0 to {self._path}:/{len(shapes) - 1}"
            )
        size = self._path.stat().st_size
        for series in self._series:
            pages = [] if series.dataoffset is not None else list(series.pages)
            if None in pages:
                raise EmitterError(
                    f"{self._path} lists {len(pages)} frames and lacks {pages.count(None)} of them, as after an "
                    f"acquisition that was stopped: give movie=[{self._path}], a list, for those that are there"
                )
            if _end_of_data(series, pages, self._file) > size:
                raise EmitterError(_TRUNCATED.format(path=self._path))

    def _read(self, start: int, stop: int) -> np.ndarray:
        return np.concatenate(
            [
                _read_series(self._series[k], self._path, a, b)
                for k, a, b in blocks(self._lengths, start, stop)
            ]
        )

    def close(self) -> None:
        self._file.close()


_TRUNCATED = "{path} is truncated or damaged: its pages point past its end, copy or export the file again"


@contextmanager
def _damage_reported(path: Path) -> Iterator[None]:
    """Refuse what tifffile only logs: a chain of pages that leaves the file, hence fewer frames."""
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("tifffile")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
    if any("invalid page offset" in message or "corrupted tag" in message for message in messages):
        raise EmitterError(_TRUNCATED.format(path=path))


def _frames_shape(path: Path, series: tifffile.TiffPageSeries) -> tuple[int, int, int]:
    """(T, H, W) of a series; any one axis beside rows and columns counts as the frames."""
    shape, axes = series.shape, series.axes
    by_tifffile = series.kind == "shaped"  # tifffile's own description of the array
    if axes == "SYX" and by_tifffile and series.dtype.itemsize > 1 and series.dataoffset is not None:
        axes = "TYX"  # not colour: how tifffile long stored a movie of 3 or 4 frames, as planes of one page
    if "S" in axes:
        raise EmitterError(f"{path} is a colour image (axes {axes}, shape {shape}): give a grey-scale movie")
    lead = shape[:-2]
    if axes[-2:] != "YX" or sum(side > 1 for side in lead) > 1:
        raise EmitterError(
            f"{path} has axes {axes} of shape {shape}: give a movie with one frame axis beside rows, columns"
        )
    return int(np.prod(lead)), int(shape[-2]), int(shape[-1])


def _end_of_data(
    series: tifffile.TiffPageSeries, pages: Sequence[tifffile.TiffPage], file: tifffile.TiffFile
) -> int:
    """Last byte of this file that the series needs; a multi-file OME-TIFF has pages elsewhere too."""
    if series.dataoffset is not None:
        return int(series.dataoffset + series.nbytes)
    own = [page for page in pages if page.parent is file]
    ends = [int(max(np.add(page.dataoffsets, page.databytecounts))) for page in own if len(page.dataoffsets)]
    return max(ends, default=0)


def _read_series(series: tifffile.TiffPageSeries, path: Path, start: int, stop: int) -> np.ndarray:
    """Frames of one series, (stop − start, H, W)."""
    height, width = series.shape[-2:]
    if (
        series.dataoffset is not None
    ):  # contiguous and uncompressed: also ImageJ's files over 4 GB with a single page
        dtype = np.dtype(series.keyframe.parent.byteorder + series.dtype.char)
        return read_flat(path, dtype, series.dataoffset, start, (stop - start, height, width))
    with ExitStack() as opened:
        frames = []
        for index in range(start, stop):
            handle = series.pages[index].parent.filehandle
            if handle.closed:  # another file of a multi-file OME-TIFF
                handle.open()
                opened.callback(handle.close)
            frames.append(series.pages[index].asarray().reshape(height, width))
    return np.stack(frames)
