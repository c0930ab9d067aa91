"""What a step minimises: scales, weightings and losses put together."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from test_training import SETTINGS, SIMULATION, StopError, bundle, fail, interrupted, train

from emitter.core import channels as ch
from emitter.core.channels import CHANNELS
from emitter.core.errors import SettingsError
from emitter.losses.base import Truth
from emitter.losses.channel_weights import ChannelWeights
from emitter.losses.detection.bce import BCESettings
from emitter.losses.mixture import MixtureSettings
from emitter.losses.ppxyzb import PPXYZBSettings
from emitter.losses.reconstruction import ReconstructionSettings
from emitter.losses.scale_warmup import ScaleWarmupSettings
from emitter.losses.set_matching import SetMatchingSettings
from emitter.losses.weighting.gradient_norm import GradientNormSettings
from emitter.losses.weighting.inverse_loss import InverseLossSettings
from emitter.losses.weighting.log_normalized import LogNormalizedSettings
from emitter.losses.weighting.rate import RateSettings
from emitter.losses.weighting.static import StaticSettings
from emitter.losses.weighting.uncertainty import UncertaintySettings
from emitter.psf.gaussian import GaussianSettings
from emitter.simulation.camera import Camera, CameraSettings
from emitter.simulation.simulator import Simulator
from emitter.training.data import EmitterData
from emitter.training.fit import Job, LoggerSettings, TrainerSettings, fit
from emitter.training.module import EmitterModule
from emitter.training.objective import Objective
from emitter.training.settings import BudgetSettings

WEIGHTINGS = [
    StaticSettings(),
    RateSettings(1),
    InverseLossSettings(),
    GradientNormSettings(),
    UncertaintySettings(),
    LogNormalizedSettings(),
]
WEIGHTS = ChannelWeights(2, 1, 0.5, 1.5, 1, 3)


def scene(settings=SETTINGS):
    made = bundle()
    sample = Simulator(SIMULATION, made.psf, made.camera).sample(1, torch.arange(3))
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(3, 6, side, side, generator=generator).requires_grad_() for side in (8, 16)]
    return Objective(settings, made), maps, sample, made


def test_it_is_the_weighted_sum_over_scales_and_channels():
    warmup = ScaleWarmupSettings(steps=10)
    settings = replace(SETTINGS, channel_weights=WEIGHTS, scale_warmup=warmup, weighting=StaticSettings())
    objective, maps, sample, made = scene(settings)
    outcome = objective(maps, sample, torch.ones(3, dtype=torch.bool), step=5, progress=0.0)
    loss = PPXYZBSettings().build(BCESettings())
    expected = 0.0
    for maps_k, cell, scale_weight in zip(maps, (2.0, 1.0), (0.3, 0.55), strict=True):
        parts = loss(maps_k, Truth(sample.emitters, sample.background_IHW, made.scaling, cell), 0.0).mean(
            dim=0
        )
        expected += scale_weight * sum(w * part for w, part in zip(WEIGHTS.per_channel(), parts, strict=True))
    assert float(outcome.total.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert float(outcome.preset_loss) == pytest.approx(float(outcome.total.detach()), rel=1e-5)
    assert float(outcome.shares().sum()) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("error", ["none", "poisson"])
@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=lambda s: s.kind)
def test_shares_are_those_of_what_is_added_up(weighting, error):
    reconstruction = ReconstructionSettings(error, weight=3.0)
    settings = replace(
        SETTINGS,
        channel_weights=WEIGHTS,
        weighting=weighting,
        reconstruction=reconstruction,
        loss=PPXYZBSettings(quality_px=None),
    )
    objective, maps, sample, _ = scene(settings)
    outcome = objective(maps, sample, torch.ones(3, dtype=torch.bool), step=0, progress=0.0)
    total = float(outcome.total.detach() - objective.weighting.penalty())
    added = outcome.contributions_7.detach()
    assert total == pytest.approx(float(added.sum()), rel=1e-5)
    assert outcome.shares().tolist() == pytest.approx((added[:6] / total).tolist(), rel=1e-5)
    preset_7 = torch.tensor([*WEIGHTS.per_channel(), 3.0])
    found = 0.0 if outcome.reconstruction is None else float(outcome.reconstruction.detach())
    losses_7 = torch.cat((outcome.parts_6.detach(), torch.tensor([found])))
    assert (found > 0) == (error != "none")
    assert float(outcome.preset_loss) == pytest.approx(float((preset_7 * losses_7).sum()), rel=1e-5)
    logarithmic = isinstance(weighting, LogNormalizedSettings)
    expected = preset_7 * (torch.log(1 + losses_7) if logarithmic else losses_7)
    assert added.tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def test_a_locked_scale_may_overflow():
    settings = replace(SETTINGS, scale_warmup=ScaleWarmupSettings("none", active_from_epoch=(0, 1)))
    objective, maps, sample, _ = scene(settings)
    locked = torch.full_like(maps[1], 1e38).requires_grad_()
    outcome = objective([maps[0], locked], sample, torch.ones(3, dtype=torch.bool), step=0, progress=0.0)
    outcome.total.backward()
    assert torch.isinf(outcome.parts_KB6).any() and torch.isfinite(outcome.total)
    assert not locked.grad.any()


@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=lambda s: s.kind)
def test_a_scale_without_a_weight_has_no_loss(weighting):
    alone = ScaleWarmupSettings("coarse_first", steps=10, coarse_weight=0)
    objective, maps, sample, _ = scene(replace(SETTINGS, scale_warmup=alone, weighting=weighting))
    every, *_ = scene(replace(SETTINGS, weighting=weighting))
    keep = torch.ones(3, dtype=torch.bool)
    coarse = torch.full_like(maps[0], 1e25).requires_grad_()  # untrained, it may be anything
    outcome = objective([coarse, maps[1]], sample, keep, step=10, progress=0.0)
    parts_KB6 = every.parts(maps, sample, keep, progress=0.0)
    assert outcome.scale_weights == (0, 1)
    assert torch.equal(outcome.parts_KB6, parts_KB6[1:])
    assert torch.equal(outcome.epoch_parts(), parts_KB6[1].mean(dim=0))
    outcome.total.backward()
    assert coarse.grad is None and maps[1].grad.any()


def test_a_dropped_image_weighs_nothing():
    objective, maps, sample, _ = scene()
    keep = torch.tensor([True, False, True])
    objective(maps, sample, keep, step=0, progress=0.0).total.backward()
    for maps_k in maps:
        assert not maps_k.grad[1].any() and maps_k.grad[0].any()


def test_a_bad_frame_of_a_short_movie_masks_the_images_of_its_movie_alone():
    made = bundle()
    sample = Simulator(SIMULATION, made.psf, made.camera).sample(1, torch.arange(3), n_predicted=2)
    module = EmitterModule(made, SETTINGS)
    seen = []
    module.objective.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[2]))
    sample.counts_BTHW[1, 0, 2, 2] = float("nan")
    assert torch.isfinite(module.training_step(sample, 0))
    assert seen[0].tolist() == [True, False, True] * 2


def test_a_locked_scale_stays_in_the_graph_with_zero_gradient():
    settings = replace(SETTINGS, scale_warmup=ScaleWarmupSettings("none", active_from_epoch=(0, 1)))
    objective, maps, sample, _ = scene(settings)
    objective(maps, sample, torch.ones(3, dtype=torch.bool), step=0, progress=0.0).total.backward()
    assert maps[0].grad.any() and maps[1].grad is not None and not maps[1].grad.any()


def test_gradient_norms_at_the_heads_input_are_those_of_each_channel_alone():
    objective, _, sample, made = scene()
    keep = torch.ones(3, dtype=torch.bool)
    network = made.network
    estimates = network.estimates(sample.photons_BTHW)

    def read(leaves):
        return network.read(leaves, 16, 16)

    def outcome(maps):
        return objective(maps, sample, keep, 0, 0.0)

    norms = objective.channel_gradient_norms(estimates, read, outcome)
    for i in range(len(CHANNELS)):
        leaves = [e.detach().requires_grad_() for e in estimates]
        outcome(read(leaves)).parts_6[i].backward()
        squares = sum(float(leaf.grad.square().sum()) for leaf in leaves)
        assert float(norms[i]) == pytest.approx(squares**0.5, rel=1e-4)
    assert all(p.grad is None for p in network.backbone.parameters())  # nothing went through the backbone


@pytest.mark.parametrize(
    "weighting", [RateSettings(1), GradientNormSettings(), UncertaintySettings()], ids=lambda s: s.kind
)
def test_weights_move_are_logged_and_go_on_exactly_after_a_resume(tmp_path, weighting):
    settings = replace(SETTINGS, weighting=weighting, epoch_steps=7, checkpoint_every_steps=5)
    _, whole = train(tmp_path / "whole", BudgetSettings(steps=60), settings)
    # a run of the same length, stopped in the middle of an epoch and gone on from its checkpoint
    made = bundle()
    data = EmitterData(Simulator(made.simulation, made.psf, made.camera), 1, 4, 4)
    job = Job(
        "test",
        tmp_path / "cut",
        BudgetSettings(steps=60),
        TrainerSettings("cpu"),
        LoggerSettings(wandb="off"),
    )
    with pytest.raises(StopError):
        fit(interrupted("on_train_batch_start", fail)(made, settings), data, job)
    last = tmp_path / "cut" / "checkpoints" / "last.ckpt"
    _, resumed = train(tmp_path / "cut", BudgetSettings(steps=60), settings, resume=last)
    weights = whole.objective.weighting.effective_6()
    assert torch.equal(weights, resumed.objective.weighting.effective_6())
    assert not torch.allclose(weights, torch.ones(6))
    log = pd.read_csv(tmp_path / "whole" / "metrics.csv")
    for name in CHANNELS:
        assert log[f"train/weight/{name}"].notna().sum() == 3
    assert log[[f"train/share/{name}" for name in CHANNELS]].dropna().sum(axis=1).to_numpy() == pytest.approx(
        1
    )


def test_wrong_combinations_are_named():
    with pytest.raises(SettingsError, match="2 scales"):
        scene(replace(SETTINGS, scale_warmup=ScaleWarmupSettings(active_from_epoch=(0, 1, 2))))
    with pytest.raises(SettingsError, match="weighting=uncertainty needs"):
        replace(SETTINGS, loss=MixtureSettings(), weighting=UncertaintySettings())
    with pytest.raises(SettingsError, match="detects in its own way"):
        replace(SETTINGS, loss=SetMatchingSettings(), detection=BCESettings(pos_weight=2))
    with pytest.raises(SettingsError, match="quality_px=null"):
        replace(SETTINGS, loss=PPXYZBSettings(), reconstruction=ReconstructionSettings("poisson"))
    with pytest.raises(SettingsError, match="epoch_steps"):
        replace(SETTINGS, epoch_steps=0)


def test_without_z_nothing_weighs_it():
    flat = replace(SIMULATION, z_range_nm=(0.0, 0.0), n_frames=1, lifetime_frames=None)
    objective = Objective(
        replace(SETTINGS, weighting=GradientNormSettings()), bundle(GaussianSettings(130), flat)
    )
    for _ in range(60):
        objective.weighting.on_norms(torch.tensor([2.0, 1.0, 1.0, 1.0, 1e-6, 0.5]))
    weights = dict(zip(CHANNELS, objective.weighting.effective_6().tolist(), strict=True))
    sample = Simulator(flat, objective.psf, Camera.build(CameraSettings("ideal"))).sample(1, torch.arange(3))
    maps = [torch.randn(3, 6, side, side) for side in (8, 16)]
    drifted = [m.index_fill(1, torch.tensor([ch.Z]), 100.0) for m in maps]
    keep = torch.ones(3, dtype=torch.bool)
    p_KB, drifted_KB = (objective.parts(m, sample, keep, 0.0)[..., ch.P] for m in (maps, drifted))
    assert torch.equal(p_KB, drifted_KB)  # nor does it lower the quality that the probability is taught
    assert weights["z"] == 0 and weights["background"] == pytest.approx(4 * weights["p_logit"], rel=0.05)
