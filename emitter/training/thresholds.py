"""Which thresholds of decoding a validation tries, and which it takes."""

from __future__ import annotations

from collections.abc import Sequence

from emitter.core.decoding import Thresholds

_MASSES = (0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7)
MERGED = tuple(Thresholds(mass) for mass in _MASSES)
ONE_CELL_EACH = tuple(Thresholds(mass, one_cell_each=True) for mass in (*_MASSES, 0.8, 0.9))
# The crowded frames of a training, which teach most, ask for small masses, and sparser frames of the same network for
# larger ones (docs/benchmarks.md). To a network that has learnt little small ones are worth more, everywhere.
_SURE_MASS, _DOUBT = 0.4, 0.05
_LEVEL = 0.002  # of efficiency: the halves of a validation disagree by as much


def taken(tried: Sequence[Thresholds], efficiencies: Sequence[float]) -> int:
    """The place of the largest mass that is level with the best, where one below 0.4 counts 0.05 less.

    Efficiencies may be -inf, where nothing was found; if all are, the first place.
    """
    worth = [
        efficiency - _DOUBT * (thresholds.mass < _SURE_MASS)
        for thresholds, efficiency in zip(tried, efficiencies, strict=True)
    ]
    best = max(range(len(tried)), key=worth.__getitem__)
    level = [
        place
        for place, thresholds in enumerate(tried)
        if thresholds.one_cell_each == tried[best].one_cell_each and worth[place] > worth[best] - _LEVEL
    ]
    return max(level, key=lambda place: tried[place].mass, default=best)
