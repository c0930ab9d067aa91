"""SMAP's localizations (``_sml.mat``, MATLAB 7.3): columns under ``/saveloc/loc``, in nm; read only.

Frames count from 1. Positions are pixel coordinates times the pixel size, and the first pixel's centre is 1: half a
pixel is taken off. In SMAP's source (github.com/jries/SMAP, under ``plugins``):
``+WorkflowModules/+Fitters/MLE_GPU_Yiming.m`` adds the fit, counted from the middle pixel's centre, to MATLAB's index
of that pixel (cut out around it by ``+Peakfinders/RoiCutterWF.m``), and
``+Analyze/+other/CompareToGroundTruthChallenge.m`` by default takes half a camera pixel off for the challenge's origin,
which is ours. ``+LocProcessors/private/fitloc2locdata.m`` adds the corner of the camera's region (``info.roi``) before
it multiplies by the pixel size, so that positions count from the chip's corner: that is taken off too.

Not told by the file, and taken as SMAP's own: the origin of a table that SMAP imported (``Loader_csvAndMore.m`` and
``Loader_decode.m`` leave positions as they were). With a spline PSF the origin is moreover that of the calibration.
"""

from __future__ import annotations

import logging
from pathlib import Path

import h5py
import numpy as np

from emitter.core.errors import EmitterError
from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize
from emitter.io.acquisition import Acquisition
from emitter.io.parts import Parts
from emitter.io.table_columns import checked_table, pick

log = logging.getLogger(__name__)

_COLUMNS = {
    "frame": ("frame",),
    "x_nm": ("xnm",),
    "y_nm": ("ynm",),
    "z_nm": ("znm",),
    "photons": ("phot",),
    "background": ("bg",),
    "probability": ("prob",),
    "precision_x_nm": ("xnmerr", "xerr", "locprecnm"),
    "precision_y_nm": ("ynmerr", "yerr", "locprecnm"),
    "precision_z_nm": ("locprecznm", "zerr"),
    "precision_photons": ("photerr",),
}
# The same quantity in nm and in pixels, along x and along y: their ratio is the pixel size.
_IN_BOTH = ((("PSFxnm", "PSFxpix"), ("xnmerr", "xpixerr")), (("PSFynm", "PSFypix"), ("ynmerr", "ypixerr")))
_TO_CENTRE_PX = 0.5  # between SMAP's coordinate of a point and ours


def is_of(file: h5py.File) -> bool:
    """Whether the file holds localizations of SMAP."""
    return "saveloc" in file and "loc" in file["saveloc"]


def read(path: Path, file: h5py.File, pixel_size: PixelSize | None) -> tuple[Parts, Acquisition]:
    """Read the localizations; the pixel size is what the columns or else the camera's settings tell, unless given.

    Raises:
        EmitterError: a column missing, or a pixel size that neither the file nor the caller tells.
    """
    group = file["saveloc/loc"]
    wanted = {name for names in _COLUMNS.values() for name in names}
    wanted |= {name for axis in _IN_BOTH for pair in axis for name in pair}
    theirs = {name: _values(group[name]) for name in group if name in wanted}
    columns = pick(theirs, _COLUMNS)
    if not {"frame", "x_nm", "y_nm"} <= columns.keys():
        raise EmitterError(f"{path} has the columns {', '.join(group)}: expected frame, xnm, ynm")
    if len(columns["frame"]) == 0:
        return Parts.of(EmitterTable.empty()), Acquisition(pixel_size)
    size = pixel_size or _pixel_size(theirs) or _camera_pixel_size(file)
    if size is None:
        raise EmitterError(f"{path} does not tell its pixel size: give pixel_size_nm=")
    if _information(file, "EMmirror").any():
        log.warning("%s: SMAP mirrored the movie before it fitted: x runs against the movie's columns", path)
    corner_x_px, corner_y_px = _camera_corner_px(file)
    shift_x_nm, shift_y_nm = size.to_nm(corner_x_px + _TO_CENTRE_PX, corner_y_px + _TO_CENTRE_PX)
    columns["x_nm"] = columns["x_nm"] - shift_x_nm
    columns["y_nm"] = columns["y_nm"] - shift_y_nm
    return Parts.of(checked_table(path, "SMAP's mat", 1, columns)), Acquisition(size)


def _values(dataset: h5py.Dataset) -> np.ndarray:
    """A column as float64; MATLAB stores the shape of an empty one in place of values."""
    if dataset.attrs.get("MATLAB_empty", 0):
        return np.empty(0)
    return dataset[()].reshape(-1).astype(np.float64)


def _pixel_size(columns: dict[str, np.ndarray]) -> PixelSize | None:
    sizes = []
    for pairs in _IN_BOTH:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = [columns[nm] / columns[px] for nm, px in pairs if nm in columns and px in columns]
        known = ratios[0][np.isfinite(ratios[0])] if ratios else np.empty(0)
        if len(known) == 0:
            return None
        sizes.append(float(np.round(np.median(known), 3)))  # float32's digits in the file
    return PixelSize(*sizes)


def _information(file: h5py.File, name: str) -> np.ndarray:
    """Numbers about the one movie that the file tells of; with several, each has its own and none counts."""
    values = file.get(f"saveloc/file/info/{name}")
    numbers = isinstance(values, h5py.Dataset) and values.dtype.kind in "fu"
    return _values(values) if numbers else np.empty(0)


def _camera_pixel_size(file: h5py.File) -> PixelSize | None:
    size_um = _information(file, "cam_pixelsize_um")
    return PixelSize(1e3 * float(size_um[0]), 1e3 * float(size_um[-1])) if size_um.size in (1, 2) else None


def _camera_corner_px(file: h5py.File) -> tuple[float, float]:
    """First column and row of the chip in the movie, from 0."""
    region_px = _information(file, "roi")  # column, row, width, height
    known = region_px.size == 4 and np.isfinite(region_px).all()
    return (float(region_px[0]), float(region_px[1])) if known else (0.0, 0.0)
