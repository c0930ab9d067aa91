"""Weights of the scales' losses over training: coarse scales first.

progress = min(step / warm-up steps, 1), base = 0.1 + 0.9 · progress, and scale k (0 is the coarsest) has base^k times
its final weight, so the finest grows slowest. ``fine_first`` has base^(K-1-k), the form usually printed. A pure
function of the step, hence right after a resume.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from emitter.core.errors import require


@dataclass(frozen=True)
class ScaleWarmupSettings:
    """``order``: coarse_first, fine_first or none; ``steps``: its length; ``coarse_weight``: final weight of every
    scale but the finest, whose weight is 1."""

    ORDERS: ClassVar[tuple[str, ...]] = ("coarse_first", "fine_first", "none")

    order: Literal["coarse_first", "fine_first", "none"] = "coarse_first"
    steps: int = 200
    coarse_weight: float = 0.3

    def __post_init__(self) -> None:
        known = ", ".join(self.ORDERS)
        require(self.order in self.ORDERS, f"scale_warmup.order is '{self.order}': choose one of {known}")
        require(
            self.steps >= 1, f"scale_warmup.steps is {self.steps}: give 1 or more, or scale_warmup.order=none"
        )
        require(
            self.coarse_weight >= 0, f"scale_warmup.coarse_weight is {self.coarse_weight}: give 0 or more"
        )


def scale_weights(settings: ScaleWarmupSettings, step: int, n_scales: int) -> tuple[float, ...]:
    """Weight of every scale's loss at this step, coarse to fine."""
    final = [settings.coarse_weight] * (n_scales - 1) + [1.0]
    if settings.order == "none":
        return tuple(final)
    base = 0.1 + 0.9 * min(step / settings.steps, 1.0)
    powers = range(n_scales) if settings.order == "coarse_first" else reversed(range(n_scales))
    return tuple(weight * base**power for weight, power in zip(final, powers, strict=True))
