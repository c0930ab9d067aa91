"""A movie that lies in several files.

Files of one frame each keep the numbers of their names: when the numbering has a 0, file n is frame n;
otherwise it starts at 1 (or later) and file n is frame n − 1, so that ``00001.tif`` is frame 0 inside and
frame 1 in the ThunderSTORM table. Missing numbers stay missing. Stacks are laid end to end in the natural
order of their names.

Shape suffixes: T frames, H rows, W columns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from emitter.core.errors import EmitterError
from emitter.io.movie import Movie, blocks


class SequenceMovie(Movie):
    """Files of equal frame size, one movie. Only the file that is being read is open.

    Raises:
        EmitterError: when the files differ in frame size or pixel type.
    """

    def __init__(self, name: str, paths: Sequence[Path], open_one: Callable[[Path], Movie]) -> None:
        self._paths = sorted(paths, key=natural_key)
        self._open_one = open_one
        self._current: tuple[int, Movie] | None = None
        self._lengths = []
        kinds: dict[tuple[int, int, np.dtype], Path] = {}
        for path in self._paths:
            with open_one(path) as part:
                self._lengths.append(part.n_frames)
                kinds.setdefault((part.height, part.width, part.dtype), path)
        if len(kinds) > 1:
            sizes = ", ".join(f"{path.name} {h}×{w} {dtype}" for (h, w, dtype), path in kinds.items())
            raise EmitterError(f"the files of {name} differ in frame size or type ({sizes}): give one movie")
        height, width, dtype = next(iter(kinds))
        numbers = _numbers(self._paths) if max(self._lengths) == 1 else None
        super().__init__(name, (sum(self._lengths), height, width), dtype, numbers)

    def _read(self, start: int, stop: int) -> np.ndarray:
        return np.concatenate([self._part(k).read(a, b) for k, a, b in blocks(self._lengths, start, stop)])

    def _part(self, index: int) -> Movie:
        if self._current is None or self._current[0] != index:
            self.close()
            self._current = (index, self._open_one(self._paths[index]))
        return self._current[1]

    def close(self) -> None:
        if self._current is not None:
            self._current[1].close()
            self._current = None


def natural_key(path: Path) -> tuple[str, list[tuple[int, int, str]]]:
    """Sorts by folder, then by name with numbers by their value: 2.tif before 10.tif."""
    tokens = re.split(r"(\d+)", path.stem)
    return str(path.parent), [(0, int(t), t) if t.isdigit() else (1, 0, t) for t in tokens if t]


def _numbers(sorted_paths: Sequence[Path]) -> np.ndarray | None:
    """Frame numbers from names that differ in exactly one number; None when they do not."""
    if len(sorted_paths) < 2:
        return None
    tokens = [re.split(r"(\d+)", path.stem) for path in sorted_paths]
    if len({len(name) for name in tokens}) > 1:
        return None
    varying = [column for column in zip(*tokens, strict=True) if len(set(column)) > 1]
    if len(varying) != 1 or not all(token.isdigit() for token in varying[0]):
        return None
    numbers = np.array([int(token) for token in varying[0]], dtype=np.int64)
    if len(set(numbers.tolist())) < len(numbers):
        return None
    return numbers if numbers.min() == 0 else numbers - 1
