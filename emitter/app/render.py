"""render.py: a table as a super-resolved image, PNG to look at or 32-bit TIFF to measure in."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import tifffile

from emitter.app.table_settings import TableSettings
from emitter.core.errors import EmitterError, require
from emitter.core.table import EmitterTable
from emitter.io.files import prepare_output, replacing
from emitter.plots.superres import MAX_SIDE_PX, SuperResImage

log = logging.getLogger(__name__)

_ENDINGS = (".png", ".tif", ".tiff")
_MAX_TIFF_SIDE_PX = 16_000  # 1 GB


@dataclass(frozen=True, kw_only=True)
class Settings(TableSettings):
    """What conf/render.yaml says; its comments explain every key."""

    style: Literal["histogram", "gaussian"] = "histogram"
    sigma_nm: float | None = None
    pixel_nm: float = 10.0
    region_nm: tuple[float, float, float, float] | None = None
    z_colour: bool = True
    z_range_nm: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.output.suffix.lower() in _ENDINGS,
            f"output is {self.output}: give a name that ends with {', '.join(_ENDINGS)}",
        )
        require(self.pixel_nm > 0, f"pixel_nm is {self.pixel_nm}: give the image's pixel in nm, above 0")
        require(
            self.sigma_nm is None or self.sigma_nm > 0,
            f"sigma_nm is {self.sigma_nm}: give one width for all in nm, or null for each its own precision",
        )
        require(
            self.sigma_nm is None or self.style == "gaussian",
            "sigma_nm is the width of Gaussians and style is histogram: give style=gaussian too",
        )
        x0, y0, x1, y1 = self.region_nm or (0, 0, 1, 1)
        require(x0 < x1 and y0 < y1, f"region_nm is {self.region_nm}: give [x0,y0,x1,y1] in nm, growing")
        low, high = self.z_range_nm or (0, 1)
        require(low < high, f"z_range_nm is {self.z_range_nm}: give [lowest,highest] in nm")


def run(settings: Settings) -> SuperResImage:
    """Write the image, which is returned too.

    Raises:
        EmitterError: a table that cannot be read, without rows in the region or, for Gaussians, without precision; a
            TIFF that would not fit in the memory; or an output that cannot be written.
    """
    path = prepare_output(settings.output)
    table = settings.read()
    region_nm = settings.region_nm or _bounds(table, settings.pixel_nm)
    inside = _inside(table, region_nm)
    if not len(inside):
        raise EmitterError(
            f"no localization lies in region_nm {list(region_nm)}: x is from {_range(table.x_nm)}, "
            f"y from {_range(table.y_nm)}"
        )
    tiff = path.suffix.lower() != ".png"
    image = _image(inside, region_nm, settings, tiff)
    with replacing(path) as temporary:
        if tiff:
            # ImageJ's convention: pixels per unit in the tags of the resolution, the unit in the description
            per_um = (1000 / image.pixel_nm, 1000 / image.pixel_nm)
            tifffile.imwrite(
                temporary, image.counts(), imagej=True, resolution=per_um, metadata={"unit": "um"}
            )
        else:
            image.save(temporary)
    log.info(
        "%d of %d localizations, x from %g to %g, y from %g to %g nm, pixels of %.4g nm",
        *(len(inside), len(table), region_nm[0], region_nm[2], region_nm[1], region_nm[3], image.pixel_nm),
    )
    log.info("wrote %s", path)
    return image


def _image(
    table: EmitterTable, region_nm: tuple[float, float, float, float], settings: Settings, tiff: bool
) -> SuperResImage:
    field_nm = (region_nm[2] - region_nm[0], region_nm[3] - region_nm[1])
    if tiff and max(field_nm) > _MAX_TIFF_SIDE_PX * settings.pixel_nm:
        raise EmitterError(
            f"the image would be {max(field_nm) / settings.pixel_nm:.0f} pixels wide or high, more than "
            f"{_MAX_TIFF_SIDE_PX}: give a larger pixel_nm or a part of it, region_nm=[x0,y0,x1,y1]"
        )
    if settings.sigma_nm is not None:
        width = np.full(len(table), settings.sigma_nm)
        table = table.with_columns(precision_x_nm=width, precision_y_nm=width)
    z_range_nm = None if tiff or not settings.z_colour else settings.z_range_nm or _z_range(table)
    if z_range_nm is not None and np.isnan(table.z_nm).any():
        raise EmitterError("some rows of the table have no z to colour them by: give z_colour=false")
    side = _MAX_TIFF_SIDE_PX if tiff else MAX_SIDE_PX
    image = SuperResImage(
        field_nm, settings.pixel_nm, z_range_nm, settings.style, (region_nm[0], region_nm[1]), side
    )
    image.add(table)
    return image


def _bounds(table: EmitterTable, pixel_nm: float) -> tuple[float, float, float, float]:
    """The smallest region of whole pixels, counted from the camera image's corner, that holds every localization."""
    x0, y0 = (math.floor(column.min() / pixel_nm) * pixel_nm for column in (table.x_nm, table.y_nm))
    x1, y1 = ((math.floor(column.max() / pixel_nm) + 1) * pixel_nm for column in (table.x_nm, table.y_nm))
    return x0, y0, x1, y1


def _inside(table: EmitterTable, region_nm: tuple[float, float, float, float]) -> EmitterTable:
    x0, y0, x1, y1 = region_nm
    return table.select((table.x_nm >= x0) & (table.x_nm < x1) & (table.y_nm >= y0) & (table.y_nm < y1))


def _z_range(table: EmitterTable) -> tuple[float, float] | None:
    """Lowest and highest z without the outermost hundredth, to 10 nm; None for a table without z or of one z."""
    if np.isnan(table.z_nm).all():
        return None
    low, high = np.nanpercentile(table.z_nm, (0.5, 99.5))
    return (math.floor(low / 10) * 10.0, math.ceil(high / 10) * 10.0) if high > low else None


def _range(column: np.ndarray) -> str:
    return f"{column.min():.0f} to {column.max():.0f} nm"
