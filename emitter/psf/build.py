"""PSF models from settings and from a saved state."""

from __future__ import annotations

from typing import Any

from emitter.core.errors import EmitterError, nearest, require
from emitter.core.units import PixelSize
from emitter.psf.base import PSF
from emitter.psf.gaussian import AstigmaticPSF, AstigmaticSettings, GaussianPSF, GaussianSettings
from emitter.psf.spline import SplinePSF, SplineSettings

PSFSettings = GaussianSettings | AstigmaticSettings | SplineSettings
_KINDS = (GaussianPSF.kind, AstigmaticPSF.kind, SplinePSF.kind)


def build(settings: PSFSettings, pixel_size: PixelSize) -> PSF:
    """The model of the given settings on a camera of the given pixel size.

    Raises:
        EmitterError: when a PSF file cannot be used, or was calibrated with another pixel size.
    """
    if isinstance(settings, GaussianSettings):
        return GaussianPSF.of(settings, pixel_size)
    if isinstance(settings, AstigmaticSettings):
        return AstigmaticPSF(settings, pixel_size)
    return _from_file(settings, pixel_size)


def _from_file(settings: SplineSettings, pixel_size: PixelSize) -> SplinePSF:
    from emitter.psf.psf_file import load_psf  # here: only those who read a file wait for h5py

    require(
        settings.file is not None,
        "psf.file is not given: give the psf.h5 that calibrate.py wrote, or choose psf=astigmatic",
    )
    psf, calibration = load_psf(str(settings.file))
    found = calibration.pixel_size
    require(
        found.is_like(pixel_size),
        f"psf.file {settings.file} was calibrated with pixels of {found.x_nm:g} × {found.y_nm:g} nm and the "
        f"camera's are {pixel_size.x_nm:g} × {pixel_size.y_nm:g} nm: set camera.pixel_size_nm or calibrate "
        f"again",
    )
    return psf


def from_state(state: dict[str, Any]) -> PSF:
    """The model whose ``state()`` this is.

    Raises:
        EmitterError: when the kind is unknown.
    """
    kind = state.get("kind")
    if kind == GaussianPSF.kind:
        return GaussianPSF(state["sigma_x_px"], state["sigma_y_px"])
    if kind == AstigmaticPSF.kind:
        fields = dict(state["settings"])
        settings = AstigmaticSettings(**{**fields, "z_range_nm": tuple(fields["z_range_nm"])})
        return AstigmaticPSF(settings, PixelSize.of(list(state["pixel_size_nm"])))
    if kind == SplinePSF.kind:
        return SplinePSF(state["coefficients"], state["z_start_nm"], state["z_step_nm"])
    known = nearest(str(kind), _KINDS)
    raise EmitterError(f"PSF kind '{kind}' is unknown{known}; this version knows {', '.join(_KINDS)}")
