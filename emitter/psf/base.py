"""The interface of every PSF model.

Shape suffixes: N emitters, P patch side in pixels (rows first: index [n, row, column]).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

import torch
from torch import Tensor


class PSF(ABC):
    """Expected photons per pixel around an emitter, as a fraction of the emitter's photons.

    A model is evaluated on square patches of side ``2 · radius_px + 1`` centred on the pixel that holds the
    emitter. Positions are relative to that pixel's centre: dx, dy in pixels (normally within [-0.5, 0.5]),
    z in nm.
    """

    kind: str
    radius_px: int
    z_range_nm: tuple[float, float]

    @property
    def patch_px(self) -> int:
        """Side of a patch, pixels."""
        return 2 * self.radius_px + 1

    @abstractmethod
    def patches(self, dx_px_N: Tensor, dy_px_N: Tensor, z_nm_N: Tensor) -> Tensor:
        """Fraction of the photons in every pixel, (N, P, P)."""

    @abstractmethod
    def derivatives(self, dx_px_N: Tensor, dy_px_N: Tensor, z_nm_N: Tensor) -> tuple[Tensor, Tensor]:
        """The patches (N, P, P) and their derivatives (N, 3, P, P) by x (1/px), y (1/px), z (1/nm)."""

    @abstractmethod
    def within(self, radius_px: int) -> Self:
        """The same model on patches of at most this radius: the inner pixels of its own."""

    @abstractmethod
    def to(self, device: torch.device | str) -> Self:
        """The same model on another device."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Plain numbers, strings and tensors from which ``emitter.psf.from_state`` rebuilds the model."""
