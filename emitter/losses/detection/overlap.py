"""Soft overlap of the predicted with the true cells: Dice, Tversky and IoU are one mathematics.

With hits TP = Σ p t, false positives FP = Σ p (1 − t) and false negatives FN = Σ (1 − p) t over an image's cells,

    T(α, β) = (TP + s) / (TP + α FP + β FN + s)        (Tversky 1977; as a loss, Salehi et al. 2017)

is Dice at α = β = 1/2 and IoU at α = β = 1, so that Dice = 2 IoU / (1 + IoU) holds with the smoothing s too (Dice is
often written with all sums doubled, where s is doubled as well). The loss 1 − T lies in [0, 1] for each image.

An image without emitters has 1 − T = α FP / (α FP + s): it goes to 0 with FP, and the slope along all its logits
together never exceeds 1/4. At s = 1e-5 it is however nearly 1 and flat until all probabilities together are of that
size, so empty images teach little; a larger s makes them teach.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from emitter.core.errors import require
from emitter.losses.detection.base import DetectionSettings


def tversky_loss(logits_B: Tensor, target_B: Tensor, alpha: float, beta: float, smooth: float) -> Tensor:
    """1 − T(α, β) of each image, (B,) in [0, 1], from logits and targets (B, …).

    Written as (α FP + β FN) / (TP + α FP + β FN + s), which has no difference of nearly equal numbers and is exactly 0
    for a perfect prediction. 1 − p is computed as sigmoid(−logit) for the same reason.
    """
    logits_BN, target_BN = logits_B.flatten(1), target_B.flatten(1)
    p_BN = torch.sigmoid(logits_BN)
    hits_B = (p_BN * target_BN).sum(dim=1)
    false_positives_B = (p_BN * (1 - target_BN)).sum(dim=1)
    false_negatives_B = (torch.sigmoid(-logits_BN) * target_BN).sum(dim=1)
    errors_B = alpha * false_positives_B + beta * false_negatives_B
    return errors_B / (hits_B + errors_B + smooth)


@dataclass(frozen=True)
class OverlapSettings(DetectionSettings):
    """``smooth``: s of the overlap, in cells. ``weight``: of the loss, per emitter.

    The overlap's loss is one number in [0, 1] for each image, but the regression channels are sums over its emitters.
    The term is therefore weight · (emitters + 1) · (1 − T): it weighs like the emitters that it speaks of, and the
    extra one keeps an empty image's false positives in it. The default of 4 is the cross-entropy's place: an ignorant
    prediction has 1 − T near 1 and costs 4 per emitter, where the cross-entropy spends 3 to 5 nats early in training;
    and its slope along the logit of an emitter's cell is about 4 p (1 − p), at most 1 like the cross-entropy's.
    """

    smooth: float = 1e-5
    weight: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("smooth", "weight"):
            value = getattr(self, name)
            require(value > 0, f"detection.{name} is {value}: give a number above 0")

    @property
    @abstractmethod
    def alpha_beta(self) -> tuple[float, float]:
        """Weights of the false positives and of the false negatives."""

    def term(self, logits_B: Tensor, target_B: Tensor, progress: float) -> Tensor:
        """(B,) from (B, …)."""
        weight_B = self.weight * (target_B.flatten(1).sum(dim=1) + 1)
        return weight_B * tversky_loss(logits_B, target_B, *self.alpha_beta, self.smooth)


@dataclass(frozen=True)
class DiceSettings(OverlapSettings):
    """Dice: false positives and false negatives count half."""

    kind: ClassVar[str] = "dice"

    @property
    def alpha_beta(self) -> tuple[float, float]:
        """A half each."""
        return 0.5, 0.5


@dataclass(frozen=True)
class IoUSettings(OverlapSettings):
    """Intersection over union: false positives and false negatives count fully."""

    kind: ClassVar[str] = "iou"

    @property
    def alpha_beta(self) -> tuple[float, float]:
        """One each."""
        return 1.0, 1.0


@dataclass(frozen=True)
class TverskySettings(OverlapSettings):
    """``alpha``: weight of the false positives; the false negatives have beta = 1 − alpha. 0.5 is Dice, less finds
    more emitters, more finds fewer false ones."""

    kind: ClassVar[str] = "tversky"

    alpha: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            0 < self.alpha < 1,
            f"detection.alpha is {self.alpha}: give a number between 0 and 1, both excluded",
        )

    @property
    def alpha_beta(self) -> tuple[float, float]:
        """They add up to one."""
        return self.alpha, 1 - self.alpha
