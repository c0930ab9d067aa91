"""The interface of the detection terms.

A term compares logits with a target, cell by cell or as overlapping regions, for every image: 0 where no emitter is and
1 where one is, or for a term that takes it the quality of what the other channels say there. All work on (B, H, W) and
on (B, D, H, W).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from emitter.core.errors import require
from emitter.losses.detection.count import count_loss

EPS = 1e-4  # in every denominator and variance


@dataclass(frozen=True)
class DetectionSettings(ABC):
    """What every term has. ``count_weight``: of the number of emitters' likelihood, added to the term."""

    kind: ClassVar[str]
    takes_quality: ClassVar[bool] = (
        False  # whether targets between 0 and 1 are learned as they are; else all are 1
    )

    count_weight: float = 0.0

    def __post_init__(self) -> None:
        require(self.count_weight >= 0, f"detection.count_weight is {self.count_weight}: give 0 or more")

    @property
    def foreground_ratio(self) -> float | None:
        """How much more an emitter's cell weighs than an empty one, which the data check names; None where cells are
        not weighed one by one."""
        return None

    @abstractmethod
    def term(self, logits_B: Tensor, target_B: Tensor, progress: float) -> Tensor:
        """(B,) from float32 logits and targets (B, …); ``progress`` runs from 0 to 1 over the training."""

    def loss(self, logits_B: Tensor, target_B: Tensor, progress: float) -> Tensor:
        """The term, with the number of emitters where it is weighted, (B,)."""
        total_B = self.term(logits_B, target_B, progress)
        if self.count_weight:
            total_B = total_B + self.count_weight * count_loss(logits_B, target_B)
        return total_B
