"""The number of emitters: Poisson-binomial, with its normal approximation.

Σp is the expected number and Σp(1 − p) its variance when every cell holds an emitter with probability p, independently:
−log N(N; Σp, Σp(1 − p)), without the constant ½log 2π. Where the targets are qualities, N is their sum.
"""

from __future__ import annotations

import torch
from torch import Tensor

_VARIANCE_EPS = 1e-4


def count_loss(logits_B: Tensor, target_B: Tensor) -> Tensor:
    """Negative log-likelihood of each image's number of emitters, (B,), from logits and targets (B, …)."""
    p_BN = torch.sigmoid(logits_B.float().flatten(1))
    n_B = target_B.float().flatten(1).sum(dim=1)
    variance_B = (p_BN * (1 - p_BN)).sum(dim=1) + _VARIANCE_EPS
    return 0.5 * ((n_B - p_BN.sum(dim=1)) ** 2 / variance_B + variance_B.log())
