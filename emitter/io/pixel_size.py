"""What a TIFF file says of the size of its pixels: OME's, Micro-Manager's and ImageJ's ways to say it.

Resolutions without a unit of microscopy (72 dots per inch of a screen) are none.
"""

from __future__ import annotations

from collections.abc import Mapping

import tifffile

from emitter.core.units import PixelSize

_PLAUSIBLE_NM = (5.0, 5000.0)
_MICROMETRE = (
    "µm",
    "μm",
    "\\u00B5m",
    "um",
    "micron",
    "microns",
    "micrometer",
)  # both signs for micro, and ImageJ's
_NM = {
    "nm": 1.0,
    "nanometer": 1.0,
    **dict.fromkeys(_MICROMETRE, 1e3),
    "mm": 1e6,
    "millimeter": 1e6,
    "cm": 1e7,
    "m": 1e9,
}
_ODD = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, SyntaxError)
_NONE = (0.0, 0.0)
_TAG_UNITS_NM = {2: 2.54e7, 3: 1e7}  # TIFF 6.0: inch, centimetre


def stated_pixel_size(file: tifffile.TiffFile) -> PixelSize | None:
    """The pixel size that an open file states; None where it states none, or one that is not a microscope's."""
    for read in (_ome, _micro_manager, _resolution):
        try:
            size = plausible(*read(file))
        except _ODD:  # whatever is wrong with such words, the pixels can be read
            continue
        if size is not None:
            return size
    return None


def plausible(x_nm: float, y_nm: float) -> PixelSize | None:
    """The pixel size, unless it is not a microscope's."""
    low, high = _PLAUSIBLE_NM
    return PixelSize(x_nm, y_nm) if low <= x_nm <= high and low <= y_nm <= high else None


def _ome(file: tifffile.TiffFile) -> tuple[float, float]:
    """OME-XML's PhysicalSizeX and Y of the first image; µm where no unit is given, as its schema says."""
    page = file.pages[0]
    if not page.is_ome:  # of the page: a file of several is opened as if it were on its own
        return _NONE
    images = tifffile.xml2dict(page.description)["OME"]["Image"]
    pixels = (images[0] if isinstance(images, list) else images)["Pixels"]
    units = (pixels.get(f"PhysicalSize{axis}Unit", "µm") for axis in ("X", "Y"))
    x_nm, y_nm = (
        float(pixels[f"PhysicalSize{axis}"]) * _NM[unit] for axis, unit in zip("XY", units, strict=True)
    )
    return x_nm, y_nm


def _micro_manager(file: tifffile.TiffFile) -> tuple[float, float]:
    """PixelSizeUm of the first frame; 0 where the microscope was not calibrated."""
    tag = file.pages[0].tags.get("MicroManagerMetadata")
    if tag is None or not isinstance(tag.value, Mapping):
        return _NONE
    size_nm = 1e3 * float(tag.value["PixelSizeUm"])
    return size_nm, size_nm


def _resolution(file: tifffile.TiffFile) -> tuple[float, float]:
    """The resolution tags, in ImageJ's unit or in TIFF's own."""
    tags = file.pages[0].tags
    said = (file.imagej_metadata or {}).get("unit")
    unit_nm = _NM.get(str(said)) if said else _TAG_UNITS_NM.get(tags.valueof("ResolutionUnit", 1))
    if unit_nm is None:
        return _NONE
    ratios = (tags.valueof(f"{axis}Resolution", (0, 1)) for axis in ("X", "Y"))
    x_nm, y_nm = (unit_nm * units / pixels for pixels, units in ratios)
    return x_nm, y_nm
