"""psf.h5: a calibrated PSF with what is known about its calibration."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch

from emitter.core.errors import EmitterError
from emitter.core.units import PixelSize
from emitter.psf.spline import SplinePSF

_FORMAT = "emitter-psf"
_VERSION = 1


@dataclass(frozen=True)
class CalibrationInfo:
    """Where a calibrated PSF comes from.

    Attributes:
        pixel_size: of the camera that took the beads.
        z_step_nm: step of the bead stack.
        n_beads_used, n_beads_refused: beads of the stack.
        centred_on: what dx = dy = 0 means: ``truth`` (given bead positions) or ``centroid`` (of the light
        in focus). z_zero: what z = 0 means: ``stack_centre``, ``focus`` or ``truth``. centroid_z_nm,
        centroid_x_px, centroid_y_px: centroid of the PSF against z, relative to its centre. light: sum of
        the PSF over its patch at the same z; 1 in focus.
    """

    pixel_size: PixelSize
    z_step_nm: float
    n_beads_used: int
    n_beads_refused: int
    centred_on: str
    z_zero: str
    centroid_z_nm: np.ndarray
    centroid_x_px: np.ndarray
    centroid_y_px: np.ndarray
    light: np.ndarray


_CURVES = ("centroid_z_nm", "centroid_x_px", "centroid_y_px", "light")
_NUMBERS = ("z_step_nm", "n_beads_used", "n_beads_refused", "centred_on", "z_zero")


def save_psf(path: str | Path, psf: SplinePSF, calibration: CalibrationInfo) -> None:
    """Write psf.h5; under its final name it is there whole or not at all.

    Raises:
        EmitterError: when the folder cannot be written.
    """
    path = Path(path).expanduser()
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(partial, "w") as file:
            file.attrs["format"], file.attrs["version"] = _FORMAT, _VERSION
            file.attrs["z_start_nm"], file.attrs["z_knot_step_nm"] = psf.z_start_nm, psf.z_step_nm
            size = calibration.pixel_size
            file.attrs["pixel_size_nm"] = [size.x_nm, size.y_nm]
            for name in _NUMBERS:
                file.attrs[name] = getattr(calibration, name)
            file["coefficients"] = psf.coefficients_ZCC.cpu().double().numpy()
            for name in _CURVES:
                file[name] = getattr(calibration, name)
        partial.replace(path)
    except OSError as error:
        raise EmitterError(f"{path} cannot be written ({error}): give another output") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def load_psf(path: str | Path) -> tuple[SplinePSF, CalibrationInfo]:
    """The PSF (float32) and its calibration.

    Raises:
        EmitterError: when the file is missing, damaged or something else than a PSF of a known version.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise EmitterError(f"{path} is not there: give the psf.h5 that calibrate.py wrote as psf.file")
    try:
        with h5py.File(path, "r") as file:
            return _read(file, path)
    except KeyError as error:
        raise EmitterError(f"{path} lacks a part of a PSF ({error}): run calibrate.py again") from error
    except OSError as error:
        raise EmitterError(
            f"{path} is damaged or no HDF5 file: give a psf.h5 that calibrate.py wrote"
        ) from error


def _read(file: h5py.File, path: Path) -> tuple[SplinePSF, CalibrationInfo]:
    if file.attrs.get("format") != _FORMAT:
        raise EmitterError(f"{path} is an HDF5 file but holds no PSF: give a psf.h5 that calibrate.py wrote")
    version = int(file.attrs["version"])
    if version > _VERSION:
        raise EmitterError(
            f"{path} has the format version {version} and this program knows {_VERSION}: update emitter"
        )
    coefficients = file["coefficients"][()]
    if not np.isfinite(coefficients).all():
        raise EmitterError(f"{path} holds coefficients that are no numbers: run calibrate.py again")
    psf = SplinePSF(
        torch.from_numpy(coefficients).float(), file.attrs["z_start_nm"], file.attrs["z_knot_step_nm"]
    )
    size_x, size_y = file.attrs["pixel_size_nm"]
    info = CalibrationInfo(
        pixel_size=PixelSize(float(size_x), float(size_y)),
        z_step_nm=float(file.attrs["z_step_nm"]),
        n_beads_used=int(file.attrs["n_beads_used"]),
        n_beads_refused=int(file.attrs["n_beads_refused"]),
        centred_on=str(file.attrs["centred_on"]),
        z_zero=str(file.attrs["z_zero"]),
        **{name: file[name][()] for name in _CURVES},
    )
    return psf, info
