"""Weights of the scales' losses over training: coarse scales first.

progress = min(step / warm-up steps, 1), base = 0.1 + 0.9 · progress, and scale k (0 is the coarsest) has base^k times
its final weight, so the finest grows slowest. ``fine_first`` has base^(K-1-k), the form usually printed. A scale that
is not active yet has weight 0; its parameters stay in the graph. A pure function of the step, hence right after a
resume.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from emitter.core.errors import require


@dataclass(frozen=True)
class ScaleWarmupSettings:
    """``order``: coarse_first, fine_first or none. Its length in ``steps`` or in ``epochs``, one of them.
    ``coarse_weight``: final weight of every scale but the finest, whose weight is 1. ``active_from_epoch``: epoch in
    which each scale becomes active, coarse to fine; empty: all from the start."""

    ORDERS: ClassVar[tuple[str, ...]] = ("coarse_first", "fine_first", "none")

    order: Literal["coarse_first", "fine_first", "none"] = "coarse_first"
    steps: int | None = 200
    epochs: float | None = None
    coarse_weight: float = 0.3
    active_from_epoch: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        known = ", ".join(self.ORDERS)
        require(self.order in self.ORDERS, f"scale_warmup.order is '{self.order}': choose one of {known}")
        require(
            (self.steps is None) != (self.epochs is None),
            f"scale_warmup.steps is {self.steps} and scale_warmup.epochs is {self.epochs}: give one, the other null",
        )
        for name in ("steps", "epochs"):
            value = getattr(self, name)
            require(
                value is None or value > 0,
                f"scale_warmup.{name} is {value}: give a number above 0, or scale_warmup.order=none",
            )
        require(
            self.coarse_weight >= 0, f"scale_warmup.coarse_weight is {self.coarse_weight}: give 0 or more"
        )
        require(
            not self.active_from_epoch or min(self.active_from_epoch) == 0,
            f"scale_warmup.active_from_epoch is {list(self.active_from_epoch)}: give numbers of 0 or more, and 0 for "
            "at least one scale, or nothing is trained at first",
        )


def never_active(
    settings: ScaleWarmupSettings, total_steps: int, epoch_steps: int
) -> list[tuple[int, float]]:
    """Scales that are still locked at the last step of a run, each with its activation epoch."""
    return [
        (scale, epoch)
        for scale, epoch in enumerate(settings.active_from_epoch)
        if epoch * epoch_steps >= total_steps
    ]


def scale_weights(
    settings: ScaleWarmupSettings, step: int, n_scales: int, epoch_steps: int
) -> tuple[float, ...]:
    """Weight of every scale's loss at this step, coarse to fine.

    Raises:
        SettingsError: when the activation epochs are not one for each scale.
    """
    active_from = settings.active_from_epoch or (0.0,) * n_scales
    require(
        len(active_from) == n_scales,
        f"scale_warmup.active_from_epoch is {list(active_from)}: give one epoch for each of the {n_scales} scales",
    )
    powers = {
        "coarse_first": range(n_scales),
        "fine_first": range(n_scales - 1, -1, -1),
        "none": (0,) * n_scales,
    }[settings.order]
    length = settings.steps if settings.steps is not None else (settings.epochs or 0) * epoch_steps
    base = 0.1 + 0.9 * min(step / length, 1.0)
    final = [settings.coarse_weight] * (n_scales - 1) + [1.0]
    return tuple(
        weight * base**power if step >= begin * epoch_steps else 0.0
        for weight, power, begin in zip(final, powers, active_from, strict=True)
    )
