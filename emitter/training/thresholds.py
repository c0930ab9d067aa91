"""Which thresholds of decoding a validation tries, and which it takes."""

from __future__ import annotations

from collections.abc import Sequence

from emitter.core.decoding import Thresholds

_MASSES = (0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7)
MERGED = tuple(Thresholds(mass) for mass in _MASSES)
ONE_CELL_EACH = tuple(Thresholds(mass, one_cell_each=True) for mass in (*_MASSES, 0.8, 0.9))
# The crowded frames of a training, which teach most, ask for small masses, and sparser frames of the same network for
# 0.4 to 0.5 (docs/benchmarks.md). To a network that has learnt little small ones are worth more, everywhere.
_SURE_MASS, _DOUBT = 0.4, 0.05


def taken(tried: Sequence[Thresholds], efficiencies: Sequence[float]) -> int:
    """The place of the most efficient ones, where a mass below 0.4 must be worth 0.05 of efficiency."""
    doubts = [_DOUBT * (thresholds.mass < _SURE_MASS) for thresholds in tried]
    return max(range(len(tried)), key=lambda i: efficiencies[i] - doubts[i])
