"""DECODE's emitters: an ``.h5`` file with the groups ``data``, ``meta`` and ``decode``.

DECODE's x runs along the rows of the frame, its y along the columns (its own transformation of the SMLM challenge's
tables, and SMAP's loader of DECODE's, exchange the two); pixel centres at integers; frames from 0. A quantity of which
nothing is known is a dataset without values.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from emitter.core.errors import EmitterError
from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize
from emitter.io.acquisition import Acquisition
from emitter.io.files import replacing
from emitter.io.table_columns import checked_table

_CENTRE_PX = 0.5
_LAYOUT_VERSION = "0.10.0"  # the version of DECODE whose layout is written


def is_of(file: h5py.File) -> bool:
    """Whether the file holds emitters of DECODE."""
    return isinstance(file.get("data"), h5py.Group) and "xyz" in file["data"] and "meta" in file


def read(path: Path, file: h5py.File, pixel_size: PixelSize | None) -> tuple[EmitterTable, Acquisition]:
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
    data = {name: dataset[()] for name, dataset in file["data"].items() if dataset.shape is not None}
    columns = {"frame": data["frame_ix"]}
    for suffix, names, shift_px in (
        ("", ("x_nm", "y_nm", "z_nm"), _CENTRE_PX),
        ("_sig", ("precision_x_nm", "precision_y_nm", "precision_z_nm"), 0.0),
    ):
        if f"xyz{suffix}" in data:
            y_N, x_N, z_N = data[f"xyz{suffix}"].reshape(-1, 3).astype(np.float64).T
            if unit == "px":
                x_N, y_N = size.to_nm(x_N, y_N)
            shift_x_nm, shift_y_nm = size.to_nm(shift_px, shift_px)
            columns |= dict(zip(names, (x_N + shift_x_nm, y_N + shift_y_nm, z_N), strict=True))
    for ours, theirs in (
        ("photons", "phot"),
        ("background", "bg"),
        ("probability", "prob"),
        ("precision_photons", "phot_sig"),
    ):
        if theirs in data:
            columns[ours] = data[theirs]
    return checked_table(path, "DECODE's h5", 0, columns), Acquisition(size)


def write(path: Path, table: EmitterTable, acquisition: Acquisition) -> None:
    """Write the emitters in pixels.

    Raises:
        EmitterError: no pixel size.
    """
    size = acquisition.pixel_size
    if size is None:
        raise EmitterError(f"{path} is to be in pixels, as DECODE's tables are: give pixel_size_nm=")
    unknown = np.full(len(table), np.nan)
    x_px, y_px = size.to_px(table.x_nm, table.y_nm)
    sigma_x, sigma_y, sigma_z, sigma_photons = (
        unknown if column is None else column
        for column in (
            table.precision_x_nm,
            table.precision_y_nm,
            table.precision_z_nm,
            table.precision_photons,
        )
    )
    sigma_x_px, sigma_y_px = size.to_px(sigma_x, sigma_y)
    volatile = {
        "xyz_sig": np.stack([sigma_y_px, sigma_x_px, sigma_z], axis=1),
        "phot_sig": sigma_photons,
        "xyz_cr": unknown,
        "phot_cr": unknown,
        "bg_cr": unknown,
        "bg_sig": unknown,
    }
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.create_group("meta").attrs.update(
            {"xy_unit": "px", "px_size": np.array([size.y_nm, size.x_nm], np.float32)}
        )
        file.create_group("decode").attrs["version"] = _LAYOUT_VERSION
        data = file.create_group("data")
        data["xyz"] = np.stack([y_px - _CENTRE_PX, x_px - _CENTRE_PX, table.z_nm], axis=1).astype(np.float32)
        data["phot"] = table.photons.astype(np.float32)
        data["bg"] = table.background.astype(np.float32)
        data["prob"] = table.probability.astype(np.float32)
        data["frame_ix"] = table.frame
        data["id"] = np.full(len(table), -1, np.int64)
        for name, values in volatile.items():
            data[name] = h5py.Empty("f") if np.isnan(values).all() else values.astype(np.float32)


def _pixel_size(meta: h5py.Group) -> PixelSize | None:
    """(rows, columns) in the file."""
    if "px_size" not in meta.attrs:
        return None
    size = np.asarray(meta.attrs["px_size"], np.float64).reshape(-1)
    return PixelSize(float(size[-1]), float(size[0]))
