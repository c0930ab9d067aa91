"""A movie that lies in several files.

Files of one frame each keep the numbers of their names: when the numbering has a 0, file n is frame n;
otherwise it starts at 1 (or later) and file n is frame n − 1, so that ``00001.tif`` is frame 0 inside and
frame 1 in the ThunderSTORM table. Missing numbers stay missing. One file alone is frame 0 inside, whatever
its name says: one name does not tell which of its numbers counts frames. Stacks are laid end to end in the
natural order of their names.

Shape suffixes: T frames, H rows, W columns.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from emitter.core.errors import EmitterError
from emitter.io.movie import Movie, blocks

log = logging.getLogger(__name__)


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
        stated = []
        kinds: dict[tuple[int, int, np.dtype], Path] = {}
        for path in self._paths:
            with open_one(path) as part:
                self._lengths.append(part.n_frames)
                stated.append(part.pixel_size)
                kinds.setdefault((part.height, part.width, part.dtype), path)
        if len(kinds) > 1:
            sizes = ", ".join(f"{path.name} {h}×{w} {dtype}" for (h, w, dtype), path in kinds.items())
            raise EmitterError(f"the files of {name} differ in frame size or type ({sizes}): give one movie")
        height, width, dtype = next(iter(kinds))
        super().__init__(name, (sum(self._lengths), height, width), dtype, self._numbers(name))
        self.pixel_size = stated[0]

    def _numbers(self, name: str) -> np.ndarray | None:
        """Frame numbers from the names, or None, with a warning where names seem to hold them."""
        if max(self._lengths) == 1:
            numbers, stray = _numbers_of(self._paths)
            reason = "does not fit the names of the others, in which one number counts the frames"
        else:
            numbers, stray = None, self._paths[int(np.argmax(self._lengths))]
            reason = f"holds {max(self._lengths)} frames and most of the others one"
            if 2 * self._lengths.count(1) <= len(self._lengths):  # stacks
                _warn_of_missing_stacks(name, self._paths)
                return None
        if stray is not None and len(self._paths) > 1:
            _warn_once(
                f"{stray.name} of {name} {reason}: the frames are numbered from 1 in the order of the names, leave "
                "that file out to keep the numbers of the names"
            )
        elif stray is not None:
            _warn_once(
                f"{stray.name} is the only file of {name}: it is numbered as frame 1 as long as it is alone"
            )
        return numbers

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


@lru_cache(maxsize=64)
def _warn_once(message: str) -> None:
    """A movie that grows is opened again and again."""
    log.warning(message)


def _warn_of_missing_stacks(name: str, paths: Sequence[Path]) -> None:
    """Where most names hold a number at the same place and these leave one out."""
    found = Counter(around for path in paths for around in _numbers_in(path.stem))
    around = max(found, key=lambda one: found[one], default=None)
    numbers = {one[around] for one in map(_numbers_in, (path.stem for path in paths)) if around in one}
    first, last = min(numbers, default=0), max(numbers, default=0)
    countable = last - first < 2 * len(paths)  # what is farther apart, as dates are, counts no stacks
    missing = sorted(set(range(first, last)) - numbers) if countable else []
    if missing:
        listed = ", ".join(map(str, missing))
        _warn_once(
            f"the stacks of {name} are numbered and lack {listed}: the frames of the others are numbered "
            "as if nothing lay between, add what is missing if it is of this movie"
        )


def natural_key(path: Path) -> tuple[str, list[tuple[int, int, str]]]:
    """Sorts by folder, then by name with numbers by their value: 2.tif before 10.tif."""
    tokens = re.split(r"(\d+)", path.stem)
    return str(path.parent), [(0, int(t), t) if t.isdigit() else (1, 0, t) for t in tokens if t]


def _numbers_of(paths: Sequence[Path]) -> tuple[np.ndarray | None, Path | None]:
    """Frame numbers from names that differ in exactly one number; else None and the file that breaks this.

    A file alone breaks it when its name holds any number.
    """
    found = [_numbers_in(path.stem) for path in paths]
    shared = Counter(around for numbers in found for around in numbers)
    if len(paths) == 1 or not shared:
        return None, next((path for path, numbers in zip(paths, found, strict=True) if numbers), None)
    around, _ = shared.most_common(1)[0]
    taken: set[int] = set()
    for path, numbers in zip(paths, found, strict=True):
        if around not in numbers or numbers[around] in taken:
            return None, path
        taken.add(numbers[around])
    in_order = np.array([numbers[around] for numbers in found], dtype=np.int64)
    return (in_order if in_order.min() == 0 else in_order - 1), None


def _numbers_in(stem: str) -> dict[tuple[str, str], int]:
    """The numbers of a name, without those too long to count frames (dates), by what stands around them."""
    return {
        (stem[: digits.start()], stem[digits.end() :]): int(digits[0])
        for digits in re.finditer(r"\d+", stem)
        if int(digits[0]) < 2**31
    }
