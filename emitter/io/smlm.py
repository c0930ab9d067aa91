"""SMLM 0.2: a zip archive of ``manifest.json`` and packed little-endian rows.

Source: the specification of the format by Ouyang et al., github.com/imodpasteur/smlm-file-format. It leaves the
frames' first number and the origin open: written here as in ThunderSTORM's tables, whose plug-in writes the format
(frames from 1, the image's outer corner), with a note of ours in the manifest. Frames are uint32, as the
specification strikes the signed kinds out.
"""

from __future__ import annotations

import json
import logging
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from emitter.core.errors import EmitterError
from emitter.core.units import PixelSize
from emitter.io.acquisition import Acquisition
from emitter.io.files import replacing
from emitter.io.parts import Parts
from emitter.io.table_columns import checked_table, pick

log = logging.getLogger(__name__)

_MANIFEST = "manifest.json"
_VERSION = "0.2"
_FORMAT = "smlm-table(binary)"
_TABLE = "table-0.bin"
# For each of our columns the headers that are read, the first of which is written, and the unit.
_HEADERS = {
    "frame": (("frame",), "frame"),
    "x_nm": (("x", "position_x", "x_position", "x [nm]"), "nm"),
    "y_nm": (("y", "position_y", "y_position", "y [nm]"), "nm"),
    "z_nm": (("z", "position_z", "z_position", "z [nm]"), "nm"),
    "photons": (("intensity", "intensity_photon_", "intensity [photon]"), "photon"),
    "background": (("background", "local_background", "offset [photon]"), "photon"),
    "probability": (("probability",), ""),
    "precision_x_nm": (("x_precision", "uncertainty_x", "uncertainty_xy [nm]", "uncertainty [nm]"), "nm"),
    "precision_y_nm": (("y_precision", "uncertainty_y", "uncertainty_xy [nm]", "uncertainty [nm]"), "nm"),
    "precision_z_nm": (("z_precision", "uncertainty_z", "uncertainty_z [nm]"), "nm"),
    "precision_photons": (("precision_photons",), "photon"),
}
_CANDIDATES = {ours: names for ours, (names, _) in _HEADERS.items()}
# What zipfile and json raise where an archive's bytes are not what they were written as.
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    RuntimeError,
    LookupError,
    TypeError,
    ValueError,
)
_LENGTHS_NM = {"": 1.0, "nm": 1.0, "um": 1e3, "mm": 1e6, "angstrom": 0.1}


def is_smlm(path: Path) -> bool:
    """Whether the file is a zip archive with a manifest."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _MANIFEST in archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError):  # all of a broken list of contents
        return False


def read_smlm(path: Path, pixel_size: PixelSize | None) -> tuple[Parts, Acquisition]:
    """Read all tables of the archive, one after the other.

    Raises:
        EmitterError: another version, an unknown kind of column or unit, no positions, or rows that are cut off.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = json.loads(archive.read(_MANIFEST))
            if manifest["format_version"] != _VERSION:
                raise EmitterError(
                    f"{path} is SMLM {manifest['format_version']}: only version {_VERSION} is read, write it again"
                )
            files = [file for file in manifest["files"] if file["type"] == "table"]
            parts = [_read_part(path, archive, file, manifest["formats"][file["format"]]) for file in files]
    except _BROKEN as error:
        reason = " ".join(str(error).split())
        raise EmitterError(f"table {path} cannot be read ({reason}): copy or write it again") from error
    first = _first_frame(path, manifest, parts)
    tables = [checked_table(path, "this SMLM file", first, part) for part in parts]
    return Parts.of(*tables), Acquisition(pixel_size)


