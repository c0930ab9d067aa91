"""Movies of microscope makers, through optional packages: Nikon ``.nd2`` and Zeiss ``.czi``.

Shape suffixes: T frames, H rows, W columns.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from emitter.core.errors import EmitterError
from emitter.io.extras import needed
from emitter.io.movie import Movie


class Nd2Movie(Movie):
    """A Nikon ``.nd2`` file with one frame axis.

    Raises:
        EmitterError: the extra is not installed, the file cannot be read, or it has more axes.
    """

    def __init__(self, path: Path) -> None:
        nd2 = needed("nd2", "nd2")
        try:
            self._file = nd2.ND2File(path)
        except (OSError, ValueError) as error:
            raise EmitterError(f"{path} cannot be read as .nd2 ({error}): copy it again") from error
        try:
            n_frames, height, width = _frames_shape(path, dict(self._file.sizes))
            super().__init__(str(path), (n_frames, height, width), self._file.dtype)
        except EmitterError:
            self._file.close()
            raise

    def _read(self, start: int, stop: int) -> np.ndarray:
        frames = [np.asarray(self._file.read_frame(k)) for k in range(start, stop)]
        return np.stack(frames).reshape(stop - start, self.height, self.width)

    def close(self) -> None:
        self._file.close()


class CziMovie(Movie):
    """A Zeiss ``.czi`` file with one frame axis, each frame one block of the file.

    Raises:
        EmitterError: the extra is not installed, the file cannot be read, or it has more axes.
    """

    def __init__(self, path: Path) -> None:
        czifile = needed("czifile", "czi")
        try:
            self._file = czifile.CziFile(str(path))
        except (OSError, ValueError) as error:
            raise EmitterError(f"{path} cannot be read as .czi ({error}): copy it again") from error
        try:
            sizes = dict(zip(self._file.axes, self._file.shape, strict=True))
            n_frames, height, width = _frames_shape(path, sizes)
            self._blocks = self._in_order(sizes)
            if len(self._blocks) != n_frames:
                raise EmitterError(
                    f"{path} has {len(self._blocks)} blocks for {n_frames} frames: export the one movie without tiles"
                )
            super().__init__(str(path), (n_frames, height, width), self._file.dtype)
        except EmitterError:
            self._file.close()
            raise

    def _in_order(self, sizes: dict[str, int]) -> list[Any]:
        axis = next((k for k, (name, side) in enumerate(sizes.items()) if name not in "YX" and side > 1), 0)
        return sorted(self._file.filtered_subblock_directory, key=lambda entry: entry.start[axis])

    def _read(self, start: int, stop: int) -> np.ndarray:
        frames = [entry.data_segment().data() for entry in self._blocks[start:stop]]
        return np.stack(frames).reshape(stop - start, self.height, self.width)

    def close(self) -> None:
        self._file.close()


def _frames_shape(path: Path, sizes: dict[str, int]) -> tuple[int, int, int]:
    """(T, H, W) of named axes, of which only one beside rows and columns may have more than one place."""
    others = {name: side for name, side in sizes.items() if name not in "YX" and side > 1}
    if len(others) > 1 or "S" in others or not {"Y", "X"} <= sizes.keys():
        raise EmitterError(
            f"{path} has axes {sizes}: export the one movie, with one frame axis beside rows and columns"
        )
    return next(iter(others.values()), 1), sizes["Y"], sizes["X"]
