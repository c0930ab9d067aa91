"""Emitters of a batch of images, as tensors.

Shape suffixes: N emitters (of all images of the batch, flat), B images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Emitters:
    """Flat list of the emitters of ``n_images`` images. Every tensor has shape (N,), but for ``sigma_N4``.

    x is the column and y the row in pixels from the image's outer corner, z in nm, photons before the quantum
    efficiency, background in photons per pixel. ``sigma_N4``: the network's own word on the standard deviations of x,
    y, z and photons in the same units, where it has channels for it.
    """

    n_images: int
    image_N: Tensor
    x_px_N: Tensor
    y_px_N: Tensor
    z_nm_N: Tensor
    photons_N: Tensor
    background_N: Tensor | None = None
    probability_N: Tensor | None = None
    sigma_N4: Tensor | None = None

    def __len__(self) -> int:
        return len(self.image_N)

    def select(self, keep_N: Tensor) -> Emitters:
        """The emitters of a boolean mask or of an index tensor."""
        return self._mapped(lambda value_N: value_N[keep_N])

    def to(self, device: torch.device | str) -> Emitters:
        """The same emitters on another device."""
        return self._mapped(lambda value_N: value_N.to(device))

    def pin_memory(self) -> Emitters:
        """The same emitters in memory from which a GPU copies fast."""
        return self._mapped(lambda value_N: value_N.pin_memory())

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> Emitters:
        changed = {name: change(value) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **changed)  # type: ignore[arg-type]

    def inside(self, height: int, width: int) -> Emitters:
        """Those whose position lies inside an image of ``height`` × ``width`` pixels."""
        in_x = (self.x_px_N >= 0) & (self.x_px_N < width)
        in_y = (self.y_px_N >= 0) & (self.y_px_N < height)
        return self.select(in_x & in_y)
