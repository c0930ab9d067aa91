"""The pixels of a patch that matter: patches are as large as a PSF's widest depth and faintest halo need.

Shape suffixes: N places of an emitter (in its pixel and in depth), P patch side.
"""

from __future__ import annotations

import torch

from emitter.psf.base import PSF

_N_DEPTHS = 21
_IN_PIXEL_PX = (-0.5, 0.0, 0.5)


def core(psf: PSF, share: float) -> PSF:
    """The PSF on the smallest patches, of a radius of 1 px or more, that hold ``share`` of its own patches' light at
    every depth of its range and wherever in its pixel the emitter is.

    Pixels below 0, of a fitted pedestal, hold none.
    """
    in_pixel_px = torch.tensor(_IN_PIXEL_PX)
    depths_nm = torch.linspace(*psf.z_range_nm, _N_DEPTHS)
    patch_NPP = (
        psf.to("cpu")
        .patches(*torch.cartesian_prod(in_pixel_px, in_pixel_px, depths_nm).unbind(1))
        .clamp(min=0)
    )
    light_N = share * patch_NPP.sum(dim=(1, 2))
    for radius_px in range(1, psf.radius_px):
        rim = psf.radius_px - radius_px
        if bool((patch_NPP[:, rim:-rim, rim:-rim].sum(dim=(1, 2)) >= light_N).all()):
            return psf.within(radius_px)
    return psf
