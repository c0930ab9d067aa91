"""What one emitter looks like: PSF models with derivatives, rendering and calibration."""

from emitter.psf.base import PSF
from emitter.psf.build import build, from_state
from emitter.psf.render import render

__all__ = ["PSF", "build", "from_state", "render"]
