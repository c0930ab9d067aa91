"""Encoding against the rules, one by one, and decoding as its inverse."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, truncnorm

from emitter.core import channels as ch
from emitter.core.channels import Scaling
from emitter.core.decoding import Thresholds, decode
from emitter.core.emitters import Emitters
from emitter.core.encoding import background_at, encode

H, W = 11, 14  # not divisible by 2 or 4
SCALING = Scaling(photons=700.0, offset_cells=0.5, z_nm=250.0, background=30.0)
number = st.floats(0.0, 1.0, exclude_max=True, width=32)


@st.composite
def emitters(draw, max_size=25):
    n = draw(st.integers(0, max_size))
    column = [[draw(number) for _ in range(n)] for _ in range(4)]
    x, y, z, photons = (torch.tensor(c, dtype=torch.float32) for c in column)
    image = torch.tensor([draw(st.integers(0, 1)) for _ in range(n)], dtype=torch.long)
    return Emitters(2, image, x * W, y * H, z * 800 - 400, 100 + photons.round(decimals=1) * 5000)


def background() -> torch.Tensor:
    return torch.linspace(10, 90, 2 * H * W).view(2, H, W)


def with_logits(maps: torch.Tensor) -> torch.Tensor:
    logits = maps.clone()
    logits[:, ch.P] = (maps[:, ch.P] - 0.5) * 40
    return logits


def rows(e: Emitters) -> set[tuple]:
    columns = (e.image_N, e.x_px_N, e.y_px_N, e.z_nm_N, e.photons_N)
    return {tuple(round(float(v), 1) for v in row) for row in zip(*columns, strict=True)}


@given(emitters(), st.sampled_from([4.0, 2.0, 1.0, 0.5]), st.sampled_from([1, 3]))
def test_decoding_the_targets_gives_the_brightest_emitter_of_every_cell(e, cell, region):
    targets = encode(e, background(), SCALING, cell, region)
    found = decode(with_logits(targets.maps_B6HW), SCALING, Thresholds(), cell)
    expected = brightest_by_brute_force(e, cell)
    assert len(found) == len(expected) == len(e) - targets.n_lost
    assert torch.allclose(
        sorted_columns(found), sorted_columns(e.select(torch.tensor(expected, dtype=torch.long))), atol=2e-2
    )


def sorted_columns(e: Emitters) -> torch.Tensor:
    table = torch.stack((e.image_N.float(), e.y_px_N, e.x_px_N, e.z_nm_N, e.photons_N / 10), dim=1)
    order = sorted(range(len(table)), key=lambda i: [round(v, 1) for v in table[i].tolist()])
    return table[order]


def brightest_by_brute_force(e: Emitters, cell: float) -> list[int]:
    best: dict[tuple, int] = {}
    for i in range(len(e)):
        place = (int(e.image_N[i]), int(e.y_px_N[i] // cell), int(e.x_px_N[i] // cell))
        rank = [float(v[i]) for v in (e.photons_N, e.x_px_N, e.y_px_N, e.z_nm_N)]
        if place not in best or rank > [
            float(v[best[place]]) for v in (e.photons_N, e.x_px_N, e.y_px_N, e.z_nm_N)
        ]:
            best[place] = i
    return sorted(best.values())


@given(emitters(), st.sampled_from([2.0, 1.0]), st.sampled_from([1, 3]), st.randoms())
def test_nothing_depends_on_the_order_of_the_emitters(e, cell, region, random):
    order = list(range(len(e)))
    random.shuffle(order)
    a = encode(e, background(), SCALING, cell, region)
    b = encode(e.select(torch.tensor(order, dtype=torch.long)), background(), SCALING, cell, region)
    assert torch.equal(a.maps_B6HW, b.maps_B6HW)
    assert torch.equal(a.region_B1HW, b.region_B1HW)


@given(emitters())
def test_a_region_never_overwrites_a_centre(e):
    centres, regions = (encode(e, background(), SCALING, 1.0, region) for region in (1, 3))
    is_centre = centres.region_B1HW.bool().expand_as(centres.maps_B6HW)
    assert torch.equal(regions.maps_B6HW[is_centre], centres.maps_B6HW[is_centre])
    assert torch.equal(regions.maps_B6HW[:, ch.P], centres.maps_B6HW[:, ch.P])
    assert (regions.region_B1HW[centres.region_B1HW == 1] == 1).all()


def one(x: float, y: float, photons: float = 1000.0) -> Emitters:
    values = [torch.tensor([v]) for v in (x, y, 50.0, float(photons))]
    return Emitters(1, torch.tensor([0]), *values)


def both(a: Emitters, b: Emitters) -> Emitters:
    fields = {f.name: getattr(a, f.name) for f in dataclasses.fields(a)}
    joined = {k: torch.cat((v, getattr(b, k))) for k, v in fields.items() if isinstance(v, torch.Tensor)}
    return Emitters(1, **joined)


def test_the_neighbours_point_at_the_same_emitter_from_their_own_centres():
    targets = encode(one(5.3, 6.8), torch.full((1, H, W), 20.0), SCALING, 1.0, 3)
    region = targets.region_B1HW[0, 0]
    assert region.sum() == 9 and (region[5:8, 4:7] == 1).all()
    x = targets.maps_B6HW[0, ch.X] * SCALING.offset_cells
    y = targets.maps_B6HW[0, ch.Y] * SCALING.offset_cells
    for row in range(5, 8):
        for column in range(4, 7):
            assert abs(column + 0.5 + x[row, column] - 5.3) < 1e-5
            assert abs(row + 0.5 + y[row, column] - 6.8) < 1e-5


def test_overlapping_regions_have_no_weight_but_both_centres_have():
    targets = encode(both(one(5.5, 5.5), one(7.5, 5.5)), torch.full((1, H, W), 20.0), SCALING, 1.0, 3)
    region = targets.region_B1HW[0, 0]
    assert (region[4:7, 6] == 0).all()
    assert region[5, 5] == 1 and region[5, 7] == 1
    assert region.sum() == 12


def test_of_two_emitters_in_a_cell_the_brighter_stays_and_the_other_is_counted():
    targets = encode(both(one(5.2, 5.5, 900), one(5.7, 5.5, 1400)), torch.full((1, H, W), 20.0), SCALING)
    assert targets.n_lost == 1
    assert abs(targets.maps_B6HW[0, ch.PHOTONS, 5, 5] * SCALING.photons - 1400) < 1e-2


def test_background_is_averaged_over_cells_and_partial_cells():
    full = background()
    coarse = background_at(full, 4.0)
    assert coarse.shape == (2, 3, 4)
    assert torch.allclose(coarse[:, 0, 0], full[:, :4, :4].mean(dim=(1, 2)))
    assert torch.allclose(coarse[:, 2, 3], full[:, 8:, 12:].mean(dim=(1, 2)))
    assert torch.equal(background_at(full, 0.5)[:, ::2, 1::2], full)


def row_of(*p: float, x: tuple[float, ...] | None = None) -> torch.Tensor:
    """Maps whose middle row holds these probabilities and says these places x in px, the rest being empty."""
    maps = torch.zeros(1, 6, H, W)
    maps[:, ch.P] = -30.0
    maps[0, ch.P, 5, 3 : 3 + len(p)] = torch.logit(torch.tensor(p))
    if x is not None:
        maps[0, ch.X, 5, 3 : 3 + len(p)] = (
            torch.tensor(x) - torch.arange(len(p)) - 3.5
        ) / SCALING.offset_cells
    return maps


def test_an_emitter_between_two_cells_is_found_once_by_their_common_mass():
    found = decode(row_of(0.43, 0.40, x=(3.95, 4.05)), SCALING, Thresholds(mass=0.5))
    assert len(found) == 1
    assert float(found.probability_N[0]) == pytest.approx(0.83, abs=1e-3)
    assert float(found.x_px_N[0]) == pytest.approx((0.43 * 3.95 + 0.40 * 4.05) / 0.83, abs=1e-4)


def test_cells_that_say_two_places_are_two_emitters():
    found = decode(row_of(0.7, 0.6, x=(3.3, 4.7)), SCALING, Thresholds(mass=0.5))
    assert found.x_px_N.tolist() == pytest.approx([3.3, 4.7])
    assert found.probability_N.tolist() == pytest.approx([0.7, 0.6], abs=1e-3)


def test_more_probability_than_one_is_two_emitters_even_in_one_place():
    found = decode(row_of(0.8, 0.75, x=(3.99, 4.01)), SCALING, Thresholds(mass=0.5))
    assert len(found) == 2


@given(
    x_px=st.floats(4.0, 7.0),
    y_px=st.floats(4.0, 6.0),
    std_px=st.floats(0.05, 0.7),
    z_by_column=st.lists(st.floats(-300, 300), min_size=W, max_size=W),
)
def test_an_emitter_spread_over_cells_is_where_its_posterior_says(x_px, y_px, std_px, z_by_column):
    """A normal posterior cut at the cells' edges: every cell holds its share and the mean within it (scipy), and the
    weighted mean of them is the posterior's, but for the tails that are too far off to be joined."""
    (x_share_W, x_W), (y_share_H, y_H) = (cut_posterior(x_px, std_px, W), cut_posterior(y_px, std_px, H))
    share_HW = np.outer(y_share_H, x_share_W)
    maps = torch.zeros(1, 6, H, W)
    maps[0, ch.P] = torch.logit(torch.tensor(share_HW))
    maps[0, ch.X] = torch.tensor(x_W) / SCALING.offset_cells
    maps[0, ch.Y] = torch.tensor(y_H)[:, None] / SCALING.offset_cells
    maps[0, ch.Z] = torch.tensor(z_by_column) / SCALING.z_nm
    found = decode(maps, SCALING, Thresholds(mass=0.4))
    assert len(found) == 1
    lost = 0.08 if std_px < 0.3 else 0.4
    assert float(found.x_px_N[0]) == pytest.approx(x_px, abs=lost * std_px + 1e-3)
    assert float(found.y_px_N[0]) == pytest.approx(y_px, abs=lost * std_px + 1e-3)
    expected_nm = float(x_share_W @ np.array(z_by_column))
    assert float(found.z_nm_N[0]) == pytest.approx(expected_nm, abs=lost * np.ptp(z_by_column) + 1)


