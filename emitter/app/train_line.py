"""Camera and PSF as settings on train.py's command line."""

from __future__ import annotations

import math
import shlex
from typing import Any

from emitter.app.schema import to_plain
from emitter.core.units import PixelSize
from emitter.inference.survey.spot_shape import KnownShape
from emitter.inference.survey.suggestions import number
from emitter.inference.survey.survey import Survey
from emitter.inference.survey.verdicts import CameraCheck
from emitter.psf.build import PSFSettings
from emitter.simulation.camera import CameraSettings

_MAPPED = ("baseline_adu", "e_per_adu", "read_noise_e")


def camera_overrides(settings: CameraSettings, check: CameraCheck) -> list[str]:
    """The camera in full, so that the line stands alone; the baseline is the one that the movie speaks for."""
    given = {**to_plain(settings), "baseline_adu": baseline_adu(settings, check)}
    if given["kind"] == "ideal":  # the others are what they are
        given = {"kind": "ideal", "pixel_size_nm": given["pixel_size_nm"]}
    if settings.calibration is not None:  # its maps take the place of these
        given = {key: value for key, value in given.items() if key not in _MAPPED}
    return _group("camera", given)


def baseline_adu(settings: CameraSettings, check: CameraCheck) -> float:
    """The one that the movie speaks for, where it is a setting."""
    better = settings.baseline_adu - check.baseline_off_adu
    fixed = settings.kind == "ideal" or settings.calibration is not None or better < 0
    return settings.baseline_adu if check.baseline_off_adu == 0 or fixed else float(number(better, 4))


def psf_overrides(found: Survey, pixel_size: PixelSize, given: PSFSettings | None) -> list[str]:
    """The PSF that was given, with all of its depths, where it fits; else a Gaussian where enough spots look it."""
    shape = found.priors.shape
    if given is not None and isinstance(shape, KnownShape):
        return [f"simulation.z_range_nm={_worded(list(shape.z_range_nm))}", *_group("psf", to_plain(given))]
    if found.is_3d or found.has_halo or found.too_wide or found.spots.elongation is None:
        return []
    sigma_nm = found.free.width_px * math.sqrt(pixel_size.x_nm * pixel_size.y_nm)
    return ["simulation.z_range_nm=[0,0]", "psf=gaussian", f"psf.sigma_nm={number(sigma_nm)}"]


def _group(name: str, settings: dict[str, Any]) -> list[str]:
    """One choice of a group and its settings."""
    values = {key: value for key, value in settings.items() if key != "kind"}
    shown = {key: value for key, value in values.items() if value is not None and value is not False}
    return [f"{name}={settings['kind']}", *(f"{name}.{key}={_worded(value)}" for key, value in shown.items())]


def _worded(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(_worded(one) for one in value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.10g}" if isinstance(value, float | int) else shlex.quote(str(value))
