"""The scales' weights over training: both orders, activation, steps and epochs."""

import pytest

from emitter.core.errors import SettingsError
from emitter.losses.scale_warmup import ScaleWarmupSettings, never_active, scale_weights


def test_scale_warmup_is_base_to_the_power_of_the_scale():
    coarse = ScaleWarmupSettings("coarse_first", steps=100, coarse_weight=0.5)
    assert scale_weights(coarse, 0, 3, 50) == pytest.approx((0.5, 0.05, 0.01))
    assert scale_weights(coarse, 50, 3, 50) == pytest.approx((0.5, 0.5 * 0.55, 0.55**2))
    assert scale_weights(coarse, 100, 3, 50) == scale_weights(coarse, 10**6, 3, 50) == (0.5, 0.5, 1.0)
    fine = ScaleWarmupSettings("fine_first", steps=100, coarse_weight=0.5)
    assert scale_weights(fine, 0, 3, 50) == pytest.approx((0.005, 0.05, 1.0))
    assert scale_weights(ScaleWarmupSettings("none", coarse_weight=0.3), 0, 3, 50) == (0.3, 0.3, 1.0)


@pytest.mark.parametrize("order", ["coarse_first", "fine_first"])
def test_every_weight_only_grows_and_ends_at_its_final_one(order):
    settings = ScaleWarmupSettings(order, steps=80)
    course = [scale_weights(settings, step, 4, 10) for step in range(120)]
    assert all(
        a <= b
        for before, after in zip(course, course[1:], strict=False)
        for a, b in zip(before, after, strict=True)
    )
    assert course[-1] == (0.3, 0.3, 0.3, 1.0)


def test_an_epoch_is_so_many_steps():
    epochs = ScaleWarmupSettings(steps=None, epochs=4)
    steps = ScaleWarmupSettings(steps=200)
    for step in (0, 77, 200, 900):
        assert scale_weights(epochs, step, 3, 50) == scale_weights(steps, step, 3, 50)


def test_a_locked_scale_has_no_weight_until_its_epoch():
    settings = ScaleWarmupSettings("none", coarse_weight=0.5, active_from_epoch=(0, 2, 3.5))
    assert scale_weights(settings, 0, 3, 10) == (0.5, 0, 0)
    assert scale_weights(settings, 19, 3, 10) == (0.5, 0, 0)
    assert scale_weights(settings, 20, 3, 10) == (0.5, 0.5, 0)
    assert scale_weights(settings, 35, 3, 10) == (0.5, 0.5, 1)


def test_scales_that_a_run_never_activates_are_known():
    settings = ScaleWarmupSettings("none", active_from_epoch=(0, 35.9, 36, 100))
    assert never_active(settings, 360, 10) == [(2, 36), (3, 100)]
    for scale, _ in never_active(settings, 360, 10):
        assert scale_weights(settings, 359, 4, 10)[scale] == 0
    assert scale_weights(settings, 359, 4, 10)[1] > 0
    assert never_active(ScaleWarmupSettings(), 1, 50) == []


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: ScaleWarmupSettings(order="middle_first"), "order"),
        (lambda: ScaleWarmupSettings(steps=0), "steps"),
        (lambda: ScaleWarmupSettings(steps=None, epochs=-1), "epochs"),
        (lambda: ScaleWarmupSettings(steps=100, epochs=2), "give one"),
        (lambda: ScaleWarmupSettings(steps=None), "give one"),
        (lambda: ScaleWarmupSettings(coarse_weight=-1), "coarse_weight"),
        (lambda: ScaleWarmupSettings(active_from_epoch=(1, 2)), "active_from_epoch"),
        (lambda: scale_weights(ScaleWarmupSettings(active_from_epoch=(0, 2)), 0, 3, 50), "3 scales"),
    ],
)
def test_wrong_settings_are_named(make, named):
    with pytest.raises(SettingsError, match=named):
        make()