def write_smlm(path: Path, parts: Parts, acquisition: Acquisition) -> None:
    """Write the known columns, in single precision."""
    names = [name for name in _HEADERS if name in parts.survey.known]
    kinds = ["uint32" if name == "frame" else "float32" for name in names]
    headers = [_CANDIDATES[name][0] for name in names]
    manifest = {
        "format_version": _VERSION,
        "formats": {
            _FORMAT: {
                "name": _FORMAT,
                "type": "table",
                "mode": "binary",
                "extension": ".bin",
                "columns": len(names),
                "headers": headers,
                "dtype": kinds,
                "shape": [1] * len(names),
                "units": [_HEADERS[name][1] for name in names],
            }
        },
        "files": [
            {
                "name": _TABLE,
                "type": "table",
                "format": _FORMAT,
                "channel": "default",
                "rows": parts.survey.n_rows,
                "offset": {},
            }
        ],
        "name": path.stem,
        "description": "emitters; x and y from the outer corner of the image",
        "tags": ["SMLM"],
        "emitter": {"first_frame": 1},
    }
    row = np.dtype(
        [(header, f"<{np.dtype(kind).str[1:]}") for header, kind in zip(headers, kinds, strict=True)]
    )
    with (
        replacing(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        archive.writestr(_MANIFEST, json.dumps(manifest, indent=1))
        with archive.open(_TABLE, "w", force_zip64=True) as file:
            for block in parts.blocks():
                columns = block.with_columns(frame=block.frame + 1).columns()
                rows = np.empty(len(block), row)
                for name, header in zip(names, headers, strict=True):
                    rows[header] = columns[name]
                file.write(rows.tobytes())


def _read_part(
    path: Path, archive: zipfile.ZipFile, file: dict[str, Any], layout: dict[str, Any]
) -> dict[str, np.ndarray]:
    """One table's columns under our names, in our units."""
    if layout["mode"] != "binary":
        raise EmitterError(
            f"{path} holds its table as {layout['mode']}: only binary tables are read, unzip it"
        )
    names = [str(name) for name in layout["headers"]]
    rows = np.dtype(
        [
            (name, np.dtype(kind).newbyteorder("<"), _shape(shape))
            for name, kind, shape in zip(names, layout["dtype"], layout["shape"], strict=True)
        ]
    )
    content, count = archive.read(file["name"]), int(file["rows"])
    if len(content) < count * rows.itemsize:
        raise EmitterError(
            f"{path} is truncated: it holds fewer rows than the {count} it says, copy it again"
        )
    values = np.frombuffer(content, rows, count)
    columns = pick({name: values[name] for name in names}, _CANDIDATES)
    if not {"x_nm", "y_nm"} <= columns.keys():
        raise EmitterError(f"{path} has the columns {', '.join(names)}: expected x, y")
    columns.setdefault("frame", np.ones(count))
    units = dict(zip(names, layout.get("units") or [""] * len(names), strict=True))
    for ours, column in columns.items():
        theirs = next((name for name in _CANDIDATES[ours] if name in names), "")
        columns[ours] = column.astype(np.float64) + float((file.get("offset") or {}).get(theirs, 0))
        if ours.endswith("_nm"):
            unit = str(units[theirs]).lower().replace("µ", "u")
            if unit not in _LENGTHS_NM:
                raise EmitterError(
                    f"{path} has {theirs} in '{unit}': only lengths such as nm are read, convert it"
                )
            columns[ours] = columns[ours] * _LENGTHS_NM[unit]
    return columns


def _shape(shape: Any) -> tuple[int, ...]:
    """Of one cell; 1 is a plain number."""
    sizes = tuple(int(size) for size in (shape if isinstance(shape, list) else [shape]))
    return () if math.prod(sizes) == 1 else sizes


def _first_frame(path: Path, manifest: dict[str, Any], parts: list[dict[str, np.ndarray]]) -> int:
    """From our note, else 1 as in ThunderSTORM's tables unless there is a frame 0."""
    note = manifest.get("emitter")
    if isinstance(note, dict) and note.get("first_frame") in (0, 1):
        return int(note["first_frame"])
    first = 0 if any((part["frame"] == 0).any() for part in parts) else 1
    log.info("%s does not say from where its frames count: taken from %d", path, first)
    return first
