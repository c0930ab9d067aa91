"""Simulated bead stacks: a known PSF at known places, with Poisson noise."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from emitter.core.emitters import Emitters
from emitter.core.units import PixelSize
from emitter.psf import render
from emitter.psf.base import PSF
from emitter.psf.gaussian import AstigmaticPSF, AstigmaticSettings

PIXEL = PixelSize(100.0, 100.0)
Z_STEP_NM = 25.0
TRUE_PSF = AstigmaticPSF(AstigmaticSettings(), PIXEL)
# x, y in pixels: no two alike in their pixel, 30 px and more apart.
PLACES = ((22.31, 25.87), (61.05, 22.62), (24.78, 63.44), (66.52, 64.11))


@dataclass(frozen=True)
class BeadStack:
    """What is on the slide; ``stack()`` is what the camera sees, (Z, H, W) in photons."""

    places: tuple[tuple[float, float], ...] = PLACES
    photons: tuple[float, ...] = (30000.0, 24000.0, 36000.0, 27000.0)
    z_nm: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    background: float = 20.0
    side_px: int = 90
    psf: PSF = field(default=TRUE_PSF)
    n_slices: int = 41
    seed: int = 0

    def expected(self) -> np.ndarray:
        """Without noise."""
        z_slice = (np.arange(self.n_slices) - (self.n_slices - 1) / 2) * Z_STEP_NM
        n = len(self.places)
        place = torch.tensor(self.places).repeat(self.n_slices, 1)
        emitters = Emitters(
            n_images=self.n_slices,
            image_N=torch.arange(self.n_slices).repeat_interleave(n),
            x_px_N=place[:, 0],
            y_px_N=place[:, 1],
            z_nm_N=torch.as_tensor((z_slice[:, None] - np.array(self.z_nm)).ravel(), dtype=torch.float32),
            photons_N=torch.tensor(self.photons).repeat(self.n_slices),
        )
        return render(self.psf, emitters, self.side_px, self.side_px).double().numpy() + self.background

    def stack(self) -> np.ndarray:
        """With Poisson noise, as a camera's uint16."""
        return np.random.default_rng(self.seed).poisson(self.expected()).astype(np.uint16)


def distances_px(found_N2: np.ndarray, places: tuple[tuple[float, float], ...] = PLACES) -> np.ndarray:
    """Vector from each found place's nearest true place, (N, 2)."""
    true = np.array(places)
    nearest = [int(np.argmin(np.hypot(*(true - one).T))) for one in found_N2]
    return found_N2 - true[nearest]
