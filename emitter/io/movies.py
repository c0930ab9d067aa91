"""Opening a movie of any supported format: one function."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from emitter.core.errors import EmitterError
from emitter.io.arrays import open_npy, open_store
from emitter.io.movie import ArrayMovie, Movie, told
from emitter.io.raw import open_dax, open_picasso_raw
from emitter.io.sequence import SequenceMovie, natural_key
from emitter.io.tiff import TIFF_SUFFIXES, TiffMovie
from emitter.io.vendors import CziMovie, Nd2Movie

__all__ = ["Movie", "movies_of", "open_movie"]

Source = str | Path | np.ndarray | Sequence[str | Path]
_SERIES = re.compile(
    rf"(?P<file>.+(?:{'|'.join(map(re.escape, TIFF_SUFFIXES))})):/?(?P<series>\d+)", re.IGNORECASE
)


def open_movie(source: Source, frame_shape_HW: tuple[int, int] | None = None, growing: bool = False) -> Movie:
    """Open a movie; its frames are read in blocks.

    Args:
        source: a TIFF, BigTIFF or OME-TIFF stack, ``.dax``, Picasso ``.raw``, ``.npy``, ``.nd2``, ``.czi``; one image
            series of a TIFF, as ``file.tif:/0``; a dataset, as ``file.h5:/group/dataset`` or
            ``folder.zarr:/group/array``; a folder of TIFFs (or one that holds a single such folder), a glob or a list
            of files (taken in the natural order of their names), all one movie; or an array (H, W) or (T, H, W).
        frame_shape_HW: rows and columns of a ``.dax`` that has no ``.inf``; refused with any other format.
        growing: a file that is still being written: a ``.dax`` or ``.raw`` then has the whole frames that are there.

    Raises:
        EmitterError: with the file and the reason, when it is not a movie that can be read whole.
    """
    if isinstance(source, np.ndarray):
        return ArrayMovie(source)
    if isinstance(source, (str, Path)):
        with told(str(source)):
            return _open_named(Path(source).expanduser(), frame_shape_HW, growing)
    name = f"the list of {len(source)} files"
    with told(name):
        files = [Path(item).expanduser() for item in source]
        if missing := [str(file) for file in files if not file.is_file()]:
            raise EmitterError(f"{missing[0]} does not exist: check the list of movie files")
        if not files:
            raise EmitterError("the list of movie files is empty: name at least one file")
        return _open_files(name, files, frame_shape_HW, growing)


def _open_named(path: Path, frame_shape_HW: tuple[int, int] | None, growing: bool) -> Movie:
    """What one name stands for."""
    if (stored := open_store(str(path))) is not None:
        return stored
    if path.is_file():
        return _open_file(path, frame_shape_HW, growing=growing)
    if (one := _SERIES.fullmatch(str(path))) and Path(one["file"]).is_file():
        return TiffMovie(Path(one["file"]), series=int(one["series"]))
    return _open_files(str(path), _files_of(path), frame_shape_HW, growing)


def _open_files(
    name: str, files: Sequence[Path], frame_shape_HW: tuple[int, int] | None, growing: bool
) -> Movie:
    open_one = partial(_open_file, frame_shape_HW=frame_shape_HW, follow_ome=False, growing=growing)
    return SequenceMovie(name, files, open_one)


def movies_of(source: str | Sequence[str]) -> list[str]:
    """What a file, folder, glob or list of them names, as one movie each, in natural order.

    Raises:
        EmitterError: nothing.
    """
    if not isinstance(source, str):
        return [movie for one in source for movie in movies_of(one)]
    path = Path(source).expanduser()
    if (path.is_dir() and path.suffix.lower() != ".zarr") or (glob.has_magic(source) and not path.exists()):
        return [str(file) for file in sorted(_files_of(path), key=natural_key)]
    return [source]


def _files_of(path: Path) -> list[Path]:
    """The files of a folder or of a glob pattern."""
    if path.is_dir():
        if files := _tiffs_in(path):
            return files
        inner = [folder for folder in sorted(path.iterdir()) if folder.is_dir() and _tiffs_in(folder)]
        if len(inner) == 1:  # Micro-Manager's folder of an acquisition with a folder for its one position
            return _tiffs_in(inner[0])
        which = f", but {len(inner)} folders that do ({', '.join(f.name for f in inner)})" if inner else ""
        raise EmitterError(f"folder {path} holds no TIFF file{which}: give a movie or a folder of TIFF files")
    if glob.has_magic(str(path)):
        files = [Path(match) for match in glob.glob(str(path)) if Path(match).is_file()]  # noqa: PTH207 (absolute patterns)
        if not files:
            raise EmitterError(f"no file matches {path}: check the pattern and put it in quotes")
        return files
    raise EmitterError(f"movie {path} does not exist: give a file, a folder of TIFF files or a glob pattern")


def _tiffs_in(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if file.suffix.lower() in TIFF_SUFFIXES and file.name[0] != "."]


def _open_file(
    path: Path,
    frame_shape_HW: tuple[int, int] | None = None,
    follow_ome: bool = True,
    growing: bool = False,
) -> Movie:
    suffix = path.suffix.lower()
    if frame_shape_HW is not None and suffix != ".dax":
        raise EmitterError(
            f"{path} tells its frame size itself: leave frame_size_px out, it is for .dax files"
        )
    with told(str(path)):
        if suffix == ".dax":
            return open_dax(path, frame_shape_HW, growing)
        if suffix == ".raw":
            return open_picasso_raw(path, growing)
        if suffix in _READERS:
            return _READERS[suffix](path)
        return TiffMovie(path, follow_ome)


_READERS: dict[str, Callable[[Path], Movie]] = {".npy": open_npy, ".nd2": Nd2Movie, ".czi": CziMovie}
