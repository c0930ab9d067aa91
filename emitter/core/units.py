"""Pixels and nanometres.

x is the column, y the row. In pixels the first pixel spans [0, 1): the origin is the image's outer corner, and the
centre of the first pixel lies at 0.5. In nanometres the same, times the pixel size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

from emitter.core.errors import require

Number = TypeVar("Number")
_SAME = 0.02  # fraction by which pixels may differ and still be one camera's


@dataclass(frozen=True)
class PixelSize:
    """Size of one camera pixel in the sample, nm."""

    x_nm: float
    y_nm: float

    def __post_init__(self) -> None:
        for name, value in (("x", self.x_nm), ("y", self.y_nm)):
            require(
                math.isfinite(value) and 1 <= value <= 10_000,
                f"pixel_size_nm in {name} is {value}: give the pixel size in the sample in nm, between 1 and 10000",
            )

    @classmethod
    def of(cls, value: float | tuple[float, float] | list[float]) -> PixelSize:
        """From one number (square pixels) or from (x, y)."""
        if isinstance(value, (int, float)):
            return cls(float(value), float(value))
        require(len(value) == 2, f"pixel_size_nm is {value}: give one number, or two as [x, y]")
        return cls(float(value[0]), float(value[1]))

    def is_like(self, other: PixelSize) -> bool:
        """Whether both may be the same camera's: within 2 % of the other."""
        pairs = ((self.x_nm, other.x_nm), (self.y_nm, other.y_nm))
        return all(abs(one - another) <= _SAME * another for one, another in pairs)

    @property
    def area_um2(self) -> float:
        """Area of one pixel in µm²."""
        return self.x_nm * self.y_nm * 1e-6

    def to_nm(self, x_px: Number, y_px: Number) -> tuple[Number, Number]:
        """Pixel coordinates to nanometres (numbers, arrays or tensors)."""
        return x_px * self.x_nm, y_px * self.y_nm  # type: ignore[operator, return-value]

    def to_px(self, x_nm: Number, y_nm: Number) -> tuple[Number, Number]:
        """Nanometres to pixel coordinates (numbers, arrays or tensors)."""
        return x_nm / self.x_nm, y_nm / self.y_nm  # type: ignore[operator, return-value]
