"""The diagnosis: every planted illness gets its own advice and no other, and a healthy run none."""

import json
import math

import numpy as np
import pytest

from emitter.core.channels import CHANNELS
from emitter.core.errors import SettingsError
from emitter.training.diagnosis import Advice, Diagnosis, DiagnosisSettings

GROUPS = ("stem", "scale0", "scale1", "scale2", "phi", "head")
FIRST = dict(zip(CHANNELS, (62.0, 56.0, 3.2, 3.3, 10.0, 6.9), strict=True))  # the quick start's, untrained
EPOCH_STEPS, LOG_EVERY = 50, 20


def healthy_norms(step: int, rng: np.random.Generator) -> dict[str, float]:
    """As measured on the quick start: tiny behind the zero-initialised blocks, then 10 to 100 everywhere."""
    begin = np.array([1.0, 5.0, 0.1, 0.02, 1.0, 18.0])
    later = np.array([33.0, 20.0, 14.0, 18.0, 20.0, 80.0])
    share = min(step / 60, 1.0)
    scatter = rng.lognormal(0.0, 0.4, len(GROUPS))
    return dict(zip(GROUPS, (begin ** (1 - share) * later**share * scatter).tolist(), strict=True))


def healthy_part(name: str, step: int) -> float:
    floor = {"p_logit": 0.2, "photons": 0.03, "z": 0.15}.get(name, 0.25)
    return FIRST[name] * (floor + (1 - floor) / (1 + step / 100))


def steps(diagnosis: Diagnosis, loss, norms, n: int = 30, non_finite: int = 0) -> list[Advice]:
    """Logged steps with a loss and norms by the step; the advice of all."""
    advice = []
    for i in range(n):
        step = LOG_EVERY * (i + 1) - 1
        by_group = norms(step)
        total = math.hypot(*by_group.values())
        advice += diagnosis.on_step(step, loss(step), by_group, total, 1.0, non_finite)
    return advice


def epochs(diagnosis: Diagnosis, parts, n: int = 22) -> list[Advice]:
    """Epochs 0 to n - 1 with parts by the epoch; the advice of all."""
    advice = []
    for epoch in range(n):
        now = parts(epoch)
        advice += diagnosis.on_epoch(epoch, sum(now.values()), now)
    return advice


def stands_at(**left: float):
    """Parts that fall to a fraction of their first value (0.3 unless told) by epoch 5 and stand there."""

    def parts(epoch: int) -> dict[str, float]:
        fallen = min(epoch / 5, 1.0)
        return {name: value * (1 - fallen * (1 - left.get(name, 0.3))) for name, value in FIRST.items()}

    return parts


def new(scale_free: bool = True, data_warnings: bool = False, **settings) -> Diagnosis:
    return Diagnosis(DiagnosisSettings(**settings), scale_free, data_warnings)


def flat(value: float, **others: float):
    return lambda step: {**dict.fromkeys(GROUPS, value), **others}


def names(advice: list[Advice]) -> list[str]:
    return [one.name for one in advice]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scatter", [0.05, 0.4, 1.0])
