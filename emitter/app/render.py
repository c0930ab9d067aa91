"""render.py: a table as a super-resolved image, PNG to look at or 32-bit TIFF to measure in, also as a stack over z."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from emitter.app.drawn_rows import DrawnRows, Region, Seen
from emitter.app.progress import progress
from emitter.app.table_settings import TableSettings
from emitter.core.errors import EmitterError, require
from emitter.core.table import EmitterTable
from emitter.io.files import prepare_output, writing
from emitter.io.imagej import write_imagej
from emitter.plots.superres import SuperResImage

log = logging.getLogger(__name__)

_ENDINGS = (".png", ".tif", ".tiff")
_MAX_TIFF_PIXELS = 256_000_000  # 1 GB
_MIN_NM = 0.001  # of pixels and slices: what is smaller is no length that anyone means


@dataclass(frozen=True, kw_only=True)
class Settings(TableSettings):
    """What conf/render.yaml says; its comments explain every key."""

    style: Literal["histogram", "gaussian"] = "histogram"
    sigma_nm: float | None = None
    pixel_nm: float = 10.0
    region_nm: Region | None = None
    z_colour: bool = True
    z_range_nm: tuple[float, float] | None = None
    z_step_nm: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.output.suffix.lower() in _ENDINGS,
            f"output is {self.output}: give a name that ends with {', '.join(_ENDINGS)}",
        )
        require(
            _MIN_NM <= self.pixel_nm < math.inf,
            f"pixel_nm is {self.pixel_nm}: give the image's pixel in nm, {_MIN_NM} or more",
        )
        require(
            self.sigma_nm is None or 0 < self.sigma_nm < math.inf,
            f"sigma_nm is {self.sigma_nm}: give one width for all in nm, or null for each its own precision",
        )
        require(
            self.sigma_nm is None or self.style == "gaussian",
            "sigma_nm is the width of Gaussians and style is histogram: give style=gaussian too",
        )
        x0, y0, x1, y1 = self.region_nm or (0, 0, 1, 1)
        require(
            -math.inf < x0 < x1 < math.inf and -math.inf < y0 < y1 < math.inf,
            f"region_nm is {self.region_nm}: give [x0,y0,x1,y1] in nm, growing",
        )
        low, high = self.z_range_nm or (0, 1)
        require(
            -math.inf < low < high < math.inf, f"z_range_nm is {self.z_range_nm}: give [lowest,highest] in nm"
        )
        require(
            self.z_step_nm is None or _MIN_NM <= self.z_step_nm < math.inf,
            f"z_step_nm is {self.z_step_nm}: give the height of a slice in nm, {_MIN_NM} or more, or null for no stack",
        )
        require(
            self.z_step_nm is None or self.output.suffix.lower() != ".png",
            "z_step_nm makes a stack and output is a PNG: give a name that ends with .tif",
        )


def run(settings: Settings) -> np.ndarray:
    """Write the image; the localizations per pixel are returned, (H, W), or of a stack over z (Z, H, W), float32.

    The table is read twice, a part in memory at a time: for its extent, and to draw it.

    Raises:
        EmitterError: a table that cannot be read, without rows in the region or, for Gaussians, without precision; a
            TIFF that would not fit in the memory; or an output that cannot be written.
    """
    path = prepare_output(settings.output)
    rows = DrawnRows(settings.read_parts()[0], settings.region_nm, settings.sigma_nm)
    with progress("looking through the table"):
        seen = rows.seen()
    settings.require_rows(seen.n_rows)
    region_nm = settings.region_nm or seen.bounds(settings.pixel_nm)
    if not seen.n_inside:
        raise EmitterError(
            f"no localization lies in region_nm {list(region_nm)}: x is from {seen.x_nm}, y from {seen.y_nm}"
        )
    write = _write_png if path.suffix.lower() == ".png" else _write_tiff
    counts, pixel_nm = write(path, rows, seen, region_nm, settings)
    log.info(
        "%d of %d localizations, x from %g to %g, y from %g to %g nm, pixels of %.4g nm",
        *(seen.n_inside, seen.n_rows, region_nm[0], region_nm[2], region_nm[1], region_nm[3], pixel_nm),
    )
    log.info("wrote %s", path)
    return counts


def _write_png(
    path: Path, rows: DrawnRows, seen: Seen, region_nm: Region, settings: Settings
) -> tuple[np.ndarray, float]:
    """Localizations per pixel, and the pixel in nm."""
    z_range_nm = (settings.z_range_nm or seen.z_range_nm()) if settings.z_colour else None
    if z_range_nm is not None:
        seen.require_z("give z_colour=false")
    image = SuperResImage(_field(region_nm), settings.pixel_nm, z_range_nm, settings.style, region_nm[:2])
    for block in _told(rows, seen):
        image.add(block)
    with writing(path) as temporary:
        image.save(temporary)
    return image.counts(), image.pixel_nm


def _write_tiff(
    path: Path, rows: DrawnRows, seen: Seen, region_nm: Region, settings: Settings
) -> tuple[np.ndarray, float]:
    """Localizations per pixel, and the pixel in nm."""
    pixel_nm, step_nm, field_nm = settings.pixel_nm, settings.z_step_nm, _field(region_nm)
    low_nm, n_slices = 0.0, 1
    if step_nm is not None:
        seen.require_z("give z_step_nm=null")
        low_nm, n_slices = _levels(seen, step_nm, settings.z_range_nm)
    width, height = (max(1, math.ceil(side / pixel_nm - 1e-9)) for side in field_nm)
    pixels = n_slices * height * width
    if pixels > _MAX_TIFF_PIXELS:
        raise EmitterError(
            f"the image would have {pixels / 1e6:.0f} million pixels, more than {_MAX_TIFF_PIXELS / 1e6:.0f}: give a "
            "larger pixel_nm or z_step_nm, or a part of it, region_nm=[x0,y0,x1,y1]"
        )
    counts_ZHW = np.zeros((n_slices, height, width), np.float32)
    images = [
        SuperResImage(field_nm, pixel_nm, None, settings.style, region_nm[:2], into_HW=counts_HW)
        for counts_HW in counts_ZHW
    ]
    for block in _told(rows, seen):
        slices = [block] if step_nm is None else _slices(block, low_nm, step_nm, n_slices)
        for image, in_slice in zip(images, slices, strict=True):
            if len(in_slice):
                image.add(in_slice)
    if step_nm is None:
        write_imagej(path, counts_ZHW[0], (pixel_nm, pixel_nm), region_nm[:2])
        return counts_ZHW[0], pixel_nm
    write_imagej(path, counts_ZHW, (pixel_nm, pixel_nm, step_nm), (*region_nm[:2], low_nm))
    log.info("%d slices of %g nm, z from %g to %g nm", n_slices, step_nm, low_nm, low_nm + n_slices * step_nm)
    return counts_ZHW, pixel_nm


def _told(rows: DrawnRows, seen: Seen) -> Iterator[EmitterTable]:
    """The blocks, with a progress bar."""
    done = 0
    with progress("render") as report:
        for block in rows.blocks():
            yield block
            done += len(block)
            report(done / seen.n_inside)


def _levels(seen: Seen, step_nm: float, z_range_nm: tuple[float, float] | None) -> tuple[float, int]:
    """Lowest z, and the number of slices from there on."""
    low, high = z_range_nm or (math.floor(seen.z_nm.low / step_nm) * step_nm, seen.z_nm.high)
    n = math.ceil((high - low) / step_nm) if z_range_nm else math.floor((high - low) / step_nm) + 1
    return low, n


def _slices(table: EmitterTable, low_nm: float, step_nm: float, n: int) -> list[EmitterTable]:
    """The rows of each slice; those of no slice are left out."""
    slice_N = np.floor((table.z_nm - low_nm) / step_nm).astype(np.int64)
    order = np.argsort(slice_N, kind="stable")
    edges = np.searchsorted(slice_N[order], np.arange(n + 1))
    return [table.select(order[a:b]) for a, b in itertools.pairwise(edges)]


def _field(region_nm: Region) -> tuple[float, float]:
    """Width and height."""
    return region_nm[2] - region_nm[0], region_nm[3] - region_nm[1]
