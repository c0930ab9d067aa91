"""Weightings: their rules by hand, bounds and sum as properties, the state in the checkpoint."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emitter.core.errors import SettingsError
from emitter.losses.channel_weights import ChannelWeights
from emitter.losses.weighting.base import LARGEST, SMALLEST, WeightingSettings, bounded
from emitter.losses.weighting.gradient_norm import GradientNormSettings
from emitter.losses.weighting.inverse_loss import InverseLossSettings
from emitter.losses.weighting.log_normalized import LogNormalizedSettings
from emitter.losses.weighting.rate import RateSettings
from emitter.losses.weighting.static import StaticSettings
from emitter.losses.weighting.uncertainty import UncertaintySettings

PRESET = ChannelWeights(2, 1, 1, 0.5, 0, 0.5)
PRESET_6 = torch.tensor(PRESET.per_channel())
ALL = [
    StaticSettings(),
    RateSettings(2),
    InverseLossSettings(),
    GradientNormSettings(),
    UncertaintySettings(),
    LogNormalizedSettings(),
]


def kinds(settings: WeightingSettings) -> str:
    return settings.kind


positive = st.floats(1e-6, 1e6)


@given(st.lists(positive, min_size=6, max_size=6), st.lists(st.floats(0, 5), min_size=6, max_size=6))
def test_bounded_weights_keep_the_sum_and_the_bounds(weights, preset):
    preset_6 = torch.tensor(preset)
    if preset_6.sum() < 1e-3:
        return
    result = bounded(torch.tensor(weights), preset_6)
    assert float(result.sum()) == pytest.approx(float(preset_6.sum()), rel=1e-4)
    assert bool(
        (result >= SMALLEST * preset_6 * 0.999).all() and (result <= LARGEST * preset_6 * 1.001).all()
    )


@given(st.lists(st.floats(0.2, 5), min_size=6, max_size=6))
def test_weights_within_the_bounds_are_only_scaled(weights):
    weights_6, ones_6 = torch.tensor(weights), torch.ones(6)
    expected = weights_6 * 6 / weights_6.sum()
    if bool((expected > SMALLEST).all() and (expected < LARGEST).all()):
        assert torch.allclose(bounded(weights_6, ones_6), expected, rtol=1e-4)


@pytest.mark.parametrize("settings", ALL, ids=kinds)
def test_a_weighting_starts_as_its_preset(settings):
    parts_6 = torch.full((6,), 1e-6)  # log(1 + L) is L here
    weighting = settings.build(PRESET)
    loss = weighting(parts_6).sum() + weighting.penalty()
    assert float(loss.detach()) == pytest.approx(float((PRESET_6 * parts_6).sum()), rel=1e-3)
    assert torch.allclose(weighting.effective_6(), PRESET_6, rtol=1e-5)


@pytest.mark.parametrize("settings", ALL, ids=kinds)
def test_the_effective_weights_are_the_slopes(settings):
    weighting = settings.build(PRESET)
    parts_6 = torch.rand(6, requires_grad=True)
    (weighting(parts_6).sum() + weighting.penalty()).backward()
    assert torch.allclose(parts_6.grad, weighting.effective_6(), rtol=1e-5)


@pytest.mark.parametrize("settings", ALL, ids=kinds)
def test_no_weighting_runs_away_or_goes_non_finite(settings):
    weighting = settings.build(PRESET)
    generator = torch.Generator().manual_seed(1)
    for epoch in range(200):
        parts_6 = 10 ** (torch.rand(6, generator=generator) * 12 - 6)
        if epoch % 7 == 0:
            parts_6[epoch % 6] = (math.nan, math.inf, 0.0)[epoch % 3]
        weighting.on_epoch(parts_6)
        weighting.on_norms(parts_6)
    weights_6 = weighting.effective_6()
    assert torch.isfinite(weights_6).all()
    ratio = weights_6[PRESET_6 > 0] / PRESET_6[PRESET_6 > 0]
    assert ratio.min() >= 0.0999 and ratio.max() <= 10.01
    assert weights_6[4] == 0  # a channel that the preset leaves out stays out
    if settings.kind in ("rate", "inverse_loss", "gradient_norm"):
        assert float(weights_6.sum()) == pytest.approx(5.0, rel=1e-4)


def test_rate_raises_what_stands_and_lowers_what_falls():
    weighting = RateSettings(window_epochs=3).build(ChannelWeights())
    for epoch in range(6):
        parts_6 = torch.tensor([1.0, 0.6**epoch, 0.97**epoch, 1.0, 1.0, 1.0])
        assert torch.equal(weighting.weights_6, torch.ones(6))  # nothing before two whole windows
        weighting.on_epoch(parts_6)
    # means over epochs 3-5 against 0-2: 1, 0.216, 0.913, 1, 1, 1
    expected = torch.tensor([1.1, 0.9, 1.0, 1.1, 1.1, 1.1])
    assert torch.allclose(weighting.weights_6, expected * 6 / expected.sum(), rtol=1e-4)
    before = weighting.weights_6.clone()
    weighting.on_epoch(torch.ones(6))
    assert torch.equal(weighting.weights_6, before)  # judged once a window


def test_inverse_loss_and_gradient_norm_come_to_equal_pulls():
    parts_6 = torch.tensor([4.0, 2.0, 1.0, 1.0, 0.5, 0.5])
    for settings, feed in ((InverseLossSettings(), "on_epoch"), (GradientNormSettings(), "on_norms")):
        weighting = settings.build(ChannelWeights())
        getattr(weighting, feed)(parts_6)
        goal = (1 / parts_6) * 6 / (1 / parts_6).sum()
        assert torch.allclose(weighting.weights_6, 0.9 + 0.1 * goal, rtol=1e-3)  # the first step
        for _ in range(200):
            getattr(weighting, feed)(parts_6)
        pull = weighting.weights_6 * parts_6
        assert torch.allclose(pull, pull.mean().expand(6), rtol=1e-3)


def test_uncertainty_comes_to_one_over_the_loss():
    """The minimum of exp(−2s)·L + 2s lies at exp(−2s) = 1/L."""
    weighting = UncertaintySettings().build(ChannelWeights())
    parts_6 = torch.tensor([0.2, 0.5, 1.0, 2.0, 5.0, 20.0])
    optimizer = torch.optim.LBFGS(weighting.parameters(), max_iter=200)

    def closure():
        optimizer.zero_grad()
        loss = weighting(parts_6).sum() + weighting.penalty()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert torch.allclose(weighting.effective_6(), 1 / parts_6, rtol=1e-2)


def test_log_normalized_is_the_sum_of_logarithms_and_goes_on_below_zero():
    weighting = LogNormalizedSettings().build(ChannelWeights())
    parts_6 = torch.tensor([0.0, 1.0, math.e - 1, 3.0, 100.0, -2.0])
    expected = [0, math.log(2), 1, math.log(4), math.log(101), -2]
    assert weighting(parts_6).tolist() == pytest.approx(expected, rel=1e-5)


def test_contributions_are_those_of_the_rules_written_out():
    """Σ of them is the loss, but for uncertainty's Σ preset · 2 s."""
    parts_6 = torch.tensor([60.0, 0.5, 3.0, 4.0, 10.0, 0.1])
    for settings in ALL:
        weighting = settings.build(PRESET)
        weighting.on_norms(parts_6)
        for _ in range(4):
            weighting.on_epoch(parts_6)
        if isinstance(settings, UncertaintySettings):
            with torch.no_grad():
                weighting.raw_6.copy_(torch.tensor([1.0, -1.0, 0.5, 0.0, 2.0, -2.0]))
        s_6 = math.log(10) * torch.tanh(getattr(weighting, "raw_6", torch.zeros(6)).detach() / math.log(10))
        expected = {
            "log_normalized": PRESET_6 * torch.log(1 + parts_6),
            "uncertainty": PRESET_6 * torch.exp(-2 * s_6) * parts_6,
        }.get(settings.kind, weighting.weights_6 * parts_6)
        assert torch.allclose(weighting(parts_6), expected, rtol=1e-5), settings.kind
        penalty = float(torch.as_tensor(weighting.penalty()).detach())
        assert penalty == pytest.approx(float((PRESET_6 * 2 * s_6).sum()), abs=1e-5)


