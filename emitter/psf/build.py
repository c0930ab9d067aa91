"""PSF models from settings and from a saved state."""

from __future__ import annotations

from typing import Any

from emitter.core.errors import EmitterError, nearest
from emitter.core.units import PixelSize
from emitter.psf.base import PSF
from emitter.psf.gaussian import AstigmaticPSF, AstigmaticSettings, GaussianPSF, GaussianSettings

PSFSettings = GaussianSettings | AstigmaticSettings
SETTINGS: dict[str, type[PSFSettings]] = {"gaussian": GaussianSettings, "astigmatic": AstigmaticSettings}


def build(settings: PSFSettings, pixel_size: PixelSize) -> PSF:
    """The model of the given settings on a camera of the given pixel size."""
    if isinstance(settings, GaussianSettings):
        return GaussianPSF.of(settings, pixel_size)
    return AstigmaticPSF(settings, pixel_size)


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
    known = nearest(str(kind), SETTINGS)
    raise EmitterError(f"PSF kind '{kind}' is unknown{known}; this version knows {', '.join(SETTINGS)}")
