"""The quality of a prediction as its target probability: by hand, without a gradient, in one unit at every scale."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from emitter.core import channels as ch
from emitter.core.channels import Scaling
from emitter.core.emitters import Emitters
from emitter.core.errors import SettingsError
from emitter.losses.base import Truth
from emitter.losses.detection.bce import BCESettings
from emitter.losses.detection.bce_dice import BCEDiceSettings
from emitter.losses.detection.combined import CombinedSettings
from emitter.losses.detection.overlap import DiceSettings
from emitter.losses.detection.schedule import CEToDiceSettings
from emitter.losses.detection.weighted import WeightedSettings
from emitter.losses.ppxyzb import PPXYZBSettings
from emitter.losses.quality import quality

SCALING = Scaling(offset_cells=0.5, z_nm=300.0)


def one_emitter(cell_px: float = 1.0) -> Truth:
    e = Emitters(
        1,
        torch.tensor([0]),
        *(torch.tensor([v]) for v in (5.3, 2.6)),
        torch.tensor([90.0]),
        torch.tensor([2e3]),
    )
    return Truth(e, torch.full((1, 8, 8), 40.0), SCALING, cell_px)


def maps_off_by(truth: Truth, dx_px: float, dy_px: float, dz_nm: float, logit: float = 0.3) -> torch.Tensor:
    maps = truth.targets().maps_B6HW.clone()
    maps[:, ch.P] = logit
    maps[:, ch.X] += dx_px / truth.cell_px / SCALING.offset_cells
    maps[:, ch.Y] += dy_px / truth.cell_px / SCALING.offset_cells
    maps[:, ch.Z] += dz_nm / SCALING.z_nm
    return maps


@pytest.mark.parametrize("cell_px", [0.5, 1.0, 2.0, 4.0])
def test_it_is_the_formula_in_pixels_and_nm_at_every_scale(cell_px):
    truth = one_emitter(cell_px)
    maps = maps_off_by(truth, 0.3, -0.2, 70.0)
    q = quality(maps, truth.targets().maps_B6HW, truth, lateral_px=0.4, axial_nm=80.0)
    assert torch.allclose(q, torch.tensor(math.exp(-0.5 * (0.13 / 0.16 + (70 / 80) ** 2))), rtol=1e-5)


def test_the_detection_part_is_the_divergence_from_the_quality():
    truth, logit = one_emitter(), 0.3
    maps = maps_off_by(truth, 0.3, -0.2, 70.0, logit)
    part = PPXYZBSettings(quality_px=0.4, quality_z_nm=80.0).build(BCESettings())(maps, truth, 0.5)[0, ch.P]
    q, p = math.exp(-0.5 * (0.13 / 0.16 + (70 / 80) ** 2)), 1 / (1 + math.exp(-logit))
    emitters_cell = q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p))
    assert float(part) == pytest.approx(emitters_cell - 63 * math.log(1 - p), rel=1e-5)


def test_a_probability_is_best_at_the_expected_quality():
    """Of two answers that are as likely, one right and one far off, the mean of the qualities: a half."""
    truth = one_emitter()
    loss = PPXYZBSettings().build(BCESettings())
    logit = torch.zeros(1, requires_grad=True)
    parts = []
    for dx_px in (0.0, 3.0):
        maps = maps_off_by(truth, dx_px, 0.0, 0.0, -30.0)
        place = (0, ch.P, 2, 5)
        maps = maps.index_put(tuple(torch.tensor(i) for i in place), logit[0])
        parts.append(loss(maps, truth, 0.5)[0, ch.P])
    sum(parts).backward()
    assert abs(float(logit.grad)) < 1e-6
    assert [float(part.detach()) for part in parts] == pytest.approx([math.log(2)] * 2, rel=1e-4)


def test_a_z_that_is_not_trained_says_nothing():
    truth = replace(one_emitter(), axial=False)
    loss = PPXYZBSettings().build(BCESettings())
    near, far = (loss(maps_off_by(truth, 0.3, -0.2, dz), truth, 0.5)[0, ch.P] for dz in (0.0, 1e4))
    assert torch.equal(near, far)
    assert float(near) == pytest.approx(
        float(loss(maps_off_by(one_emitter(), 0.3, -0.2, 0.0), one_emitter(), 0.5)[0, ch.P])
    )


@pytest.mark.parametrize(
    "detection",
    [DiceSettings(), WeightedSettings(), BCEDiceSettings(), CEToDiceSettings(), CombinedSettings()],
)
def test_a_term_that_cannot_learn_a_quality_is_given_ones(detection):
    truth = one_emitter()
    maps = maps_off_by(truth, 0.3, -0.2, 70.0)
    with_it, without = (PPXYZBSettings(quality_px=q).build(detection)(maps, truth, 0.5) for q in (0.4, None))
    assert torch.equal(with_it, without)


def test_no_gradient_of_the_detection_runs_into_the_other_channels():
    truth = one_emitter()
    maps = maps_off_by(truth, 0.3, -0.2, 70.0).requires_grad_()
    PPXYZBSettings().build(BCESettings())(maps, truth, 0.5)[:, ch.P].sum().backward()
    assert (maps.grad[:, 1:] == 0).all() and maps.grad[0, ch.P, 2, 5] != 0


def test_without_it_and_where_all_is_right_the_target_is_one():
    truth = one_emitter()
    right, off = maps_off_by(truth, 0, 0, 0), maps_off_by(truth, 0.3, -0.2, 70.0)
    plain = F.binary_cross_entropy_with_logits(
        right[:, ch.P], truth.targets().maps_B6HW[:, ch.P], reduction="sum"
    )
    for settings, maps in ((PPXYZBSettings(), right), (PPXYZBSettings(quality_px=None), off)):
        assert torch.allclose(settings.build(BCESettings())(maps, truth, 0.5)[0, ch.P], plain)


@pytest.mark.parametrize("value", [1e30, math.inf, -math.inf, math.nan])
def test_an_error_without_bounds_has_no_quality_and_a_finite_part(value):
    truth = one_emitter()
    maps = maps_off_by(truth, 0, 0, 0)
    maps[:, ch.X] = value
    q = quality(maps, truth.targets().maps_B6HW, truth, 0.4, 80.0)
    assert (q == 0).all()
    part = PPXYZBSettings().build(BCESettings())(maps, truth, 0.5)[0, ch.P]
    assert torch.allclose(part, 64 * F.softplus(torch.tensor(0.3)))


@pytest.mark.parametrize("settings", [{"quality_px": 0.0}, {"quality_px": -1.0}, {"quality_z_nm": 0.0}])
def test_wrong_settings_are_named(settings):
    with pytest.raises(SettingsError, match=next(iter(settings))):
        PPXYZBSettings(**settings)
