"""PPXYZB against a sum written out by hand, finite differences, and its limits."""

import math

import pytest
import torch
from torch.nn import functional as F

from emitter.core import channels as ch
from emitter.core.channels import Scaling
from emitter.core.emitters import Emitters
from emitter.core.errors import SettingsError
from emitter.losses.base import Truth
from emitter.losses.channel_weights import ChannelWeights
from emitter.losses.detection.bce import BCESettings
from emitter.losses.ppxyzb import PPXYZBSettings


def truth(n: int = 3) -> Truth:
    g = torch.Generator().manual_seed(2)
    x, y = torch.rand(2, n, generator=g) * 9
    e = Emitters(
        2, torch.arange(n) % 2, x, y, torch.rand(n, generator=g) * 500, torch.rand(n, generator=g) * 3000
    )
    return Truth(e, torch.full((2, 9, 9), 40.0), Scaling(), 1.0)


def ppxyzb(prediction: torch.Tensor, of: Truth, pos_weight=1.0, **settings) -> torch.Tensor:
    settings = {"quality_px": None, "regression": "mse", **settings}  # quality has a test of its own
    return PPXYZBSettings(**settings).build(BCESettings(pos_weight=pos_weight))(prediction, of, 0.0)


def maps(seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(2, 6, 9, 9, generator=torch.Generator().manual_seed(seed)) * scale


def smooth_l1(d: float, linear_from: float) -> float:
    return d * d / (2 * linear_from) if abs(d) < linear_from else abs(d) - linear_from / 2


@pytest.mark.parametrize("regression", ["mse", "l1", "smooth_l1"])
@pytest.mark.parametrize("region", [1, 3])
def test_it_is_the_sum_written_out_by_hand(regression, region):
    prediction, target = maps(), truth().targets(region)
    linear_from = {ch.X: 0.3 / 0.5, ch.Y: 0.3 / 0.5, ch.Z: 90.0 / 300.0}  # in units of Scaling()
    error = {
        "mse": lambda d, c: d * d,
        "l1": lambda d, c: abs(d),
        "smooth_l1": lambda d, c: smooth_l1(d, linear_from.get(c, 1.0)),
    }
    expected = torch.zeros(2, 6)
    for b in range(2):
        for i in range(9):
            for j in range(9):
                z, t = float(prediction[b, 0, i, j]), float(target.maps_B6HW[b, 0, i, j])
                p = 1 / (1 + math.exp(-z))
                expected[b, 0] -= 3.0 * t * math.log(p) + (1 - t) * math.log(1 - p)
                for c in range(1, 6):
                    d = float(prediction[b, c, i, j] - target.maps_B6HW[b, c, i, j])
                    weight = 1 / 81 if c == ch.BACKGROUND else float(target.region_B1HW[b, 0, i, j])
                    expected[b, c] += weight * error[regression](d, c)
    linear = {"smooth_l1_px": 0.3, "smooth_l1_z_nm": 90.0}
    parts = ppxyzb(prediction, truth(), 3.0, regression=regression, region_cells=region, **linear)
    assert torch.allclose(parts, expected, rtol=1e-4)


def test_the_linear_part_begins_at_the_same_pixels_at_every_scale():
    emitters = truth().emitters
    settings = PPXYZBSettings(smooth_l1_px=0.3)
    for cell_px in (0.5, 1.0, 4.0):
        of = Truth(emitters, torch.full((2, 9, 9), 40.0), Scaling(), cell_px)
        maps = of.targets().maps_B6HW
        slopes = []
        for error_px in (0.29, 0.31, 0.6):
            off = maps.clone().requires_grad_()
            moved = off + torch.eye(6)[ch.X][:, None, None] * error_px / cell_px / Scaling().offset_cells
            settings.build(BCESettings())(moved, of, 0.0)[:, ch.X].sum().backward()
            slopes.append(float(off.grad[:, ch.X].max()))
        assert slopes == pytest.approx([0.29 / 0.3, 1.0, 1.0])


def test_a_perfect_prediction_costs_nothing():
    target = truth().targets()
    perfect = target.maps_B6HW.clone()
    perfect[:, ch.P] = (perfect[:, ch.P] - 0.5) * 100
    assert float(ppxyzb(perfect, truth()).sum()) < 1e-6


def test_only_an_emitters_cell_trains_the_regression_channels():
    target = truth().targets()
    prediction = maps().requires_grad_()
    ppxyzb(prediction, truth())[:, 1:5].sum().backward()
    has_gradient = prediction.grad[:, 1:5].abs().sum(dim=1, keepdim=True) > 0
    assert torch.equal(has_gradient, target.region_B1HW > 0)


def test_gradients_agree_with_finite_differences():
    def total(m):  # the loss is computed in float32: steps must be large enough for it
        return float(ppxyzb(m, truth(), 2.0, region_cells=3).double().sum())

    prediction = maps(1).requires_grad_()
    ppxyzb(prediction, truth(), 2.0, region_cells=3).sum().backward()
    generator = torch.Generator().manual_seed(3)
    for _ in range(40):
        place = tuple(int(torch.randint(s, (1,), generator=generator)) for s in prediction.shape)
        step = torch.zeros_like(prediction)
        step[place] = 0.05
        with torch.no_grad():
            numeric = (total(prediction + step) - total(prediction - step)) / 0.1
        assert abs(numeric - float(prediction.grad[place])) < 2e-2 * max(1.0, abs(numeric))


def test_an_image_without_emitters_is_finite_and_trains_detection():
    nobody = Emitters(2, torch.zeros(0, dtype=torch.long), *[torch.zeros(0)] * 4)
    prediction = maps().requires_grad_()
    parts = ppxyzb(prediction, Truth(nobody, torch.full((2, 9, 9), 40.0), Scaling()))
    parts.sum().backward()
    assert torch.isfinite(parts).all() and (parts[:, 1:5] == 0).all()
    assert torch.allclose(parts[:, 0], F.softplus(prediction[:, 0]).sum(dim=(1, 2)))


def test_huge_logits_and_bfloat16_stay_finite_and_are_computed_in_float32():
    parts = ppxyzb(maps(scale=1e4).bfloat16(), truth())
    assert parts.dtype == torch.float32 and torch.isfinite(parts).all()


@pytest.mark.parametrize("region", [1, 3])
def test_predictions_whose_square_overflows_far_from_any_emitter_cost_nothing(region):
    of = truth()
    taught = of.targets(region).region_B1HW > 0
    usual = maps()
    huge = torch.where(taught, usual, 1e25)
    prediction = torch.cat((usual[:, :1], huge[:, 1:5], usual[:, 5:]), dim=1).requires_grad_()
    parts = ppxyzb(prediction, of, region_cells=region)
    parts.sum().backward()
    assert torch.equal(parts, ppxyzb(usual, of, region_cells=region))
    assert torch.isfinite(prediction.grad).all()
    everywhere = ppxyzb(torch.full((2, 6, 9, 9), 1e25), of, region_cells=region)
    assert not torch.isnan(everywhere).any()  # infinite on an emitter, and counted as that


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: BCESettings(pos_weight=0), "pos_weight"),
        (lambda: PPXYZBSettings(regression="l3"), "regression"),
        (lambda: PPXYZBSettings(region_cells=2), "region_cells"),
        (lambda: PPXYZBSettings(smooth_l1_px=0), "smooth_l1_px"),
        (lambda: PPXYZBSettings(smooth_l1_z_nm=-1), "smooth_l1_z_nm"),
        (lambda: ChannelWeights(z=-1), "channel_weights.z"),
        (lambda: ChannelWeights(0, 0, 0, 0, 0, 0), "all channel_weights"),
    ],
)
def test_wrong_settings_are_named(make, named):
    with pytest.raises(SettingsError, match=named):
        make()
