"""Arrays in files: ``.npy``, HDF5 and zarr, the latter two by the path inside: ``file.h5:/group/dataset``.

Shape suffixes: T frames, H rows, W columns.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from emitter.core.errors import EmitterError
from emitter.io.extras import needed
from emitter.io.flat import FlatMovie
from emitter.io.movie import ArrayMovie, Movie

_STORE = re.compile(r"(?P<file>.+\.(?:(?P<hdf5>h5|hdf5|hdf)|zarr))(?::(?P<inside>.*))?", re.IGNORECASE)


def open_npy(path: Path) -> Movie:
    """A ``.npy`` array; one in Fortran's order, whose frames do not lie together, is read whole."""
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    if mapped.ndim == 3 and mapped.flags.c_contiguous:
        return FlatMovie(path, mapped.dtype, mapped.shape, mapped.offset)
    return ArrayMovie(np.load(path, allow_pickle=False), name=str(path))


def open_store(source: str) -> Movie | None:
    """A dataset of an HDF5 or zarr file, or None when the name is not of one, or of a file in a folder called so.

    Without a path inside, the file must hold one dataset of frames.

    Raises:
        EmitterError: no such file or dataset, several to choose from, or not an array of frames.
    """
    match = _STORE.fullmatch(source.rstrip("/"))
    if match is None or (match["inside"] and Path(source).expanduser().is_file()):
        return None
    path = Path(match["file"]).expanduser()
    if not path.exists():
        raise EmitterError(f"movie {path} does not exist: give a file, or FILE.h5:/PATH/IN/IT")
    root = h5py.File(path, "r") if match["hdf5"] else needed("zarr", "zarr").open(str(path), mode="r")
    try:
        array = _chosen(root, path, (match["inside"] or "").strip("/"))
        return _StoreMovie(array, root, path, f"{path}:/{(getattr(array, 'name', '') or '').strip('/')}")
    except BaseException:
        _close(root)
        raise


class _StoreMovie(ArrayMovie):
    def __init__(self, array: Any, root: Any, path: Path, name: str) -> None:
        self._root, self._path, self._size = root, path, path.stat().st_size
        super().__init__(array if array.ndim != 2 else np.asarray(array[...]), name)

    def _read(self, start: int, stop: int) -> np.ndarray:
        if self._path.is_file() and self._path.stat().st_size < self._size:  # HDF5 would give zeros
            raise EmitterError(f"{self._path} was cut after it was opened: copy or export it again")
        return super()._read(start, stop)

    def close(self) -> None:
        _close(self._root)


def _close(root: Any) -> None:
    if isinstance(root, h5py.File):
        root.close()


def _chosen(root: Any, path: Path, inside: str) -> Any:
    """The array named by the path inside, or the only one of two or three dimensions."""
    if hasattr(root, "shape"):  # a zarr array without a group
        return root
    if inside:
        if inside not in root or not hasattr(root[inside], "shape"):
            known = ", ".join(name for name, _ in _arrays(root)) or "none"
            raise EmitterError(f"{path} holds no dataset '/{inside}': choose one of its datasets ({known})")
        return root[inside]
    movies = [(name, array) for name, array in _arrays(root) if array.ndim in (2, 3)]
    if len(movies) != 1:
        known = ", ".join(name for name, _ in movies) or "none"
        raise EmitterError(
            f"{path} holds {len(movies)} datasets that may be the movie ({known}): name one with movie={path}:/NAME"
        )
    return movies[0][1]


def _arrays(group: Any, above: str = "") -> list[tuple[str, Any]]:
    """All arrays of a group and of those in it, by path."""
    found: list[tuple[str, Any]] = []
    for name in sorted(group.keys()):
        try:
            item = group[name]
        except KeyError:  # a link to what is not there
            continue
        path = f"{above}/{name}"
        if hasattr(item, "shape"):
            found.append((path, item))
        elif hasattr(item, "keys"):  # else a named type
            found += _arrays(item, path)
    return found
