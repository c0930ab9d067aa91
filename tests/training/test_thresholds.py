"""Which thresholds a validation takes."""

from __future__ import annotations

import math

import pytest

from emitter.core.decoding import Thresholds
from emitter.training.thresholds import MERGED, ONE_CELL_EACH, taken

SURE, UNSURE = Thresholds(0.5), Thresholds(0.2)


@pytest.mark.parametrize(
    ("sure", "unsure", "best"),
    [
        (0.70, 0.65, SURE),
        (0.65, 0.69, SURE),  # crowded frames' liking for more rows is not worth it
        (0.60, 0.66, UNSURE),  # nearly all is lost otherwise
        (-math.inf, 0.01, UNSURE),
        (-math.inf, -math.inf, SURE),
    ],
)
def test_a_small_mass_must_be_worth_it(sure: float, unsure: float, best: Thresholds) -> None:
    assert (SURE, UNSURE)[taken((SURE, UNSURE), (sure, unsure))] == best
    assert (UNSURE, SURE)[taken((UNSURE, SURE), (unsure, sure))] == best or sure == unsure


@pytest.mark.parametrize("tried", [MERGED, ONE_CELL_EACH])
def test_among_the_sure_the_best_is_taken(tried: tuple[Thresholds, ...]) -> None:
    for place, thresholds in enumerate(tried):
        efficiencies = [0.5] * len(tried)
        efficiencies[place] = 0.54
        assert (taken(tried, efficiencies) == place) == (thresholds.mass >= 0.4)
