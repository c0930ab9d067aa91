"""DECODE's emitters: an ``.h5`` file with the groups ``data``, ``meta`` and ``decode``.

DECODE's x runs along the rows of the frame, its y along the columns (its own transformation of the SMLM challenge's
tables, and SMAP's loader of DECODE's, exchange the two); pixel centres at integers; frames from 0. A quantity of which
nothing is known is a dataset without values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from emitter.core.errors import EmitterError
from emitter.core.table import PRECISION_COLUMNS, EmitterTable
from emitter.core.units import PixelSize
from emitter.io.acquisition import Acquisition
from emitter.io.hdf5_file import created, opened
from emitter.io.parts import Parts, row_blocks
from emitter.io.table_columns import checked_table

_CENTRE_PX = 0.5
_SINGLE = {"photons": "phot", "background": "bg", "probability": "prob", "precision_photons": "phot_sig"}
# without values where nothing is known
_VOLATILE = ("xyz_sig", "phot_sig", "bg_sig", "xyz_cr", "phot_cr", "bg_cr")
_LAYOUT_VERSION = "0.10.0"  # the version of DECODE whose layout is written


def is_of(file: h5py.File) -> bool:
    """Whether the file holds emitters of DECODE."""
    return isinstance(file.get("data"), h5py.Group) and "xyz" in file["data"] and "meta" in file


def read(path: Path, file: h5py.File, pixel_size: PixelSize | None) -> tuple[Parts, Acquisition]:
    """Read the emitters; the pixel size is the file's unless given.

    Raises:
        EmitterError: an unknown unit, or a pixel size that neither the file nor the caller tells.
    """
    unit = file["meta"].attrs.get("xy_unit")
    unit = unit.decode() if isinstance(unit, bytes) else unit
    if unit not in ("px", "nm"):
        raise EmitterError(
            f"{path} has the unit '{unit}' for x and y: DECODE's are px and nm, write it again"
        )
    size = pixel_size or _pixel_size(file["meta"])
    if size is None:
        raise EmitterError(f"{path} does not tell its pixel size: give pixel_size_nm=")
    return Parts(partial(_parts, path, size, unit == "px")), Acquisition(size)


def _parts(path: Path, size: PixelSize, in_pixels: bool) -> Iterator[EmitterTable]:
    with opened(path) as file:
        wanted = {"frame_ix", "xyz", "xyz_sig", *_SINGLE.values()}
        sets = {
            name: dataset
            for name, dataset in file["data"].items()
            if name in wanted and isinstance(dataset, h5py.Dataset) and dataset.shape is not None
        }
        for rows in row_blocks(sets["frame_ix"].size):
            data = {name: dataset[rows] for name, dataset in sets.items()}
            columns = _our_columns(data, size, in_pixels)
            yield checked_table(path, "DECODE's h5", 0, columns, rows.start)


def _our_columns(data: dict[str, np.ndarray], size: PixelSize, in_pixels: bool) -> dict[str, np.ndarray]:
    columns = {"frame": data["frame_ix"]}
    for suffix, names, shift_px in (
        ("", ("x_nm", "y_nm", "z_nm"), _CENTRE_PX),
        ("_sig", ("precision_x_nm", "precision_y_nm", "precision_z_nm"), 0.0),
    ):
        if f"xyz{suffix}" in data:
            y_N, x_N, z_N = data[f"xyz{suffix}"].reshape(-1, 3).astype(np.float64).T
            if in_pixels:
                x_N, y_N = size.to_nm(x_N, y_N)
            shift_x_nm, shift_y_nm = size.to_nm(shift_px, shift_px)
            columns |= dict(zip(names, (x_N + shift_x_nm, y_N + shift_y_nm, z_N), strict=True))
    return columns | {ours: data[theirs] for ours, theirs in _SINGLE.items() if theirs in data}


def check(path: Path, acquisition: Acquisition) -> None:
    """Raise ``EmitterError`` where the pixel size, which a table in pixels needs, is not known."""
    _size_to_write(path, acquisition)


def _size_to_write(path: Path, acquisition: Acquisition) -> PixelSize:
    if acquisition.pixel_size is None:
        raise EmitterError(f"{path} is to be in pixels, as DECODE's tables are: give pixel_size_nm=")
    return acquisition.pixel_size


def write(path: Path, parts: Parts, acquisition: Acquisition) -> None:
    """Write the emitters in pixels.

    Raises:
        EmitterError: no pixel size.
    """
    size = _size_to_write(path, acquisition)
    survey = parts.survey
    known = set(survey.known) if survey.n_rows else set()
    sets = _their_sets(EmitterTable.empty(), size, known)
    row_bytes = sum(none.itemsize * math.prod(none.shape[1:]) for none in sets.values())
    with created(path, survey.n_rows * row_bytes) as file:
        file.create_group("meta").attrs.update(
            {"xy_unit": "px", "px_size": np.array([size.y_nm, size.x_nm], np.float32)}
        )
        file.create_group("decode").attrs["version"] = _LAYOUT_VERSION
        data = file.create_group("data")
        for name, none in sets.items():
            data.create_dataset(name, (survey.n_rows, *none.shape[1:]), none.dtype)
        for name in _VOLATILE:
            if name not in sets:
                data[name] = h5py.Empty("f")
        start = 0
        for block in parts.blocks():
            rows = slice(start, start + len(block))
            for name, values in _their_sets(block, size, known).items():
                data[name][rows] = values
            start = rows.stop


def _their_sets(table: EmitterTable, size: PixelSize, known: set[str]) -> dict[str, np.ndarray]:
    """DECODE's datasets of some rows: those that are always there, and the others of which anything is ``known``."""
    columns = {name: np.full(len(table), np.nan) for name in PRECISION_COLUMNS} | table.columns()
    x_px, y_px = size.to_px(table.x_nm, table.y_nm)
    sets = {"xyz": np.stack([y_px - _CENTRE_PX, x_px - _CENTRE_PX, table.z_nm], axis=1)}
    sets |= {
        theirs: columns[ours] for ours, theirs in _SINGLE.items() if theirs not in _VOLATILE or ours in known
    }
    if known & {"precision_x_nm", "precision_y_nm", "precision_z_nm"}:
        x_px, y_px = size.to_px(columns["precision_x_nm"], columns["precision_y_nm"])
        sets["xyz_sig"] = np.stack([y_px, x_px, columns["precision_z_nm"]], axis=1)
    whole = {"frame_ix": table.frame, "id": np.full(len(table), -1, np.int64)}
    return {name: values.astype(np.float32) for name, values in sets.items()} | whole


def _pixel_size(meta: h5py.Group) -> PixelSize | None:
    """(rows, columns) in the file."""
    if "px_size" not in meta.attrs:
        return None
    size = np.asarray(meta.attrs["px_size"], np.float64).reshape(-1)
    return PixelSize(float(size[-1]), float(size[0]))
