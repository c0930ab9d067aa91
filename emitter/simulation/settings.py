"""What is believed about the sample before it is seen: densities, brightness, blinking, background."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from emitter.core.errors import require

Range = tuple[float, float]


def _check_range(name: str, value: Range, low: float = -math.inf) -> None:
    require(
        len(value) == 2 and all(math.isfinite(v) for v in value) and low <= value[0] <= value[1],
        f"{name} is {list(value)}: give [low, high] with low ≤ high"
        + (f" and from {low:g} up" if low > -1e9 else ""),
    )


@dataclass(frozen=True)
class FluxSettings:
    """Distribution of an emitter's photons per frame while it is on.

    ``normal`` (mean, std; cut off at 0), ``lognormal`` (with this mean and std) or ``uniform`` over ``range``.
    """

    DISTRIBUTIONS: ClassVar[tuple[str, ...]] = ("normal", "lognormal", "uniform")

    distribution: Literal["normal", "lognormal", "uniform"] = "normal"
    mean: float = 3000.0
    std: float = 1000.0
    range: Range = (1000.0, 5000.0)

    def __post_init__(self) -> None:
        known = ", ".join(self.DISTRIBUTIONS)
        require(
            self.distribution in self.DISTRIBUTIONS,
            f"simulation.flux.distribution is '{self.distribution}': choose one of {known}",
        )
        require(self.mean > 0, f"simulation.flux.mean is {self.mean}: give photons per frame, above 0")
        require(self.std > 0, f"simulation.flux.std is {self.std}: give photons per frame, above 0")
        _check_range("simulation.flux.range", self.range, low=0)
        require(self.range[1] > 0, "simulation.flux.range ends at 0: give photons per frame, above 0")

    @property
    def used(self) -> tuple[str, ...]:
        """The settings that the distribution goes by."""
        return ("range",) if self.distribution == "uniform" else ("mean", "std")

    @property
    def typical(self) -> float:
        """Mean of the distribution, photons per frame."""
        return sum(self.range) / 2 if self.distribution == "uniform" else self.mean


@dataclass(frozen=True)
class SimulationSettings:
    """Priors of the simulated frames.

    ``density_per_um2``: emitters seen per frame and µm², drawn log-uniformly per sample from [low, high].
    ``lifetime_frames``: mean time that an emitter is on; null: no blinking, every emitter is on for the whole frame
    and the frames are independent. ``z_range_nm``: uniform. ``background``: photons per pixel, uniform per sample;
    ``background_structure`` is the depth of its smooth modulation (0: flat, 1: down to nothing in places), drawn
    uniformly from [0, value]. ``filament_share``: share of the samples whose emitters lie on a few filaments; in the
    others they are placed uniformly.
    """

    frame_size_px: tuple[int, int] = (40, 40)
    n_frames: int = 3
    density_per_um2: Range = (0.6, 0.6)
    lifetime_frames: float | None = 2.0
    flux: FluxSettings = field(default_factory=FluxSettings)
    z_range_nm: Range = (-500.0, 500.0)
    background: Range = (10.0, 100.0)
    background_structure: float = 0.0
    filament_share: float = 0.0

    def __post_init__(self) -> None:
        height, width = self.frame_size_px
        require(
            8 <= height <= 4096 and 8 <= width <= 4096,
            f"simulation.frame_size_px is {list(self.frame_size_px)}: give [rows, columns] between 8 and 4096",
        )
        require(
            self.n_frames >= 1 and self.n_frames % 2 == 1,
            f"simulation.n_frames is {self.n_frames}: give an odd number, the middle frame is the one predicted",
        )
        _check_range("simulation.density_per_um2", self.density_per_um2, low=1e-4)
        _check_range("simulation.z_range_nm", self.z_range_nm)
        _check_range("simulation.background", self.background, low=0)
        require(
            self.background[1] > 0, "simulation.background ends at 0: give at least a fraction of a photon"
        )
        require(
            self.lifetime_frames is None or self.lifetime_frames > 0,
            f"simulation.lifetime_frames is {self.lifetime_frames}: give frames, above 0, or null for no blinking",
        )
        for name in ("background_structure", "filament_share"):
            require(0 <= getattr(self, name) <= 1, f"simulation.{name} is {getattr(self, name)}: give 0 to 1")
