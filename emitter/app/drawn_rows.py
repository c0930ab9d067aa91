"""The rows of a table that render.py draws, part by part, and what must be known of all before the first is drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from emitter.core.errors import EmitterError
from emitter.core.table import EmitterTable
from emitter.io.parts import Parts, Sample, in_blocks

_BLOCK = 50_000  # rows that are drawn at a time, however the table is parted
Region = tuple[float, float, float, float]  # x0, y0, x1, y1 in nm


@dataclass
class Range:
    """Lowest and highest of some numbers; above and below everything while there are none."""

    low: float = math.inf
    high: float = -math.inf

    def add(self, values: np.ndarray) -> None:
        """More numbers."""
        self.low = float(values.min(initial=self.low))
        self.high = float(values.max(initial=self.high))

    def __str__(self) -> str:
        return f"{self.low:.0f} to {self.high:.0f} nm"


@dataclass
class Seen:
    """What one pass tells: of all rows their number and where they lie, of those in the region number and z."""

    n_rows: int = 0
    x_nm: Range = field(default_factory=Range)
    y_nm: Range = field(default_factory=Range)
    n_inside: int = 0
    n_without_z: int = 0
    z_nm: Range = field(default_factory=Range)
    z_sample: Sample = field(default_factory=Sample)

    def require_z(self, otherwise: str) -> None:
        """Raise ``EmitterError`` where a row in the region has no z."""
        if self.n_without_z:
            raise EmitterError(
                f"{self.n_without_z} of {self.n_inside} rows of the table have no z: {otherwise}"
            )

    def bounds(self, pixel_nm: float) -> Region:
        """The smallest region of whole pixels, from the camera image's corner, that holds every localization."""
        x0, y0 = (math.floor(side.low / pixel_nm) * pixel_nm for side in (self.x_nm, self.y_nm))
        x1, y1 = ((math.floor(side.high / pixel_nm) + 1) * pixel_nm for side in (self.x_nm, self.y_nm))
        return x0, y0, x1, y1

    def z_range_nm(self) -> tuple[float, float] | None:
        """Lowest and highest z without the outermost hundredth, to 10 nm (of a sample in long tables); None for a
        table without z or of one z."""
        low, high = self.z_sample.percentiles(0.5, 99.5)
        return (math.floor(low / 10) * 10.0, math.ceil(high / 10) * 10.0) if high > low else None


@dataclass(frozen=True)
class DrawnRows:
    """Those in the region (all without one), each as wide as ``sigma_nm`` where it is given."""

    parts: Parts
    region_nm: Region | None
    sigma_nm: float | None

    def seen(self) -> Seen:
        """From a pass over the table."""
        seen = Seen()
        for part in self.parts:
            seen.n_rows += len(part)
            seen.x_nm.add(part.x_nm)
            seen.y_nm.add(part.y_nm)
            inside = self._inside(part)
            seen.n_inside += len(inside)
            known_nm = inside.z_nm[~np.isnan(inside.z_nm)]
            seen.n_without_z += len(inside) - len(known_nm)
            seen.z_nm.add(known_nm)
            seen.z_sample.add(known_nm)
        return seen

    def blocks(self) -> Iterator[EmitterTable]:
        """The rows, from another pass: the same blocks however the table is parted."""
        for block in in_blocks(map(self._inside, self.parts), _BLOCK):
            width = {} if self.sigma_nm is None else self._widths(len(block), self.sigma_nm)
            yield block.with_columns(**width)

    def _inside(self, part: EmitterTable) -> EmitterTable:
        if self.region_nm is None:
            return part
        x0, y0, x1, y1 = self.region_nm
        return part.select((part.x_nm >= x0) & (part.x_nm < x1) & (part.y_nm >= y0) & (part.y_nm < y1))

    @staticmethod
    def _widths(n_rows: int, sigma_nm: float) -> dict[str, np.ndarray]:
        return dict.fromkeys(("precision_x_nm", "precision_y_nm"), np.full(n_rows, sigma_nm))
