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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emitter.core.errors import EmitterError
from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize
from emitter.io.acquisition import Acquisition
from emitter.io.files import replacing
from emitter.io.parts import Parts, row_blocks
from emitter.io.table_columns import checked_table, pick

log = logging.getLogger(__name__)

_MANIFEST = "manifest.json"
_VERSION = "0.2"
_FORMAT = "smlm-table(binary)"
_TABLE = "table-0.bin"
_BEGIN = b"PK\x03\x04"  # of a zip archive's first file
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
    """Whether the file is a zip archive with a manifest, or begins as an archive and cannot be read to its end."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _MANIFEST in archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError):  # all of a broken list of contents
        with path.open("rb") as file:
            return file.read(len(_BEGIN)) == _BEGIN


def read_smlm(path: Path, pixel_size: PixelSize | None) -> tuple[Parts, Acquisition]:
    """Read all tables of the archive, one after the other, each a block of rows at a time.

    Raises:
        EmitterError: another version, an unknown kind of column or unit, no positions, or rows that are cut off.
    """
    with _opened(path) as archive:
        manifest = json.loads(archive.read(_MANIFEST))
        if manifest["format_version"] != _VERSION:
            raise EmitterError(
                f"{path} is SMLM {manifest['format_version']}: only version {_VERSION} is read, write it again"
            )
        stored = [
            _Stored.of(path, archive, file, manifest["formats"][file["format"]])
            for file in manifest["files"]
            if file["type"] == "table"
        ]
        first = _first_frame(path, manifest, archive, stored)

    def again() -> Iterator[EmitterTable]:
        with _opened(path) as archive:
            for one in stored:
                n_rows = 0
                for columns in one.blocks(archive):
                    yield checked_table(path, "this SMLM file", first, columns, n_rows)
                    n_rows += len(columns["frame"])

    unread = {
        name: None for one in stored for name in one.row.names or () if name not in one.headers.values()
    }
    return Parts(again, unread), Acquisition(pixel_size)


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


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive, to read; what is broken in it is an EmitterError."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except _BROKEN as error:
        reason = " ".join(str(error).split())
        raise EmitterError(f"table {path} cannot be read ({reason}): copy or write it again") from error


@dataclass(frozen=True)
class _Stored:
    """One table of an archive: its file there, how a row is packed, and of each of our columns the header that stands
    for it, and what makes our unit of it: ``(value + offset) · scale``."""

    file: str
    n_rows: int
    row: np.dtype
    headers: dict[str, str]
    offsets: dict[str, float]
    scales: dict[str, float]

    @classmethod
    def of(
        cls, path: Path, archive: zipfile.ZipFile, file: dict[str, Any], layout: dict[str, Any]
    ) -> _Stored:
        """From the manifest's entries of the file and of its format."""
        if layout["mode"] != "binary":
            raise EmitterError(
                f"{path} holds its table as {layout['mode']}: only binary tables are read, unzip it"
            )
        names = [str(name) for name in layout["headers"]]
        row = np.dtype(
            [
                (name, np.dtype(kind).newbyteorder("<"), _shape(shape))
                for name, kind, shape in zip(names, layout["dtype"], layout["shape"], strict=True)
            ]
        )
        n_rows = int(file["rows"])
        if archive.getinfo(file["name"]).file_size < n_rows * row.itemsize:
            raise EmitterError(
                f"{path} is truncated: it holds fewer rows than the {n_rows} it says, copy it again"
            )
        headers = pick({name: name for name in names}, _CANDIDATES)
        if not {"x_nm", "y_nm"} <= headers.keys():
            raise EmitterError(f"{path} has the columns {', '.join(names)}: expected x, y")
        units = dict(zip(names, layout.get("units") or [""] * len(names), strict=True))
        offsets = file.get("offset") or {}
        return cls(
            file["name"],
            n_rows,
            row,
            headers,
            {ours: float(offsets.get(theirs, 0)) for ours, theirs in headers.items()},
            {ours: _scale(path, ours, theirs, units[theirs]) for ours, theirs in headers.items()},
        )

    def blocks(self, archive: zipfile.ZipFile) -> Iterator[dict[str, np.ndarray]]:
        """Our columns, a block of rows at a time."""
        with archive.open(self.file) as file:
            for rows in row_blocks(self.n_rows):
                count = rows.stop - rows.start
                values = np.frombuffer(file.read(count * self.row.itemsize), self.row, count)
                columns = {
                    ours: (values[theirs].astype(np.float64) + self.offsets[ours]) * self.scales[ours]
                    for ours, theirs in self.headers.items()
                }
                columns.setdefault("frame", np.ones(count))
                yield columns


def _scale(path: Path, ours: str, theirs: str, unit: Any) -> float:
    """What makes our unit of a column's."""
    if not ours.endswith("_nm"):
        return 1.0
    known = str(unit).lower().replace("µ", "u")
    if known not in _LENGTHS_NM:
        raise EmitterError(f"{path} has {theirs} in '{known}': only lengths such as nm are read, convert it")
    return _LENGTHS_NM[known]


def _shape(shape: Any) -> tuple[int, ...]:
    """Of one cell; 1 is a plain number."""
    sizes = tuple(int(size) for size in (shape if isinstance(shape, list) else [shape]))
    return () if math.prod(sizes) == 1 else sizes


def _first_frame(
    path: Path, manifest: dict[str, Any], archive: zipfile.ZipFile, stored: list[_Stored]
) -> int:
    """From our note, else 1 as in ThunderSTORM's tables unless there is a frame 0."""
    note = manifest.get("emitter")
    if isinstance(note, dict) and note.get("first_frame") in (0, 1):
        return int(note["first_frame"])
    from_zero = any((columns["frame"] == 0).any() for one in stored for columns in one.blocks(archive))
    log.info("%s does not say from where its frames count: taken from %d", path, 0 if from_zero else 1)
    return 0 if from_zero else 1
