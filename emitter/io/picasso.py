"""Picasso's localizations: the compound dataset ``/locs`` of an ``.hdf5`` file, and a ``.yaml`` beside it.

x, y and their precisions in pixels with the centres at integers (Picasso 1 writes the same times the pixel size, and
marks the file; it reads both), z and its precision in nm; frames from 0. Picasso
drops, without a word, every row that has a NaN in any column, lies outside [0, Width) or [0, Height), or has negative
photons or precisions; what is written here it keeps whole.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml

from emitter.core.errors import EmitterError, require
from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize
from emitter.io.acquisition import Acquisition
from emitter.io.files import replacing
from emitter.io.hdf5_file import created, opened
from emitter.io.parts import Parts, Sample, Survey, row_blocks
from emitter.io.table_columns import checked_table, pick

log = logging.getLogger(__name__)

_COLUMNS = {
    "frame": ("frame",),
    "x_nm": ("x",),
    "y_nm": ("y",),
    "z_nm": ("z",),
    "photons": ("photons",),
    "background": ("bg",),
    "probability": ("probability",),
    "precision_x_nm": ("lpx",),
    "precision_y_nm": ("lpy",),
    "precision_z_nm": ("lpz",),
    "precision_photons": ("precision_photons",),
}  # probability and precision_photons are ours: Picasso keeps columns that it does not know
_LATERAL = ("lpx", "lpy")
_UNKNOWN_BELOW_0 = ("lpx", "lpy", "lpz", "precision_photons")
_AT_LEAST_0 = ("photons",)  # below it an estimate of almost nothing
_CENTRE_PX = 0.5
_ASSUMED = "Assumed columns"  # our key of the yaml: columns that hold nothing that was known


def is_of(file: h5py.File) -> bool:
    """Whether the file holds localizations of Picasso."""
    return isinstance(file.get("locs"), h5py.Dataset) and file["locs"].dtype.names is not None


def read(path: Path, file: h5py.File, pixel_size: PixelSize | None) -> tuple[Parts, Acquisition]:
    """Read the localizations, and from the metadata the pixel size (unless given) and the movie's extent.

    Raises:
        EmitterError: a column missing, or a pixel size that neither the metadata nor the caller tells.
    """
    metadata = _metadata(path, file)
    acquisition = Acquisition(pixel_size).filled_from(_acquisition(path, metadata))
    if acquisition.pixel_size is None:
        raise EmitterError(
            f"{path} is in pixels and {path.with_suffix('.yaml').name} beside it has no Pixelsize: "
            "give pixel_size_nm="
        )
    there = file["locs"].dtype.names
    assumed = metadata.get(_ASSUMED) or []
    theirs = pick({name: name for name in there if name not in assumed}, _COLUMNS)
    if not {"frame", "x_nm", "y_nm"} <= theirs.keys():
        raise EmitterError(f"{path} has the columns {', '.join(there)}: expected frame, x, y")
    in_nm = _is_in_nm(path, file)
    unread = [name for name in there if name not in theirs.values()]
    return Parts(partial(_parts, path, theirs, acquisition.pixel_size, in_nm), unread), acquisition


def _parts(path: Path, theirs: dict[str, str], size: PixelSize, in_nm: bool) -> Iterator[EmitterTable]:
    """``theirs``: the file's columns by our names."""
    with opened(path) as file:
        for rows in row_blocks(len(file["locs"])):
            locs = file["locs"][rows]
            columns = {ours: locs[name] for ours, name in theirs.items()}
            for axis, pixel_nm in (("x_nm", size.x_nm), ("y_nm", size.y_nm)):
                unit_nm = 1.0 if in_nm else pixel_nm
                columns[axis] = columns[axis].astype(np.float64) * unit_nm + _CENTRE_PX * pixel_nm
                if f"precision_{axis}" in columns:
                    columns[f"precision_{axis}"] = columns[f"precision_{axis}"].astype(np.float64) * unit_nm
            yield checked_table(path, "Picasso's hdf5", 0, columns, rows.start)


def check(path: Path, acquisition: Acquisition) -> None:
    """Whether a table can be written to ``path`` and the ``.yaml`` of the same name.

    Raises:
        EmitterError: no pixel size, pixels that are not square, or a ``.yaml`` of another file.
    """
    require(
        path.suffix != ".yaml", f"output is '{path}', where Picasso's metadata goes: give it the ending .hdf5"
    )
    _square_pixel_nm(path, acquisition)
    beside = path.with_suffix(".yaml")
    if beside.exists() and not path.exists():
        raise EmitterError(f"{beside} is there already, of another file: choose another name for {path.name}")