def test_a_healthy_run_is_told_nothing(seed, scatter):
    rng = np.random.default_rng(seed)
    diagnosis = new()
    advice = []
    for step in range(8000):
        if step % EPOCH_STEPS == 0:
            # the probe loss has no noise of samples; it stands still where the learning rate ends at zero
            parts = {name: healthy_part(name, min(step, 7000)) for name in CHANNELS}
            advice += diagnosis.on_epoch(step // EPOCH_STEPS, sum(parts.values()), parts)
        if (step + 1) % LOG_EVERY == 0:
            loss = sum(healthy_part(name, step) for name in CHANNELS) * rng.lognormal(0, scatter)
            norms = healthy_norms(step, rng)
            advice += diagnosis.on_step(step, loss, norms, math.hypot(*norms.values()), 1.0, 0)
    assert advice == []
    assert diagnosis.clipped_share == 1.0  # every step is clipped, as the quick start's are


def test_the_first_steps_of_a_healthy_network_are_no_illness():
    u_net = [(0.1, 0.87, 73), (0.06, 0.5, 43), (0.19, 1.1, 49), (0.86, 3.5, 38), (10, 27, 64), (95, 100, 100)]
    diagnosis = new()
    for step, norms in enumerate(u_net):
        by_group = dict(zip(("shared", "union", "head"), norms, strict=True))
        assert diagnosis.on_step(step, 200.0 / (1 + step), by_group, 70.0, 1.0, 0) == []


def test_likelihoods_that_pass_through_zero_are_no_explosion_and_no_plateau():
    rng = np.random.default_rng(1)
    diagnosis = new()
    assert steps(diagnosis, lambda s: 40 - s / 25 + rng.normal(0, 3), flat(10.0), 120) == []
    around_zero = [-3.0, 3.0, 0.1, -2.0, 2.0]  # a lowest median of 0.1
    scattered = steps(new(), lambda s: around_zero[s // LOG_EVERY % 5] if s < 600 else 5.0, flat(10.0), 60)
    assert scattered == []
    assert epochs(diagnosis, lambda e: {n: v * (1 - e / 20) for n, v in FIRST.items()}, 40) == []


def test_a_dead_head_is_a_vanishing_gradient_upstream():
    dead = flat(0.0, head=3.0)
    advice = steps(new(), lambda s: 50.0, dead)
    assert names(advice) == ["vanishing_gradient"]
    assert "0.0e+00 in stem" in advice[0].sentence and "in head" not in advice[0].sentence


def test_vanishing_wants_a_row_of_steps():
    norms = {s: flat(1e-6 if i % 5 else 1.0) for i, s in enumerate(range(19, 2000, LOG_EVERY))}
    assert steps(new(), lambda s: 50.0, lambda s: norms[s](s), 90) == []
    diagnosis = new()
    assert steps(diagnosis, lambda s: 50.0, flat(1e-6), 4) == []
    assert names(steps(diagnosis, lambda s: 50.0, flat(1e-6), 1)) == ["vanishing_gradient"]


def test_a_group_that_is_locked_and_left_out_begins_its_row_anew():
    diagnosis = new()
    assert steps(diagnosis, lambda s: 50.0, flat(1.0, scale2=0.0), 4) == []
    assert steps(diagnosis, lambda s: 50.0, lambda s: {"stem": 1.0, "head": 1.0}, 1) == []
    assert steps(diagnosis, lambda s: 50.0, flat(1.0, scale2=0.0), 4) == []


def test_shallow_layers_that_starve():
    ill = flat(1.0, stem=0.05, head=2.0)
    adamw = new(scale_free=False, clip_steps=1000)
    assert steps(adamw, lambda s: 50.0, ill, 14) == []  # the first hundred steps do not count
    advice = steps(adamw, lambda s: 50.0, ill)
    assert names(advice) == ["shallow_layers_starve"]
    assert "0.05 in stem" in advice[0].sentence and "training.optimizer.algorithm=muon" in advice[0].sentence
    assert steps(new(), lambda s: 50.0, ill) == []  # Muon's steps are as large in every layer


def test_clipping_is_a_learning_rate_only_where_the_step_depends_on_the_gradients_size():
    assert steps(new(scale_free=True), lambda s: 50.0, flat(20.0)) == []
    diagnosis = new(scale_free=False)
    advice = steps(diagnosis, lambda s: 50.0, flat(20.0))
    assert names(advice) == ["clip_is_the_learning_rate"] and diagnosis.clipped_share == 1.0
    assert f"training.optimizer.clip_norm={2 * 20 * math.sqrt(6):.2g}" in advice[0].sentence
    assert steps(new(scale_free=False), lambda s: 50.0, lambda s: flat(20.0 if s % 80 < 40 else 0.1)(s)) == []


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite(bad):
    assert names(steps(new(), lambda s: bad if s > 300 else 10.0, flat(1.0))) == ["non_finite"]
    assert names(epochs(new(), lambda e: {**FIRST, "x": bad if e > 3 else 3.0}, 8)) == ["non_finite"]


def test_counted_non_finite_numbers_and_gradients():
    advice = new().on_step(39, 10.0, {}, 1.0, 1.0, 7)
    assert (
        names(advice) == ["non_finite"]
        and "7 non-finite" in advice[0].sentence
        and "step 39" in advice[0].sentence
    )
    assert names(new().on_step(39, 10.0, flat(1.0)(0), math.nan, 1.0, 0)) == ["non_finite"]


def test_an_explosion_and_a_spike():
    def exploding(step: int) -> float:
        return 20.0 if step < 400 else 20.0 * 1.5 ** ((step - 400) / 20)

    advice = steps(new(), exploding, flat(1.0), 60)
    assert names(advice) == ["exploding_loss"] and "muon_learning_rate" in advice[0].sentence
    assert steps(new(), lambda s: 1e5 if s in (419, 439, 459) else 20.0, flat(1.0), 60) == []
    # twenty times the loss is no explosion where losses scatter as much
    scattered = steps(new(), lambda s: 500.0 if s % 60 == 59 else 20.0, flat(1.0), 60)
    assert scattered == []


def test_an_explosion_in_the_first_steps_and_nothing_of_what_it_leaves():
    """Before ten losses are known the untrained network's probe loss is the measure; the dead network is no news."""
    diagnosis = new(scale_free=False)
    assert epochs(diagnosis, lambda e: FIRST, 1) == []
    advice = steps(diagnosis, lambda s: 1e14 if s < 300 else 5.0, flat(0.0, head=30.0), 60)
    assert names(advice) == ["exploding_loss"] and "step 99" in advice[0].sentence
    assert epochs(diagnosis, lambda e: FIRST, 40) == []
    assert names(diagnosis.on_step(1, math.nan, {}, 1.0, 1.0, 0)) == ["non_finite"]
    assert steps(new(), lambda s: 1e14, flat(1.0), 60) == []  # nothing is known of a run that begins there


def test_a_probe_loss_far_above_the_untrained_networks_is_an_explosion_and_not_a_plateau():
    advice = epochs(new(), lambda e: {n: v * (30 if e > 4 else 1) for n, v in FIRST.items()})
    assert names(advice) == ["exploding_loss"]


@pytest.mark.parametrize(
    ("left", "name", "override"),
    [
        (dict.fromkeys(CHANNELS, 1.0), "plateau_learning_rate", "muon_learning_rate"),
        ({"p_logit": 0.95}, "plateau_detection", "training.detection.pos_weight"),
        ({"x": 0.9, "y": 0.92}, "plateau_regression", "channel_weights=localization_focused"),
        ({"z": 1.0}, "plateau_regression", "channel_weights=localization_focused"),
        ({"photons": 0.9}, "plateau_regression", "channel_weights=photometry_focused"),
        ({"background": 0.9}, "plateau_regression", "training.channel_weights.background"),
        (dict.fromkeys(CHANNELS, 1.1), "plateau_learning_rate", "×5"),
        (dict.fromkeys(CHANNELS, 1.5), "plateau_learning_rate", "a third of"),
    ],
)
def test_a_plateau_is_blamed_on_what_the_parts_say(left, name, override):
    diagnosis = new()
    assert steps(diagnosis, lambda s: 50.0, flat(10.0)) == []  # healthy gradients
    advice = epochs(diagnosis, stands_at(**left))
    assert names(advice) == [name]
    assert override in advice[0].sentence and "since epoch 7" in advice[0].sentence


def test_a_plateau_with_vanished_gradients_is_the_architectures():
    diagnosis = new()
    assert names(steps(diagnosis, lambda s: 50.0, flat(0.0, head=3.0))) == ["vanishing_gradient"]
    advice = epochs(diagnosis, lambda e: FIRST)
    assert names(advice) == ["plateau_vanishing"] and "stem" in advice[0].sentence


def test_a_plateau_with_data_warnings_is_the_datas():
    assert names(epochs(new(data_warnings=True), lambda e: FIRST)) == ["plateau_data"]


def test_a_run_that_has_converged_is_no_plateau():
    assert epochs(new(data_warnings=True), stands_at(), 40) == []


def test_a_plateau_is_looked_for_from_the_eleventh_epoch_every_ten():
    diagnosis = new()
    told = [epoch for epoch in range(11) if diagnosis.on_epoch(epoch, 100.0, FIRST)]
    assert told == []
    assert names(diagnosis.on_epoch(11, 100.0, FIRST)) == ["plateau_learning_rate"]
    late = new()  # moves by a percent until epoch 12: seen at 21, not before
    told = [
        e for e in range(32) if late.on_epoch(e, 100.0 - min(e, 12), {n: v * 0.99 for n, v in FIRST.items()})
    ]
    assert told == [21]


@pytest.mark.parametrize(
    ("losses", "plateau"),
    [
        ([100.0] * 5, True),
        ([100.0, 99.9975, 99.995, 99.9925, 99.992], True),  # 0.8e-4 better
        ([100.0, 99.9975, 99.995, 99.9925, 99.988], False),  # 1.2e-4 better
        ([100.0, 100.09, 100.0, 100.09, 100.0], True),  # a standard deviation of 0.5e-3
        ([100.0, 100.3, 100.0, 100.3, 100.0], False),  # of 1.5e-3
    ],
)
def test_the_thresholds_of_a_plateau(losses, plateau):
    diagnosis = new()
    for epoch in range(7):
        diagnosis.on_epoch(epoch, 150.0 - 5 * epoch, FIRST)
    advice = [a for i, loss in enumerate(losses) for a in diagnosis.on_epoch(7 + i, loss, FIRST)]
    assert bool(advice) == plateau


def test_parts_too_small_to_count_are_not_looked_at():
    without_z = {**FIRST, "z": 0.0}
    shape = stands_at()
    assert epochs(new(), lambda e: {**shape(e), "z": 0.0}, 40) == []
    assert epochs(new(), lambda e: {**shape(e), "z": 1e-3}, 40) == []
    advice = epochs(new(), lambda e: without_z)  # nothing falls: all that there is is high
    assert names(advice) == ["plateau_learning_rate"] and " z " not in advice[0].sentence


def test_advice_is_given_once_even_after_a_resume():
    diagnosis = new()
    assert names(epochs(diagnosis, lambda e: FIRST, 60)) == ["plateau_learning_rate"]
    assert names(steps(diagnosis, lambda s: 50.0, flat(0.0), 60)) == ["vanishing_gradient"]
    resumed = new()
    resumed.load_state_dict(json.loads(json.dumps(diagnosis.state_dict())))
    assert steps(resumed, lambda s: 50.0, flat(0.0), 60) == []


@pytest.mark.parametrize("cut", [1, 7, 33])
def test_a_resumed_diagnosis_is_the_uninterrupted_one(cut):
    def history(diagnosis: Diagnosis, begin: int, end: int) -> list[Advice]:
        advice = []
        for i in range(begin, end):
            loss = 20.0 if i < 40 else 1e4
            advice += diagnosis.on_step(i, loss, flat(1.0, stem=1e-5 if i > 20 else 1.0)(i), 9.0, 1.0, 0)
            advice += diagnosis.on_epoch(i, 100.0, FIRST)
        return advice

    whole = history(new(scale_free=False), 0, 60)
    diagnosis = new(scale_free=False)
    before = history(diagnosis, 0, cut)
    state = diagnosis.state_dict()
    resumed = new(scale_free=False)
    resumed.load_state_dict(state)
    history(diagnosis, cut, 60)  # what the first goes through later does not reach the second
    kept = json.dumps(state)
    assert before + history(resumed, cut, 60) == whole
    assert json.dumps(state) == kept
    assert set(names(whole)) == {
        "vanishing_gradient",
        "clip_is_the_learning_rate",
        "exploding_loss",
        "plateau_learning_rate",  # at epochs 11 and 21
        "plateau_vanishing",  # at 31
    }


def test_advice_is_one_sentence_with_an_override():
    diagnosis = new(scale_free=False)
    advice = epochs(diagnosis, lambda e: FIRST)
    advice += steps(diagnosis, lambda s: 1e6 if s > 500 else 20.0, flat(1.0, stem=0.05, phi=0.0), 60)
    advice += diagnosis.on_step(1, math.nan, {}, 1.0, 1.0, 0)
    assert len(advice) == 6
    for one in advice:
        assert "\n" not in one.sentence and ". " not in one.sentence
        assert any(sign in one.sentence for sign in ("training.", "model", "channel_weights"))
        assert any(character.isdigit() for character in one.sentence)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vanishing_norm", 0.0),
        ("vanishing_norm", math.nan),
        ("starving_ratio", 1.0),
        ("explosion_factor", 0.5),
        ("clip_share", 1.0),
        ("vanishing_steps", 0),
        ("plateau_every", 0),
        ("plateau_window", 1),
        ("rise", 1.0),
        ("part_low", 0.9),
        ("part_share", 1.0),
    ],
)
def test_wrong_settings_are_named(name, value):
    with pytest.raises(SettingsError, match=f"DiagnosisSettings.{name}"):
        DiagnosisSettings(**{name: value})
