"""Detection terms against sums written out by hand, each other, finite differences, exact distributions and limits."""

import math
from collections.abc import Callable
from dataclasses import asdict, fields

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from scipy.stats import norm

from emitter.app.launch import conf_dir
from emitter.app.schema import build
from emitter.core.errors import SettingsError
from emitter.losses.detection.base import DetectionSettings
from emitter.losses.detection.bce import BCESettings
from emitter.losses.detection.bce_dice import BCEDiceSettings
from emitter.losses.detection.combined import CombinedSettings
from emitter.losses.detection.count import count_loss
from emitter.losses.detection.focal import FocalSettings
from emitter.losses.detection.overlap import DiceSettings, IoUSettings, TverskySettings, tversky_loss
from emitter.losses.detection.schedule import CEToDiceSettings
from emitter.losses.detection.weighted import WeightedSettings

SHAPES = [(3, 6, 5), (3, 4, 3, 5)]
HALF_WAY = 0.5


def case(shape: tuple[int, ...] = SHAPES[0], seed: int = 0, scale: float = 2.0) -> tuple[torch.Tensor, ...]:
    """Logits and targets in float64; the first image is empty."""
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape, generator=g, dtype=torch.float64) * scale
    target = (torch.rand(shape, generator=g) < 0.2).double()
    target[0] = 0
    return logits, target


def cells(logits: torch.Tensor, target: torch.Tensor) -> list[list[tuple[float, float]]]:
    """(p, t) of every cell of every image, as plain numbers."""
    return [
        [(1 / (1 + math.exp(-z)), t) for z, t in zip(z_N.tolist(), t_N.tolist(), strict=True)]
        for z_N, t_N in zip(logits.flatten(1), target.flatten(1), strict=True)
    ]


def bce_by_hand(image, pos_weight=1.0):
    return sum(-pos_weight * math.log(p) if t else -math.log(1 - p) for p, t in image)


def focal_by_hand(image, gamma, alpha):
    return sum(
        -alpha * (1 - p) ** gamma * math.log(p) if t else -(1 - alpha) * p**gamma * math.log(1 - p)
        for p, t in image
    )


def weighted_by_hand(image, foreground, background, power):
    return sum((foreground if t else background) * abs(p - t) ** power for p, t in image)


def overlap_by_hand(image, alpha, beta, smooth, weight):
    hits = sum(p for p, t in image if t)
    false_positives = sum(p for p, t in image if not t)
    false_negatives = sum(1 - p for p, t in image if t)
    index = (hits + smooth) / (hits + alpha * false_positives + beta * false_negatives + smooth)
    return weight * (sum(t for _, t in image) + 1) * (1 - index)


def dice_by_hand(image):
    return overlap_by_hand(image, 0.5, 0.5, 1e-5, 4.0)


BY_HAND: list[tuple[DetectionSettings, Callable[..., float]]] = [
    (BCESettings(pos_weight=3.0), lambda i: bce_by_hand(i, 3.0)),
    (WeightedSettings(), lambda i: weighted_by_hand(i, 5.0, 1.0, 2)),
    (
        WeightedSettings(foreground_weight=20.0, background_weight=0.25, error="l1"),
        lambda i: weighted_by_hand(i, 20.0, 0.25, 1),
    ),
    (FocalSettings(), lambda i: focal_by_hand(i, 2.0, 0.5)),
    (FocalSettings(gamma=0.5, alpha=0.9), lambda i: focal_by_hand(i, 0.5, 0.9)),
    (DiceSettings(), dice_by_hand),
    (DiceSettings(smooth=1.0, weight=2.0), lambda i: overlap_by_hand(i, 0.5, 0.5, 1.0, 2.0)),
    (TverskySettings(alpha=0.2), lambda i: overlap_by_hand(i, 0.2, 0.8, 1e-5, 4.0)),
    (IoUSettings(), lambda i: overlap_by_hand(i, 1.0, 1.0, 1e-5, 4.0)),
    (
        BCEDiceSettings(bce_weight=0.3, dice_weight=0.7, pos_weight=2.0),
        lambda i: 0.3 * bce_by_hand(i, 2.0) + 0.7 * dice_by_hand(i),
    ),
    (
        CombinedSettings(dice_weight=0.4, recon_weight=0.9, foreground_weight=7.0),
        lambda i: 0.4 * dice_by_hand(i) + 0.9 * weighted_by_hand(i, 7.0, 1.0, 2),
    ),
    (
        CEToDiceSettings(begin=0.4, end=0.8),
        lambda i: 0.75 * bce_by_hand(i) + 0.25 * dice_by_hand(i),
    ),
]
TERMS = [settings for settings, _ in BY_HAND]
SUMMED = [settings for settings in TERMS if type(settings) in (BCESettings, WeightedSettings, FocalSettings)]
OVERLAPS = [DiceSettings(), TverskySettings(), IoUSettings()]