@pytest.mark.parametrize("settings", ALL, ids=kinds)
def test_a_loss_beside_the_channels_pulls_as_a_channel_of_its_size_does(settings):
    """At the start: a reconstruction as large as a channel, of the same weight, has that channel's slope."""
    weighting = settings.build(PRESET)
    for size in (0.01, 1.0, 50.0):
        parts_6 = torch.full((6,), size, requires_grad=True)
        beside = torch.tensor(size, requires_grad=True)
        (weighting(parts_6).sum() + weighting.beside(beside, weight=2.0)).backward()
        assert float(beside.grad) == pytest.approx(float(parts_6.grad[0]), rel=1e-5)
    expected = 2 * math.log(51) if settings.kind == "log_normalized" else 100
    assert float(weighting.beside(torch.tensor(50.0), 2.0)) == pytest.approx(expected)


@pytest.mark.parametrize("settings", [RateSettings(3), InverseLossSettings()], ids=kinds)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_epoch_that_is_not_finite_decides_nothing(settings, bad):
    weighting = settings.build(ChannelWeights())
    for epoch in range(6):
        weighting.on_epoch(torch.tensor([1.0, 0.6**epoch, 0.97**epoch, 1.0, 1.0, 1.0]))
    before = weighting.weights_6.clone()
    assert not torch.equal(before, torch.ones(6))
    for _ in range(3):
        weighting.on_epoch(torch.tensor([bad, 1.0, 1.0, 1.0, 1.0, 1.0]))
        assert torch.equal(weighting.weights_6, before)


@pytest.mark.parametrize("settings", ALL, ids=kinds)
def test_the_state_travels_in_the_checkpoint(settings):
    """Half of a run, saved and loaded, goes on as the whole."""
    course = 5 * torch.rand(40, 6, generator=torch.Generator().manual_seed(2)) + 0.1
    whole, first, second = (settings.build(PRESET) for _ in range(3))
    for i, parts_6 in enumerate(course):
        if i == 25:
            second.load_state_dict(first.state_dict())
        for weighting in (whole, first if i < 25 else second):
            weighting.on_epoch(parts_6)
            weighting.on_norms(parts_6)
    assert torch.equal(whole.effective_6(), second.effective_6())


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: RateSettings(window_epochs=0), "window_epochs"),
        (lambda: RateSettings(slow=0.5), "fast"),
        (lambda: RateSettings(raise_by=0.5), "raise_by"),
        (lambda: InverseLossSettings(momentum=1), "momentum"),
        (lambda: InverseLossSettings(window_epochs=0), "window_epochs"),
        (lambda: GradientNormSettings(momentum=-1), "momentum"),
    ],
)
def test_wrong_settings_are_named(make, named):
    with pytest.raises(SettingsError, match=named):
        make()
