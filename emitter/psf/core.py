"""The pixels of a patch that matter: patches are as large as a PSF's widest depth and faintest halo need.

Shape suffixes: Z depths, P patch side.
"""

from __future__ import annotations

import torch

from emitter.psf.base import PSF

_N_DEPTHS = 21


def core(psf: PSF, share: float) -> PSF:
    """The PSF on the smallest patches that hold ``share`` of its own patches' light at every depth of its range, the
    emitter being at the centre of its pixel."""
    z_nm_Z = torch.linspace(*psf.z_range_nm, _N_DEPTHS)
    centre_Z = torch.zeros(_N_DEPTHS)
    patch_ZPP = psf.to("cpu").patches(centre_Z, centre_Z, z_nm_Z)
    light_Z = share * patch_ZPP.sum(dim=(1, 2))
    for rim in range(psf.radius_px, 0, -1):
        inner_ZPP = patch_ZPP[:, rim:-rim, rim:-rim]
        if bool((inner_ZPP.sum(dim=(1, 2)) >= light_Z).all()):
            return psf.within(psf.radius_px - rim)
    return psf