def named(value: object) -> str | None:
    return value.kind if isinstance(value, DetectionSettings) else None


@pytest.mark.parametrize("shape", SHAPES, ids=["2D", "3D"])
@pytest.mark.parametrize(("settings", "by_hand"), BY_HAND, ids=named)
def test_it_is_the_sum_written_out_by_hand(settings, by_hand, shape):
    logits, target = case(shape)
    term = settings.term(logits, target, HALF_WAY)
    expected = torch.tensor([by_hand(image) for image in cells(logits, target)], dtype=torch.float64)
    assert term.shape == shape[:1]
    assert torch.allclose(term, expected, rtol=1e-7)


@pytest.mark.parametrize("settings", TERMS, ids=named)
def test_gradients_agree_with_finite_differences(settings):
    logits, target = case((2, 3, 4))
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: settings.term(z, target, HALF_WAY), logits)


@pytest.mark.parametrize("settings", TERMS, ids=named)
def test_float32_is_as_good_as_float64(settings):
    logits, target = case(scale=6.0)
    exact = settings.term(logits, target, HALF_WAY)
    single = settings.term(logits.float(), target.float(), HALF_WAY)
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), exact, rtol=1e-5)


@pytest.mark.parametrize("settings", TERMS, ids=named)
def test_only_the_cells_count_not_their_arrangement(settings):
    logits, target = case((3, 4, 3, 5))
    term = settings.term(logits, target, HALF_WAY)
    as_2d = settings.term(logits.flatten(1, 2), target.flatten(1, 2), HALF_WAY)
    depth_1 = settings.term(logits.flatten(1, 2)[:, None], target.flatten(1, 2)[:, None], HALF_WAY)
    alone = torch.cat([settings.term(logits[i : i + 1], target[i : i + 1], HALF_WAY) for i in range(3)])
    for other in (as_2d, depth_1, alone):
        assert torch.allclose(term, other, rtol=1e-12)


@pytest.mark.parametrize("settings", SUMMED, ids=named)
def test_a_stack_costs_what_its_slices_cost_together(settings):
    logits, target = case((3, 4, 3, 5))
    slices = sum(settings.term(logits[:, d], target[:, d], HALF_WAY) for d in range(4))
    assert torch.allclose(settings.term(logits, target, HALF_WAY), slices)


@pytest.mark.parametrize("settings", OVERLAPS, ids=named)
def test_a_stacks_overlap_is_that_of_its_slices_side_by_side(settings):
    logits, target = case((3, 4, 3, 5))
    side_by_side = [torch.cat(tuple(maps.unbind(1)), dim=-1) for maps in (logits, target)]
    assert torch.allclose(
        settings.term(logits, target, HALF_WAY), settings.term(*side_by_side, HALF_WAY), rtol=1e-12
    )


@given(st.integers(0, 10**6), st.floats(0.1, 30.0), st.floats(1e-5, 10.0))
def test_overlaps_are_one_mathematics(seed, scale, smooth):
    logits, target = case(seed=seed, scale=scale)
    loss = {
        settings.kind: tversky_loss(logits, target, *settings.alpha_beta, smooth)
        for settings in (*OVERLAPS, TverskySettings(alpha=0.5))
    }
    dice, iou = 1 - loss["dice"], 1 - loss["iou"]
    assert torch.equal(loss["tversky"], loss["dice"])
    assert torch.allclose(dice, 2 * iou / (1 + iou), rtol=1e-9, atol=1e-12)
    for value in loss.values():
        assert ((value >= 0) & (value <= 1)).all()


def test_tversky_trades_false_against_missed_emitters():
    _, target = case()
    target = target[1:]  # with emitters
    finds_all_and_more = torch.where(target + target.roll(1, -1) > 0, 20.0, -20.0).double()
    misses_all = torch.full_like(target, -20.0)

    def ratio(alpha: float) -> torch.Tensor:
        settings = TverskySettings(alpha=alpha)
        return settings.term(finds_all_and_more, target, 0.0) / settings.term(misses_all, target, 0.0)

    assert (ratio(0.1) < ratio(0.5)).all() and (ratio(0.5) < ratio(0.9)).all()


