"""Movies without a header of their own: ``.dax`` with its ``.inf``, Picasso's ``.raw`` with its ``.yaml``.

Both describe their pixels in a small text file beside the movie.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emitter.core.errors import EmitterError
from emitter.io.flat import FlatMovie
from emitter.io.movie import Movie
from emitter.io.pixel_size import plausible


@dataclass(frozen=True)
class _Layout:
    height: int
    width: int
    dtype: np.dtype
    n_frames: int | None = None  # as the text file says; None when it does not


def open_dax(path: Path, frame_shape_HW: tuple[int, int] | None = None, growing: bool = False) -> Movie:
    """A ``.dax`` movie. Without its ``.inf``, give ``frame_shape_HW`` (16 bit, big endian is then assumed).

    ``growing``: the whole frames that are there now, whatever number the ``.inf`` says.

    Raises:
        EmitterError: no ``.inf`` and no shape, a missing or wrong entry, or a file of another length.
    """
    info = path.with_suffix(".inf")
    if frame_shape_HW is not None:
        return _open_flat(path, _Layout(*frame_shape_HW, np.dtype(">u2")), growing)
    if not info.is_file():
        raise EmitterError(
            f"{path} has no {info.name} beside it: write that text file with the line "
            "'frame dimensions = WIDTH x HEIGHT', or give localize.py frame_size_px=[ROWS,COLUMNS]"
        )
    entries = _entries(info, "=")
    size = re.fullmatch(r"(\d+)\s*x\s*(\d+)", entries.get("frame dimensions", ""))
    if size is None:
        raise EmitterError(f"{info} lacks the line 'frame dimensions = WIDTH x HEIGHT': add it")
    width, height = int(size[1]), int(size[2])
    kind = entries.get("data type", "16 bit integers (binary, big endian)")
    dtype = np.dtype(("<" if "little" in kind else ">") + ("u1" if kind.startswith("8 bit") else "u2"))
    count = entries.get("number of frames", "")
    return _open_flat(path, _Layout(height, width, dtype, int(count) if count.isdigit() else None), growing)


def open_picasso_raw(path: Path, growing: bool = False) -> Movie:
    """A Picasso ``.raw`` movie, described by the ``.yaml`` of the same name; ``growing`` as of a ``.dax``.

    Raises:
        EmitterError: no ``.yaml``, a missing or wrong entry, or a file of another length.
    """
    info = path.with_suffix(".yaml")
    if not info.is_file():
        raise EmitterError(f"{path} has no {info.name} beside it: give Picasso's yaml file with the movie")
    entries = _entries(info, ":")
    try:
        dtype = np.dtype(entries.get("data type", "uint16")).newbyteorder(
            "S" if entries["byte order"] == ">" else "="
        )
        layout = _Layout(int(entries["height"]), int(entries["width"]), dtype, int(entries["frames"]))
    except (KeyError, ValueError, TypeError) as error:
        raise EmitterError(
            f"{info} lacks or misspells an entry ({error}): it needs Byte Order, Data Type, Frames, "
            "Height and Width"
        ) from error
    movie = _open_flat(path, layout, growing)
    stated = entries.get("camera.pixelsize", entries.get("pixelsize", ""))
    if re.fullmatch(r"\d+(\.\d+)?", stated):
        movie.pixel_size = plausible(float(stated), float(stated))
    return movie


def _entries(path: Path, separator: str) -> dict[str, str]:
    """The lines ``name = value`` of a small text file; the first of a name counts."""
    entries: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        name, found, value = line.partition(separator)
        if found:
            entries.setdefault(name.strip().lower(), value.strip().strip("'\""))
    return entries


def _open_flat(path: Path, layout: _Layout, growing: bool) -> Movie:
    """A file of nothing but pixels."""
    frame_bytes = layout.height * layout.width * layout.dtype.itemsize
    size = path.stat().st_size
    whole, rest = divmod(size, frame_bytes) if frame_bytes else (0, 0)
    if growing:
        rest = 0
    expected = whole if growing or layout.n_frames is None else layout.n_frames
    if rest or not whole or whole < expected:
        raise EmitterError(
            f"{path} has {size} bytes, which is not {expected or 'some'} whole frames of {layout.height} "
            f"rows × {layout.width} columns: it is truncated, or its frame size is wrong"
        )
    return FlatMovie(path, layout.dtype, (expected, layout.height, layout.width))
