"""Candidate pairs against loops over all emitters and all cells, and the softmax over groups against its definition."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emitter.core import channels as ch
from emitter.core.candidates import candidates, softmax_within
from emitter.core.channels import Scaling
from emitter.core.emitters import Emitters
from emitter.core.encoding import encode

H, W = 11, 14  # not divisible by 2 or 4
SCALING = Scaling(photons=700.0, offset_cells=0.5, z_nm=250.0, background=30.0)


@st.composite
def emitters(draw, low=-0.2, high=1.2):
    n = draw(st.integers(0, 8))
    position = st.floats(low, high, exclude_max=True)
    x, y = (torch.tensor([draw(position) for _ in range(n)], dtype=torch.float64) * side for side in (W, H))
    value = torch.arange(n, dtype=torch.float64)
    image = torch.tensor([draw(st.integers(0, 1)) for _ in range(n)], dtype=torch.long)
    return Emitters(2, image, x, y, 40 * value - 100, 100 + 300 * value)


def by_loops(e: Emitters, cell_px: float, radius: int) -> dict[tuple, list[float]]:
    """(emitter, image, row, column) → photons, x, y, z and distance."""
    rows, columns = math.ceil(H / cell_px), math.ceil(W / cell_px)
    found, index = {}, 0
    for image, x, y, z, photons in zip(
        e.image_N.tolist(),
        e.x_px_N.tolist(),
        e.y_px_N.tolist(),
        e.z_nm_N.tolist(),
        e.photons_N.tolist(),
        strict=True,
    ):
        if not (0 <= x < W and 0 <= y < H):
            continue
        for row in range(rows):
            for column in range(columns):
                if max(abs(row - int(y // cell_px)), abs(column - int(x // cell_px))) > radius:
                    continue
                dx, dy = x / cell_px - column - 0.5, y / cell_px - row - 0.5
                found[index, image, row, column] = [
                    photons / 700,
                    dx / 0.5,
                    dy / 0.5,
                    z / 250,
                    math.hypot(dx, dy),
                ]
        index += 1
    return found


@pytest.mark.parametrize("cell_px", [4, 2, 1, 0.5])
@given(e=emitters(), radius=st.integers(0, 2))
def test_pairs_are_those_of_the_loops(cell_px, e, radius):
    pairs = candidates(e, H, W, SCALING, cell_px, radius)
    keys = torch.stack((pairs.emitter_M, pairs.image_M, pairs.row_M, pairs.column_M), dim=1).tolist()
    values = torch.cat((pairs.values_M4, pairs.distance_cells_M[:, None]), dim=1).tolist()
    expected = by_loops(e, cell_px, radius)
    assert len(keys) == len(expected) == len(pairs)
    for key, value in zip(keys, values, strict=True):
        assert value == pytest.approx(expected[tuple(key)], abs=1e-9)


@pytest.mark.parametrize("cell_px", [4, 2, 1, 0.5])
@given(e=emitters())
def test_an_emitter_alone_in_its_cell_has_the_encoded_values_there(cell_px, e):
    pairs = candidates(e, H, W, SCALING, cell_px, radius_cells=0)
    maps = encode(e, torch.zeros(2, H, W, dtype=torch.float64), SCALING, cell_px).maps_B6HW
    at_pairs = pairs.predicted(maps)
    alone = pairs.cell_M.bincount(minlength=1)[pairs.cell_M] == 1
    assert (at_pairs[:, ch.P] == 1).all() and len(pairs) == len(pairs.emitters)
    assert torch.allclose(at_pairs[alone][:, ch.REGRESSION], pairs.values_M4[alone])


@given(e=emitters(0.0, 1.0), reach=st.floats(0.5, 2.0))
def test_within_keeps_the_near_pairs_and_sums_go_to_their_image(e, reach):
    pairs = candidates(e, H, W, SCALING, 1.0, 2)
    near = pairs.within(reach)
    kept = [d for d in pairs.distance_cells_M.tolist() if d <= reach]
    assert near.distance_cells_M.tolist() == kept and len(near.emitters) == len(e)
    sums = near.per_image(near.values_M4)
    for image in range(2):
        assert torch.allclose(sums[image], near.values_M4[near.image_M == image].sum(dim=0))


def test_two_emitters_of_one_cell_are_both_kept():
    both = Emitters(1, *torch.zeros(1, 2).long(), *torch.tensor([[5.2, 5.7], [5.5, 5.5], [0, 9], [1, 2]]))
    pairs = candidates(both, H, W, SCALING)
    assert len(pairs) == 18 and pairs.cell_M.unique().numel() == 9


def test_softmax_within_is_the_softmax_of_each_group():
    values = torch.randn(20, dtype=torch.float64) * 300
    group = torch.arange(20) % 3
    for other in (-math.inf, 0.0):
        share = softmax_within(values, group, 4, other)  # the last group is empty
        for g in range(3):
            members = torch.cat((values[group == g], torch.tensor([other], dtype=torch.float64)))
            assert torch.allclose(share[group == g], members.softmax(0)[:-1])