@pytest.mark.parametrize("settings", OVERLAPS, ids=named)
def test_an_overlap_weighs_like_its_emitters(settings):
    """A prediction that knows nothing costs about the weight per emitter, however many there are."""
    target = torch.zeros(3, 64, 64)
    for image, n in enumerate((1, 10, 100)):
        target[image].view(-1)[:: 4096 // n][:n] = 1.0
    n_B = target.sum(dim=(1, 2))
    prior_B = n_B / 4096
    logits = torch.logit(prior_B)[:, None, None].expand_as(target)
    per_emitter_B = settings.term(logits, target, 0.0) / (n_B + 1)
    assert torch.allclose(per_emitter_B, torch.full((3,), settings.weight), rtol=0.06)


def test_focal_without_focus_is_the_cross_entropy():
    logits, target = case(scale=5.0)
    bce = BCESettings().term(logits, target, 0.0)
    assert torch.allclose(FocalSettings(gamma=0.0, alpha=0.5).term(logits, target, 0.0), bce / 2, rtol=1e-12)
    weighted = BCESettings(pos_weight=4.0).term(logits, target, 0.0)
    focal = FocalSettings(gamma=0.0, alpha=0.8)
    assert torch.allclose(focal.term(logits, target, 0.0), 0.2 * weighted, rtol=1e-12)
    assert focal.foreground_ratio == pytest.approx(BCESettings(pos_weight=4.0).foreground_ratio)


@pytest.mark.parametrize(
    ("settings", "chance", "best"),
    [
        (BCESettings(), 0.1, 0.1),
        (WeightedSettings(foreground_weight=1.0), 0.1, 0.1),
        (WeightedSettings(foreground_weight=5.0), 0.1, 0.5 / 1.4),
        (FocalSettings(), 0.5, 0.5),
        (FocalSettings(gamma=3.0, alpha=0.25), 0.75, 0.5),
    ],
    ids=named,
)
def test_the_best_probability_is_what_the_docstring_says(settings, chance, best):
    logit = torch.linspace(-6, 6, 4801, dtype=torch.float64)[:, None, None]
    expected = chance * settings.term(logit, torch.ones_like(logit), 0.0)
    expected = expected + (1 - chance) * settings.term(logit, torch.zeros_like(logit), 0.0)
    assert torch.sigmoid(logit[expected.argmin()]).item() == pytest.approx(best, abs=1e-3)


@pytest.mark.parametrize(
    "settings", [BCESettings(pos_weight=3.0), FocalSettings(gamma=1.5, alpha=0.3)], ids=named
)
def test_a_target_between_costs_what_it_costs_on_average_but_for_what_nothing_can_take_away(settings):
    logits = torch.linspace(-6, 6, 49, dtype=torch.float64)[:, None, None]
    empty, there = (settings.term(logits, torch.full_like(logits, t), 0.0) for t in (0.0, 1.0))
    for share in (0.1, 0.5, 0.93):
        between = settings.term(logits, torch.full_like(logits, share), 0.0)
        taken = share * there + (1 - share) * empty - between
        assert torch.allclose(taken, taken[:1].expand_as(taken), atol=1e-9)
        assert settings.kind == "bce" or torch.allclose(taken, torch.zeros_like(taken))


@pytest.mark.parametrize(("target", "pos_weight"), [(0.3, 1.0), (0.8, 1.0), (0.3, 3.0), (1.0, 2.0)])
def test_the_cross_entropy_is_0_at_best_for_every_target(target, pos_weight):
    best = pos_weight * target / (pos_weight * target + 1 - target)
    logit = torch.tensor(best, dtype=torch.float64).logit(eps=1e-12).reshape(1, 1, 1)
    term = BCESettings(pos_weight=pos_weight).term
    at_best, *beside = (
        float(term(logit + step, torch.full_like(logit, target), 0.0)) for step in (0, 0.1, -0.1)
    )
    assert abs(at_best) < 1e-9 and (target == 1 or min(beside) > 1e-4)


def test_a_target_above_the_threshold_is_foreground():
    target = torch.tensor([0.0, 0.2, 0.3, 0.31, 1.0])[:, None, None]
    settings = WeightedSettings(foreground_weight=7.0, background_weight=2.0, threshold=0.3, error="l1")
    missed = settings.term(torch.full_like(target, -100.0), target, 0.0)
    assert missed.tolist() == pytest.approx([0.0, 2 * 0.2, 2 * 0.3, 7 * 0.31, 7.0])


def test_composites_are_sums_of_their_parts():
    logits, target = case()
    bce, dice, weighted = (
        settings.term(logits, target, 0.0)
        for settings in (BCESettings(), DiceSettings(), WeightedSettings(error="l1"))
    )
    bce_dice = BCEDiceSettings(bce_weight=0.2, dice_weight=3.0).term(logits, target, 0.0)
    combined = CombinedSettings(error="l1", dice_weight=0.7, recon_weight=0.6).term(logits, target, 0.0)
    assert torch.allclose(bce_dice, 0.2 * bce + 3.0 * dice, rtol=1e-12)
    assert torch.allclose(combined, 0.7 * dice + 0.6 * weighted, rtol=1e-12)


def test_the_schedules_ends_are_its_parts_and_it_is_linear_between():
    logits, target = case()
    bce, dice = (settings.term(logits, target, 0.0) for settings in (BCESettings(), DiceSettings()))
    whole, inner = CEToDiceSettings(), CEToDiceSettings(begin=0.2, end=0.6)
    for settings, begin, end in ((whole, 0.0, 1.0), (inner, 0.2, 0.6)):
        assert torch.equal(settings.term(logits, target, begin), bce)
        assert torch.equal(settings.term(logits, target, end), dice)
        quarter = settings.term(logits, target, begin + 0.25 * (end - begin))
        assert torch.allclose(quarter, 0.75 * bce + 0.25 * dice, rtol=1e-12)
    assert torch.equal(inner.term(logits, target, 0.0), bce)
    assert torch.equal(inner.term(logits, target, 1.0), dice)


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("sure", [40.0, 1e4])
@pytest.mark.parametrize("settings", TERMS, ids=named)
def test_a_perfect_prediction_costs_nothing(settings, sure, progress):
    _, target = case((3, 40, 40))
    target = target.float()
    logits = (sure * (2 * target - 1)).requires_grad_()
    term = settings.term(logits, target, progress)
    term.sum().backward()
    # the empty image's overlap compares the sum of all probabilities with 1e-5 of a cell
    assert (term.abs() < 1e-6).all()
    assert torch.isfinite(logits.grad).all() and float(logits.grad.abs().max()) < 1e-6


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("settings", TERMS, ids=named)
def test_an_image_without_emitters_is_finite_and_the_cheaper_the_emptier(settings, progress):
    target = torch.zeros(5, 16, 16)
    logits = torch.tensor([0.0, -5.0, -10.0, -20.0, -30.0])[:, None, None].expand(5, 16, 16).clone()
    logits.requires_grad_()
    term = settings.term(logits, target, progress)
    term.sum().backward()
    assert torch.isfinite(term).all() and torch.isfinite(logits.grad).all()
    assert (term.diff() <= 0).all() and 0 <= float(term[-1].detach()) < 1e-4
    assert (logits.grad >= 0).all() and float(logits.grad[0].min()) > 0


@pytest.mark.parametrize("settings", OVERLAPS, ids=named)
def test_an_empty_images_overlap_has_a_bounded_slope(settings):
    for level in range(-30, 10):
        logits = torch.full((1, 16, 16), float(level), requires_grad=True)
        tversky_loss(logits, torch.zeros(1, 16, 16), *settings.alpha_beta, 1e-5).sum().backward()
        assert float(logits.grad.sum()) <= 0.25 + 1e-6


@pytest.mark.parametrize("count_weight", [0.0, 1.0])
@pytest.mark.parametrize("settings", TERMS, ids=named)
def test_huge_wrong_logits_stay_finite(settings, count_weight):
    _, target = case()
    target = target.float()
    logits = (1e4 * (1 - 2 * target)).requires_grad_()
    settings = type(settings)(**{**asdict(settings), "count_weight": count_weight})
    loss = settings.loss(logits, target, HALF_WAY)
    loss.sum().backward()
    assert torch.isfinite(loss).all() and torch.isfinite(logits.grad).all()
    assert (loss > settings.loss(-logits, target, HALF_WAY)).all()


def test_the_number_of_emitters_is_added_where_it_is_weighted():
    logits, target = case()
    plain, counted = DiceSettings(), DiceSettings(count_weight=2.5)
    expected = plain.term(logits, target, 0.0) + 2.5 * count_loss(logits, target)
    assert torch.allclose(counted.loss(logits, target, 0.0), expected)
    assert torch.equal(plain.loss(logits, target, 0.0), plain.term(logits, target, 0.0))


def log_likelihood(logits_N: np.ndarray, n: float) -> float:
    """Of n emitters, normal, as the specification has it."""
    p_N = 1 / (1 + np.exp(-logits_N))
    return float(norm.logpdf(n, p_N.sum(), np.sqrt((p_N * (1 - p_N)).sum() + 1e-4)))


@pytest.mark.parametrize("shape", SHAPES, ids=["2D", "3D"])
def test_count_is_the_normal_likelihood_and_its_gradient(shape):
    logits, target = case(shape)
    logits.requires_grad_()
    count = count_loss(logits, target)
    count.sum().backward()
    for b in range(len(logits)):
        flat, n = logits[b].detach().flatten().numpy(), float(target[b].sum())
        assert float(count[b].detach()) == pytest.approx(
            -log_likelihood(flat, n) - 0.5 * math.log(2 * math.pi), rel=1e-4
        )
        for j in range(0, len(flat), 7):
            step = np.zeros_like(flat)
            step[j] = 1e-5
            numeric = -(log_likelihood(flat + step, n) - log_likelihood(flat - step, n)) / 2e-5
            assert float(logits.grad[b].flatten()[j]) == pytest.approx(numeric, rel=1e-3, abs=1e-5)


def test_count_is_the_poisson_binomials_normal_limit():
    """The distribution itself, cell by cell: each convolves it with (1 − p, p)."""
    worst = []
    for n_cells in (200, 800, 3200):
        p_N = np.random.default_rng(1).uniform(0.02, 0.2, n_cells)
        exact = np.ones(1)
        for p in p_N:
            exact = np.convolve(exact, [1 - p, p])
        mean, std = p_N.sum(), np.sqrt((p_N * (1 - p_N)).sum())
        numbers = np.arange(math.ceil(mean - 2 * std), math.floor(mean + 2 * std) + 1)
        logits = torch.logit(torch.tensor(p_N)).expand(len(numbers), n_cells)
        target = (torch.arange(n_cells) < torch.tensor(numbers)[:, None]).double()
        approximate = torch.exp(-count_loss(logits, target)).numpy() / math.sqrt(2 * math.pi)
        worst.append(np.abs(approximate / exact[numbers] - 1).max())
    assert worst[0] < 0.15 and worst[2] < 0.04
    # the skewness, and with it the error, falls with the root of the number of cells
    assert worst[1] / worst[0] == pytest.approx(0.5, abs=0.1)
    assert worst[2] / worst[1] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    ("make", "setting"),
    [
        (lambda: BCESettings(pos_weight=0), "pos_weight"),
        (lambda: BCESettings(count_weight=-1), "count_weight"),
        (lambda: WeightedSettings(foreground_weight=0), "foreground_weight"),
        (lambda: WeightedSettings(background_weight=-1), "background_weight"),
        (lambda: WeightedSettings(threshold=1), "threshold"),
        (lambda: WeightedSettings(error="l3"), "error"),
        (lambda: WeightedSettings(count_weight=math.nan), "count_weight"),
        (lambda: FocalSettings(gamma=-0.1), "gamma"),
        (lambda: FocalSettings(alpha=1), "alpha"),
        (lambda: DiceSettings(smooth=0), "smooth"),
        (lambda: IoUSettings(weight=0), "weight"),
        (lambda: TverskySettings(alpha=0), "alpha"),
        (lambda: TverskySettings(count_weight=-1), "count_weight"),
        (lambda: BCEDiceSettings(bce_weight=-1), "bce_weight"),
        (lambda: BCEDiceSettings(dice_weight=0), "dice_weight"),
        (lambda: BCEDiceSettings(pos_weight=0), "pos_weight"),
        (lambda: CombinedSettings(recon_weight=0), "recon_weight"),
        (lambda: CombinedSettings(error="l3"), "error"),
        (lambda: CEToDiceSettings(begin=0.5, end=0.5), "begin"),
        (lambda: CEToDiceSettings(end=1.1), "end"),
    ],
)
def test_wrong_settings_are_named(make, setting):
    with pytest.raises(SettingsError, match=rf"detection\.{setting}\b"):
        make()


@pytest.mark.parametrize(
    "path", sorted((conf_dir() / "detection").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_configuration_states_its_settings_defaults(path):
    text = path.read_text()
    given = OmegaConf.to_container(OmegaConf.create(text))
    settings = build(DetectionSettings, given, "training.detection")
    assert text.startswith("# @package training.detection\n# ")
    assert set(given) == {"kind", *(field.name for field in fields(settings))}
    if path.stem == "count":
        assert settings == BCESettings(count_weight=1.0)
    else:
        assert settings.kind == path.stem and settings == type(settings)()


def test_every_term_has_a_configuration():
    kinds = {settings.kind for settings in TERMS}
    assert kinds | {"count"} == {path.stem for path in (conf_dir() / "detection").glob("*.yaml")}
