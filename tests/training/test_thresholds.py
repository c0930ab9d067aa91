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
        (0.61, 0.658, SURE),
        (0.61, 0.663, UNSURE),
        (0.699, 0.750, SURE),  # worth it by 0.001: level
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


@pytest.mark.parametrize("tried", [MERGED, ONE_CELL_EACH])
def test_of_level_ones_the_largest_mass_is_taken(tried: tuple[Thresholds, ...]) -> None:
    rising = sorted(tried, key=lambda thresholds: thresholds.mass)
    by_mass = dict(
        zip((one.mass for one in rising), [0.6, 0.64, 0.68, 0.6803, 0.681, 0.6795, 0.67], strict=False)
    )
    assert tried[taken(tried, [by_mass.get(one.mass, 0.3) for one in tried])].mass == 0.55
    by_mass[0.55] = 0.678  # not level any more
    assert tried[taken(tried, [by_mass.get(one.mass, 0.3) for one in tried])].mass == 0.5


def test_masses_of_two_ways_of_decoding_are_not_held_against_each_other() -> None:
    merged, one_cell = Thresholds(0.5), Thresholds(0.8, one_cell_each=True)
    assert taken((merged, one_cell), (0.7, 0.699)) == 0
    assert taken((merged, one_cell), (0.699, 0.7)) == 1


def test_the_best_is_found_after_the_doubt() -> None:
    tried = (Thresholds(0.2), Thresholds(0.4), Thresholds(0.5))
    assert taken(tried, (0.64, 0.60, 0.595)) == 1


def test_the_largest_of_level_ones_may_stand_anywhere() -> None:
    tried = (Thresholds(0.6), Thresholds(0.55), Thresholds(0.5))
    assert taken(tried, (0.6790, 0.6801, 0.6808)) == 0
    assert taken(tried, (0.6785, 0.6801, 0.6808)) == 1
