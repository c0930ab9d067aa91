"""Weights of the six channels' losses; conf/channel_weights holds the presets."""

from __future__ import annotations

from dataclasses import dataclass

from emitter.core.errors import require


@dataclass(frozen=True)
class ChannelWeights:
    """Weight of every channel's loss."""

    p: float = 1.0
    photons: float = 1.0
    x: float = 1.0
    y: float = 1.0
    z: float = 1.0
    background: float = 1.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            require(value >= 0, f"channel_weights.{name} is {value}: give 0 or more")
        require(
            sum(vars(self).values()) > 0,
            "all channel_weights are 0: give at least one of them a positive weight",
        )

    def per_channel(self) -> tuple[float, ...]:
        """In the order of the channels."""
        return (self.p, self.photons, self.x, self.y, self.z, self.background)
