"""The channels' parts of the last epochs, in a buffer that travels in the checkpoint."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from emitter.core.channels import N_CHANNELS


class PartsHistory(nn.Module):
    """The last ``length`` epochs' parts, oldest first."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length
        self.values_E6: Tensor
        self.count: Tensor
        self.register_buffer("values_E6", torch.zeros(length, N_CHANNELS))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))  # epochs seen in all

    def add(self, parts_6: Tensor) -> bool:
        """One more epoch; the oldest falls out. Parts that are not finite are left out: whether these were added."""
        if not bool(torch.isfinite(parts_6).all()):
            return False
        self.values_E6.copy_(torch.cat((self.values_E6[1:], parts_6.detach()[None])))
        self.count += 1
        return True

    def last(self, n: int, before: int = 0) -> Tensor:
        """Mean over the last ``n`` epochs that are known, ``before`` of the newest left out, (6,)."""
        known = min(int(self.count), self.length)
        stop = self.length - before
        return self.values_E6[max(self.length - known, stop - n) : stop].mean(dim=0)