def write(path: Path, parts: Parts, acquisition: Acquisition) -> None:
    """Write ``path`` and the ``.yaml`` of the same name; a warning says what was filled or left out.

    Raises:
        EmitterError: what ``check`` refuses, fewer frames than the table has, or no emitters and nobody who tells the
            movie's extent.
    """
    check(path, acquisition)
    pixel_nm = _square_pixel_nm(path, acquisition)
    height, width, n_frames = _extent(path, parts.survey, acquisition, pixel_nm)
    inside = partial(_inside, parts, pixel_nm, height, width)
    columns = _looked_through(inside())
    n_rows = columns["frame"].n_rows
    _say_what_changes(path, parts.survey.n_rows - n_rows, parts.survey.n_rows, columns)
    information = {
        "Byte Order": "<",
        "Width": width,
        "Height": height,
        "Frames": n_frames,
        "Pixelsize": pixel_nm,
        "Generated by": "emitter",
        _ASSUMED: [name for name, column in columns.items() if 0 < n_rows == column.n_unknown],
    }
    kind = np.dtype([(name, np.uint32 if name == "frame" else np.float32) for name in columns])
    # the table gets its name before the .yaml, which alone would be taken for another file's
    with replacing(path.with_suffix(".yaml")) as metadata_file, created(path, n_rows * kind.itemsize) as file:
        metadata_file.write_text(yaml.safe_dump(information, sort_keys=False), encoding="utf-8")
        locs = file.create_dataset("locs", (n_rows,), kind)
        start = 0
        for block in inside():
            rows = np.empty(len(block["frame"]), kind)
            for name, column in _filled(block, columns).items():
                rows[name] = column
            locs[start : start + len(rows)] = rows
            start += len(rows)


def _is_in_nm(path: Path, file: h5py.File) -> bool:
    """Whether the file is of Picasso 1, which keeps lengths in nm; older ones bear no version."""
    version = file.attrs.get("picasso_format")
    if version is None:
        return False
    if str(version).partition(".")[0] != "1":
        raise EmitterError(
            f"{path} is of Picasso's format {version}: only 1 and older are read, write it as such"
        )
    return True


def _square_pixel_nm(path: Path, acquisition: Acquisition) -> float:
    size = acquisition.pixel_size
    if size is None:
        raise EmitterError(f"{path} is to be in pixels, as Picasso's tables are: give pixel_size_nm=")
    if size.x_nm != size.y_nm:
        raise EmitterError(
            f"{path} cannot be written with pixels of {size.x_nm:g} × {size.y_nm:g} nm: Picasso has square pixels, "
            "choose another format"
        )
    return float(size.x_nm)


def _extent(path: Path, survey: Survey, acquisition: Acquisition, pixel_nm: float) -> tuple[int, int, int]:
    """Rows, columns and frames of the movie; what is not known is taken from the last emitter of each."""
    n_frames = int(survey.largest["frame"]) + 1
    if acquisition.n_frames is not None and acquisition.n_frames < n_frames:
        raise EmitterError(
            f"n_frames is {acquisition.n_frames} and the table has emitters in frame {n_frames - 1}, counted from 0: "
            "give the number of the movie's frames"
        )
    known = acquisition.frame_size_px is not None and acquisition.n_frames is not None
    if not survey.n_rows and not known:
        raise EmitterError(
            f"{path} would have no emitters that tell the movie's extent, which Picasso needs: give convert.py the "
            "movie's with frame_size_px=[rows,columns] and n_frames="
        )
    seen = [survey.largest[name] / pixel_nm for name in ("y_nm", "x_nm")]
    rows, columns = acquisition.frame_size_px or (max(1, int(np.ceil(extent))) for extent in seen)
    if not known:
        log.warning(
            "%s: taken from the last emitters, %s: give the movie's with frame_size_px= and n_frames=",
            path.with_suffix(".yaml"),
            f"{rows} × {columns} pixels and {acquisition.n_frames or n_frames} frames",
        )
    return rows, columns, acquisition.n_frames or n_frames


def _inside(parts: Parts, pixel_nm: float, height: int, width: int) -> Iterator[dict[str, np.ndarray]]:
    """The known columns as Picasso stores them, block by block, of the emitters inside the frame as it sees it; one
    block without rows where there are none."""
    names = parts.survey.known
    none = EmitterTable(**dict.fromkeys(parts.survey.names, np.empty(0)))
    for block in chain([none], parts.blocks()):
        columns = block.columns()
        columns = _in_pixels({name: columns[name] for name in names}, pixel_nm)
        x_px, y_px = columns["x"], columns["y"]
        inside = (x_px >= 0) & (x_px < width) & (y_px >= 0) & (y_px < height)
        yield {name: column[inside] for name, column in columns.items()}


def _in_pixels(columns: dict[str, np.ndarray], pixel_nm: float) -> dict[str, np.ndarray]:
    """Picasso's columns as it stores them; the lateral precisions are always there."""
    shift = {"x_nm": _CENTRE_PX, "y_nm": _CENTRE_PX}
    unknown = np.full(len(columns["frame"]), np.nan, np.float32)
    converted = {"frame": columns["frame"].astype(np.uint32)}
    for ours, (theirs, *_) in _COLUMNS.items():
        if ours in ("x_nm", "y_nm", "precision_x_nm", "precision_y_nm"):
            column = columns[ours] / pixel_nm - shift.get(ours, 0.0) if ours in columns else unknown
        elif ours in columns and ours != "frame":
            column = columns[ours]
        else:
            continue
        with np.errstate(over="ignore"):  # infinite then, and filled
            converted[theirs] = column.astype(np.float32)
    return converted