def cut_posterior(mean_px: float, std_px: float, n_cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Every cell's share of a normal, and the mean within it from the cell's centre."""
    edges = np.arange(n_cells + 1.0)
    z_scores = (edges - mean_px) / std_px
    within = [truncnorm.mean(a, b, mean_px, std_px) for a, b in pairwise(z_scores)]
    shares = np.diff(norm.cdf(edges, mean_px, std_px)).clip(1e-12, 1 - 1e-6)
    return shares, np.clip(within, edges[:-1], edges[1:]) - edges[:-1] - 0.5


def test_a_cell_between_two_emitters_divides_its_probability():
    between = row_of(0.45, 0.3, 0.45, x=(3.9, 4.5, 5.1))
    found = decode(between, SCALING, Thresholds(mass=0.5))
    assert found.probability_N.tolist() == pytest.approx([0.6, 0.6], abs=1e-3)
    assert found.x_px_N.tolist() == pytest.approx([4.05, 4.95], abs=1e-3)


def test_where_every_emitter_has_one_cell_neighbours_lend_no_mass():
    p = (0.6, 0.3, 0.55, 0.4, 0.4)
    found = decode(row_of(*p), SCALING, Thresholds(mass=0.5, one_cell_each=True))
    assert torch.allclose(found.probability_N, torch.tensor([0.6, 0.55]), atol=1e-3)
    assert found.x_px_N.tolist() == [3.5, 5.5]


def test_standard_deviations_of_the_cells_that_joined_are_averaged_too():
    maps = torch.cat([row_of(0.6, 0.3, x=(3.95, 4.05)), torch.zeros(1, 4, H, W)], dim=1)
    maps[0, ch.SIGMAS, 5, 4] = 1.0
    sigma_24 = decode(maps, SCALING, Thresholds(mass=0.1, one_cell_each=True)).sigma_N4
    (found_4,) = decode(maps, SCALING, Thresholds(mass=0.5)).sigma_N4
    assert not torch.allclose(sigma_24[0], sigma_24[1])
    assert torch.allclose(found_4, (0.6 * sigma_24[0] + 0.3 * sigma_24[1]) / 0.9, rtol=1e-4)


def test_a_cell_that_did_not_join_may_hold_anything():
    maps = row_of(0.9, 0.9, x=(3.3, 4.7))
    maps[0, [ch.PHOTONS, ch.Z], 5, 4] = torch.tensor([float("inf"), float("nan")])
    found = decode(maps, SCALING, Thresholds(mass=0.5))
    assert len(found) == 2 and float(found.z_nm_N[0]) == 0 and float(found.photons_N[0]) == 0


def test_thresholds_of_earlier_checkpoints_are_read():
    state = {"mass": 0.4, "neighbour": 0.7, "one_cell_each": False}
    assert Thresholds.from_state(state) == Thresholds(mass=0.4)
    assert Thresholds.from_state(vars(Thresholds(0.3, True))) == Thresholds(0.3, True)


def test_of_two_equal_neighbours_one_is_the_emitter():
    found = decode(row_of(0.45, 0.45, x=(3.9, 4.1)), SCALING, Thresholds(mass=0.5))
    assert len(found) == 1 and float(found.probability_N[0]) == pytest.approx(0.9, abs=1e-3)
    assert float(found.x_px_N[0]) == pytest.approx(4.0, abs=1e-4)


VALUES = {"z": (ch.Z, SCALING.z_nm), "photons": (ch.PHOTONS, SCALING.photons)}
VALUES |= {"background": (ch.BACKGROUND, SCALING.background)}


@given(st.integers(0, 2**31), st.floats(0.1, 0.9))
def test_decoding_is_what_its_rules_say(seed: int, mass: float):
    """Against the rules cell by cell, on random maps."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(2, 6, 6, 7, generator=generator) * 2 - 1
    maps[:, ch.P] = maps[:, ch.P] * 4 - 1
    found = decode(maps, SCALING, Thresholds(mass=mass))
    expected = [(image, *one) for image, values in enumerate(maps) for one in decoded_by_hand(values, mass)]
    columns = ("image_N", "x_px_N", "y_px_N", "z_nm_N", "photons_N", "background_N", "probability_N")
    got = torch.stack([getattr(found, name).float() for name in columns], dim=1)
    assert len(got) == len(expected)
    assert np.allclose(got.numpy(), np.array(expected).reshape(-1, len(columns)), atol=1e-2, rtol=1e-4)


def decoded_by_hand(values: torch.Tensor, mass: float) -> list[tuple[float, ...]]:
    """(x, y, z, photons, background, probability) of one image's maps (6, H, W), in reading order."""
    p = torch.sigmoid(values[ch.P])
    cells = {
        (row, column): {
            "p": float(p[row, column]),
            "x": column + 0.5 + float(values[ch.X, row, column]) * SCALING.offset_cells,
            "y": row + 0.5 + float(values[ch.Y, row, column]) * SCALING.offset_cells,
            **{name: float(values[c, row, column]) * scale for name, (c, scale) in VALUES.items()},
        }
        for row, column in np.ndindex(*p.shape)
        if p[row, column] > 0.01
    }

    def joinable(a: tuple[int, int], b: tuple[int, int]) -> bool:
        one, two, both = cells[a], cells[b], cells[a]["p"] + cells[b]["p"]
        touch = max(abs(a[0] - b[0]), abs(a[1] - b[1])) == 1
        return (
            touch and both <= 1.5 and np.hypot(one["x"] - two["x"], one["y"] - two["y"]) < 1.15 - 0.5 * both
        )

    stay = [a for a in cells if not any(joinable(a, b) and cells[b]["p"] > cells[a]["p"] for b in cells)]
    parts: dict = {a: [(cells[a]["p"], a)] for a in stay}
    for b in cells.keys() - set(stay):
        hosts = [a for a in stay if joinable(a, b)]
        for a in hosts:
            parts[a].append((cells[b]["p"] * cells[a]["p"] / sum(cells[h]["p"] for h in hosts), b))
    emitters = []
    for a in stay:
        total = sum(part for part, _ in parts[a])
        if total > mass:
            names = ("x", "y", *VALUES)
            means = [sum(part * cells[b][name] for part, b in parts[a]) / total for name in names]
            emitters.append((*means, min(total, 1.0)))
    return emitters
