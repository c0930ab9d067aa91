"""Movies of microscope makers, through optional packages: Nikon ``.nd2`` and Zeiss ``.czi``.

Shape suffixes: T frames, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from emitter.core.errors import EmitterError
from emitter.io.extras import needed
from emitter.io.movie import Movie

_CZI_TYPES = {"Gray8": "uint8", "Gray16": "uint16", "Gray32Float": "float32"}


class Nd2Movie(Movie):
    """A Nikon ``.nd2`` file of one channel with one frame axis, time or depth.

    Raises:
        EmitterError: the extra is not installed, the file cannot be read, or it has more axes.
    """

    def __init__(self, path: Path) -> None:
        nd2 = needed("nd2", "nd2")
        self._path, self._n_bytes = path, path.stat().st_size
        self._file = nd2.ND2File(path)
        try:
            sizes = dict(self._file.sizes)
            _, n_frames = _frame_axis(path, sizes)
            super().__init__(str(path), (n_frames, sizes["Y"], sizes["X"]), self._file.dtype)
        except BaseException:
            self._file.close()
            raise

    def _read(self, start: int, stop: int) -> np.ndarray:
        if (
            self._path.stat().st_size < self._n_bytes
        ):  # it is mapped: reading beyond the end would end the program
            raise EmitterError(f"{self._path} became shorter while it was read: copy it again")
        frames = [np.asarray(self._file.read_frame(k)) for k in range(start, stop)]
        return np.stack(frames).reshape(stop - start, self.height, self.width)

    def close(self) -> None:
        self._file.close()


class CziMovie(Movie):
    """A Zeiss ``.czi`` file of one channel and one scene with one frame axis, time or depth.

    Raises:
        EmitterError: the extra is not installed, the file cannot be read, or it has more axes.
    """

    def __init__(self, path: Path) -> None:
        czi = needed("pylibCZIrw.czi", "czi")
        self._file = czi.CziReader(str(path))
        try:
            sizes = {name: stop - start for name, (start, stop) in self._file.total_bounding_box.items()}
            scenes = len(self._file.scenes_bounding_rectangle)
            self._axis, n_frames = _frame_axis(path, {**sizes, "scene": max(1, scenes)})
            kind = next(iter(self._file.pixel_types.values()))
            if kind not in _CZI_TYPES:
                raise EmitterError(f"{path} holds pixels of type {kind}: give a grey-scale movie")
            super().__init__(str(path), (n_frames, sizes["Y"], sizes["X"]), np.dtype(_CZI_TYPES[kind]))
        except BaseException:
            self.close()
            raise

    def _read(self, start: int, stop: int) -> np.ndarray:
        first = self._file.total_bounding_box[self._axis][0]
        frames = [self._file.read(plane={self._axis: first + k})[..., 0] for k in range(start, stop)]
        return np.stack(frames)

    def close(self) -> None:
        self._file.close()


def _frame_axis(path: Path, sizes: Mapping[str, int]) -> tuple[str, int]:
    """The name and length of the frame axis of named axes; besides rows and columns no other may have a length."""
    longer = {name: side for name, side in sizes.items() if name not in "YX" and side > 1}
    if len(longer) > 1 or not longer.keys() <= {"T", "Z"} or not {"Y", "X"} <= sizes.keys():
        axes = ", ".join(f"{name} {side}" for name, side in sizes.items())
        raise EmitterError(
            f"{path} has the axes {axes}: export the one movie, of one channel and with one frame axis (T or Z)"
        )
    return next(iter(longer.items()), ("T", 1))