@dataclass
class _Column:
    """What is known of all rows of a column: how many values say nothing or are raised to 0, and the others' median."""

    n_rows: int = 0
    n_wrong: int = 0
    n_raised: int = 0
    n_unknown: int = 0
    good: Sample = field(default_factory=Sample)

    def add(self, name: str, values: np.ndarray) -> None:
        wrong = _wrong(name, values)
        self.n_rows += len(values)
        self.n_wrong += int(np.count_nonzero(wrong))
        self.n_unknown += int(np.count_nonzero(np.isnan(values)))
        good = values[~wrong]
        if name in _AT_LEAST_0:
            self.n_raised += int(np.count_nonzero(good < 0))
        self.good.add(good)


def _looked_through(blocks: Iterable[dict[str, np.ndarray]]) -> dict[str, _Column]:
    columns: dict[str, _Column] = defaultdict(_Column)
    for block in blocks:
        for name, values in block.items():
            columns[name].add(name, values)
    return columns


def _wrong(name: str, values: np.ndarray) -> np.ndarray:
    """Which values say nothing; Picasso drops their row."""
    wrong = ~np.isfinite(values)
    return wrong | (values < 0) if name in _UNKNOWN_BELOW_0 else wrong


def _filled(block: dict[str, np.ndarray], columns: dict[str, _Column]) -> dict[str, np.ndarray]:
    """No value is left that makes Picasso drop its row: the column's median takes an unknown one's place (of a sample
    in long tables), 0 that of photons below 0.

    A lateral precision of which nothing is known is one pixel over √photons: the standard error of the mean of
    photons that spread with a standard deviation of one pixel (Thompson et al. 2002, without its further terms).
    """
    filled = dict(block)
    for name, values in block.items():
        of_all = columns[name]
        if of_all.n_wrong:
            instead: np.ndarray | float = 0.0
            if of_all.n_wrong < of_all.n_rows:
                instead = of_all.good.median()
            elif name in _LATERAL:
                instead = 1 / np.sqrt(np.maximum(filled.get("photons", np.float32(1)), 1))
            filled[name] = np.where(_wrong(name, values), instead, values)
        if of_all.n_raised:
            filled[name] = np.maximum(filled[name], 0)
    return filled


def _say_what_changes(path: Path, n_outside: int, n_all: int, columns: dict[str, _Column]) -> None:
    if n_outside:
        log.warning(
            "%s: %d of %d emitters left out, since Picasso drops what lies outside the frame or before the centre of "
            "its first row and column of pixels",
            path,
            n_outside,
            n_all,
        )
    notes = []
    for name, column in columns.items():
        if column.n_raised:
            log.warning(
                "%s: %s of %d below 0 written as 0, since Picasso drops such rows",
                path,
                name,
                column.n_raised,
            )
        if column.n_wrong:
            of_none = "1 pixel / √photons" if name in _LATERAL else "0"
            value = "the column's median" if column.n_wrong < column.n_rows else of_none
            notes.append(f"{name} of {column.n_wrong} with {value}")
    if notes:
        log.warning("%s: filled, since Picasso drops rows with unknown values: %s", path, ", ".join(notes))


def _metadata(path: Path, file: h5py.File) -> dict[str, Any]:
    """What the yaml beside the file, or newer versions within it, say: as in Picasso, the last document counts."""
    beside = path.with_suffix(".yaml")
    try:
        if beside.is_file():
            documents = list(yaml.safe_load_all(beside.read_text(encoding="utf-8")))
        elif "metadata" in file:
            documents = json.loads(file["metadata"][()])
        else:
            documents = []
    except (yaml.YAMLError, ValueError) as error:  # ValueError: JSON's, and bytes that are not UTF-8
        raise EmitterError(f"{beside} is not readable as Picasso's metadata: copy it again") from error
    last: dict[str, Any] = {}
    for document in documents:
        if isinstance(document, dict):
            last |= {name: value for name, value in document.items() if value}
    return last


def _acquisition(path: Path, metadata: dict[str, Any]) -> Acquisition:
    try:
        size = float(metadata["Pixelsize"]) if "Pixelsize" in metadata else None
        extent = (
            (int(metadata["Height"]), int(metadata["Width"]))
            if {"Height", "Width"} <= metadata.keys()
            else None
        )
        frames = int(metadata["Frames"]) if "Frames" in metadata else None
    except (TypeError, ValueError) as error:
        raise EmitterError(
            f"{path.with_suffix('.yaml')} has a Pixelsize, Width, Height or Frames that is no number: correct it"
        ) from error
    return Acquisition(PixelSize.of(size) if size is not None else None, extent, frames)
