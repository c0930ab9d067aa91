"""The challenge's rules, on cases small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest

from emitter.core.errors import EmitterError, SettingsError
from emitter.core.table import EmitterTable
from emitter.metrics.protocol import PROTOCOLS, Protocol, count, photon_threshold, protocol_named

FIELD_NM = (6400.0, 3200.0)


def row_of_emitters(photons: list[float], frame: int = 0) -> EmitterTable:
    """Emitters 500 nm apart, well inside the field."""
    n = len(photons)
    x = 1000.0 + 500.0 * np.arange(n)
    return EmitterTable.of(
        np.full(n, frame), x_nm=x, y_nm=np.full(n, 1500.0), z_nm=np.zeros(n), photons=photons
    )


def test_named_protocols_are_the_published_ones() -> None:
    challenge, plain = PROTOCOLS["challenge2016"], PROTOCOLS["plain"]
    assert (challenge.border_nm, challenge.photon_quantile, challenge.matching) == (450.0, 0.25, "greedy")
    assert (plain.border_nm, plain.photon_quantile, plain.matching) == (0.0, 0.0, "optimal")
    for protocol in (challenge, plain):
        assert (protocol.radius_lateral_nm, protocol.radius_axial_nm) == (250.0, 500.0)


def test_border_leaves_out_truth_and_predictions_on_every_side() -> None:
    edges = [(449, 1500), (5951, 1500), (3000, 449), (3000, 2751)]
    inside = [(450, 450), (5950, 2750), (3000, 1500)]
    x, y = np.array(edges + inside, dtype=float).T
    table = EmitterTable.of(np.zeros(len(x)), x_nm=x, y_nm=y, photons=np.full(len(x), 1000.0))
    counted = count(table, table, PROTOCOLS["challenge2016"], FIELD_NM, threshold=0.0)
    assert (counted.n_truth, counted.n_predicted) == (3, 3)
    assert counted.truth_rows.tolist() == counted.predicted_rows.tolist() == [4, 5, 6]


def test_photon_rule_neither_rewards_nor_punishes_dim_truth() -> None:
    truth = row_of_emitters([100, 200, 3000, 4000, 5000])
    # Found: 100 (dim, so not counted at all) and 4000; missed: 200 (dim, not counted), 3000, 5000; one false.
    false = EmitterTable.of([0], x_nm=[2000], y_nm=[2500], z_nm=[0], photons=[50])
    predicted = EmitterTable.concatenate([truth.select(np.array([0, 3])), false])
    counted = count(predicted, truth, PROTOCOLS["challenge2016"], FIELD_NM, threshold=1000.0)
    assert counted.truth_rows.tolist() == [3]
    assert (counted.n_truth, counted.n_predicted) == (3, 2)


def test_dim_truth_takes_part_in_the_matching() -> None:
    """The prediction belongs to the dim emitter it is nearest to, though a bright one is in reach."""
    truth = EmitterTable.of([0, 0], x_nm=[1000, 1200], y_nm=[1000, 1000], photons=[10, 5000])
    predicted = EmitterTable.of([0], x_nm=[1020], y_nm=[1000], photons=[10])
    counted = count(predicted, truth, PROTOCOLS["challenge2016"], FIELD_NM, threshold=100.0)
    assert (len(counted.truth_rows), counted.n_truth, counted.n_predicted) == (0, 1, 0)


def test_threshold_is_the_quantile_of_the_truth_inside_the_border() -> None:
    truth = row_of_emitters([100, 200, 300, 400, 500])
    at_edge = EmitterTable.of([0] * 4, x_nm=[10] * 4, y_nm=[1500] * 4, photons=[1e6] * 4)
    both = EmitterTable.concatenate([truth, at_edge])
    assert photon_threshold(both, PROTOCOLS["challenge2016"], FIELD_NM) == 200.0
    assert photon_threshold(both, PROTOCOLS["plain"], None) == 0.0
    assert photon_threshold(at_edge, PROTOCOLS["challenge2016"], FIELD_NM) == 0.0


def test_unknown_photons_count_in_plain_and_are_refused_by_the_photon_rule() -> None:
    truth = EmitterTable.of([0, 0], x_nm=[1000, 2000], y_nm=[1000, 1000])
    assert count(truth, truth, PROTOCOLS["plain"], None, threshold=0.0).n_truth == 2
    with pytest.raises(EmitterError, match=r"2 of its rows have no photon number.*protocol=plain"):
        photon_threshold(truth, PROTOCOLS["challenge2016"], FIELD_NM)


def test_z_decides_only_in_axial_protocols() -> None:
    truth = EmitterTable.of([0], x_nm=[1000], y_nm=[1000], z_nm=[700])
    predicted = EmitterTable.of([0], x_nm=[1000], y_nm=[1000], z_nm=[0])
    assert len(count(predicted, truth, Protocol("3d"), None, 0.0).truth_rows) == 0
    assert len(count(predicted, truth, Protocol("2d", axial=False), None, 0.0).truth_rows) == 1


def test_a_border_needs_the_field_size() -> None:
    with pytest.raises(EmitterError, match=r"border of 450 nm.*field_size_nm"):
        count(row_of_emitters([1]), row_of_emitters([1]), PROTOCOLS["challenge2016"], None, 0.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"border_nm": -1.0}, "border_nm is -1"),
        ({"border_nm": float("nan")}, "border_nm is nan"),
        ({"photon_quantile": 25.0}, "photon_quantile is 25"),
        ({"matching": "hungarian"}, "matching is 'hungarian'"),
        ({"radius_lateral_nm": 0.0}, "radius_lateral_nm is 0"),
        ({"radius_axial_nm": float("inf")}, "radius_axial_nm is inf"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(settings: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Protocol("own", **settings)


def test_unknown_protocol_names_the_nearest() -> None:
    with pytest.raises(SettingsError, match="did you mean 'challenge2016'"):
        protocol_named("challenge")
