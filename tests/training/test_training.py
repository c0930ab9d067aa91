"""Training in the small: budgets, what is kept, resume, and that the loss goes down."""

import math
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from emitter.core.channels import Scaling
from emitter.core.decoding import Thresholds
from emitter.core.errors import EmitterError, SettingsError
from emitter.core.units import PixelSize
from emitter.inference.bundle import KEY, Bundle, load_bundle
from emitter.losses.set_matching import SetMatchingSettings
from emitter.models.network import EmitterNetwork
from emitter.models.settings import VarSettings
from emitter.psf import build
from emitter.psf.gaussian import AstigmaticSettings, GaussianSettings
from emitter.simulation.camera import Camera, CameraSettings
from emitter.simulation.settings import SimulationSettings
from emitter.simulation.simulator import Simulator
from emitter.training.budget import FIRST_TIMED_STEP, TIMED_STEPS
from emitter.training.data import EmitterData, TrainingIndices
from emitter.training.fit import Job, LoggerSettings, TrainerSettings, _precision, fit
from emitter.training.interrupt import Interruption
from emitter.training.module import EmitterModule
from emitter.training.schedule import learning_rate_factor
from emitter.training.settings import (
    BudgetSettings,
    OptimizerSettings,
    TrainingSettings,
    ValidationSettings,
    input_scaling_for,
    scaling_for,
)

SMALL = VarSettings(stem_channels=(8, 8), cells_px=(2, 1), widths=(16, 16), blocks=(1, 1), latent_channels=8)
SETTINGS = TrainingSettings(
    batch_size=4,
    precision="32-true",
    validation=ValidationSettings(4, 2, pictures=False),
    optimizer=OptimizerSettings(warmup_steps=3),
)
OFTEN_KEPT = replace(SETTINGS, checkpoint_every_steps=5)  # a run that fails keeps nothing of its last steps
SIMULATION = SimulationSettings(frame_size_px=(16, 16), background=(20.0, 30.0), density_per_um2=(1.0, 1.0))


def bundle(psf_settings=None, simulation=SIMULATION) -> Bundle:
    camera = Camera.build(CameraSettings("ideal"))
    psf = build(
        psf_settings or AstigmaticSettings(100, -200, 200, 300, z_range_nm=(-500, 500)), PixelSize(100, 100)
    )
    torch.manual_seed(0)
    network = EmitterNetwork(SMALL, simulation.n_frames, input_scaling_for(simulation))
    return Bundle(network, scaling_for(simulation), Thresholds(), psf, camera, simulation)


def train(
    run_dir: Path, budget: BudgetSettings, settings=SETTINGS, resume=None, made=None
) -> tuple[float, EmitterModule]:
    made = made or bundle()
    simulator = Simulator(made.simulation, made.psf, made.camera)
    data = EmitterData(simulator, settings.seed, settings.batch_size, settings.validation.samples)
    module = EmitterModule(made, settings)
    job = Job("test", run_dir, budget, TrainerSettings("cpu"), LoggerSettings(wandb="off"))
    return fit(module, data, job, resume), module


def test_a_run_keeps_its_checkpoints_and_its_csv(tmp_path):
    _, module = train(tmp_path, BudgetSettings(steps=25))
    assert module.global_step == 25
    log = pd.read_csv(tmp_path / "metrics.csv")
    assert log["val/efficiency"].notna().sum() == 2  # evenly, and at the last step
    assert log["step"].max() >= 24
    for name in ("best.ckpt", "last.ckpt"):
        loaded = load_bundle(tmp_path / "checkpoints" / name)
        assert loaded.simulation == SIMULATION and loaded.scaling == module.bundle.scaling
    last = load_bundle(tmp_path / "checkpoints" / "last.ckpt").network
    for a, b in zip(last.parameters(), module.network.parameters(), strict=True):
        assert torch.equal(a, b)
    assert load_bundle(tmp_path).network.n_frames == 3


def test_validation_chooses_how_to_decode_where_a_loss_gives_every_emitter_one_cell(tmp_path):
    made = bundle()
    train(
        tmp_path, BudgetSettings(steps=2), settings=replace(SETTINGS, loss=SetMatchingSettings()), made=made
    )
    module = EmitterModule(made, replace(SETTINGS, loss=SetMatchingSettings()))
    assert {t.one_cell_each for t in module.tried_thresholds} == {True, False}
    assert not any(t.one_cell_each for t in EmitterModule(made, SETTINGS).tried_thresholds)
    chosen = Thresholds(0.8, one_cell_each=True)
    module.thresholds = chosen
    saved: dict = {}
    module.on_save_checkpoint(saved)
    assert Thresholds(**saved[KEY]["thresholds"]) == chosen
    assert load_bundle(tmp_path).thresholds in module.tried_thresholds


def test_a_short_training_finds_emitters(tmp_path):
    # the score of a few emitters, or of the first 600 steps, is chance; after 1,000 four seeds had 0.35 to 0.48
    settings = replace(SETTINGS, validation=ValidationSettings(64, 2, pictures=False))
    efficiency, _ = train(tmp_path, BudgetSettings(steps=1000), settings)
    log = pd.read_csv(tmp_path / "metrics.csv")
    loss = log["train/loss"].dropna()
    assert loss.iloc[-3:].mean() < loss.iloc[0]
    assert efficiency > 0.2 and log["val/jaccard"].max() > 0.45


def test_a_2d_network_is_judged_by_its_lateral_efficiency(tmp_path):
    simulation = replace(SIMULATION, z_range_nm=(0.0, 0.0), n_frames=1, lifetime_frames=None)
    efficiency, module = train(
        tmp_path, BudgetSettings(steps=4), made=bundle(GaussianSettings(130), simulation)
    )
    assert math.isfinite(efficiency) and not module.bundle.is_3d


class StopError(Exception):
    pass


def interrupted(where: str, action) -> type[EmitterModule]:
    """A module that does ``action`` in its eighth step."""

    class Interrupted(EmitterModule):
        pass

    original = getattr(EmitterModule, where)

    def hook(self, *args):
        if self.global_step == 7:
            action()
        return original(self, *args)

    setattr(Interrupted, where, hook)
    return Interrupted


def fail() -> None:
    raise StopError


@pytest.mark.parametrize(
    ("where", "action", "ends_with"),
    [
        ("on_train_batch_end", fail, StopError),
        ("training_step", lambda: signal.raise_signal(signal.SIGINT), KeyboardInterrupt),
        ("on_before_optimizer_step", lambda: signal.raise_signal(signal.SIGINT), KeyboardInterrupt),
        ("training_step", lambda: signal.raise_signal(signal.SIGTERM), SystemExit),
    ],
    ids=["failed", "Ctrl-C in the forward pass", "Ctrl-C in the optimizer", "SIGTERM"],
)
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, where, action, ends_with):
    budget = BudgetSettings(steps=41)
    _, whole = train(tmp_path / "whole", budget)
    made = bundle()
    data = EmitterData(Simulator(made.simulation, made.psf, made.camera), 1, 4, 4)
    job = Job("test", tmp_path / "cut", budget, TrainerSettings("cpu"), LoggerSettings(wandb="off"))
    with pytest.raises(ends_with):
        fit(interrupted(where, action)(made, OFTEN_KEPT), data, job)
    before = signal.getsignal(signal.SIGINT)
    _, resumed = train(tmp_path / "cut", budget, resume=tmp_path / "cut" / "checkpoints" / "last.ckpt")
    assert signal.getsignal(signal.SIGINT) == before
    assert resumed.global_step == 41
    for a, b in zip(whole.network.parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(a, b)
    logs = [pd.read_csv(tmp_path / name / "metrics.csv") for name in ("whole", "cut")]
    for column in ("train/loss", "val/efficiency"):
        a, b = (log[["step", column]].dropna() for log in logs)
        b = b[b["step"].isin(a["step"])]  # an interrupted life ends with a validation of its own
        pd.testing.assert_frame_equal(a.reset_index(drop=True), b.reset_index(drop=True))


def test_a_time_budget_interrupted_before_its_length_is_known_goes_on(tmp_path):
    made = bundle()
    data = EmitterData(Simulator(made.simulation, made.psf, made.camera), 1, 4, 4)
    budget = BudgetSettings(cpu_seconds=5)
    job = Job("test", tmp_path, budget, TrainerSettings("cpu"), LoggerSettings(wandb="off"))
    with pytest.raises(StopError):
        fit(interrupted("on_train_batch_end", fail)(made, OFTEN_KEPT), data, job)
    _, resumed = train(tmp_path, budget, resume=tmp_path / "checkpoints" / "last.ckpt")
    # the first life's eight steps tell nothing: this one times its own, on however slow a machine
    assert resumed.total_steps == resumed.global_step > 8 + FIRST_TIMED_STEP + TIMED_STEPS


def test_a_time_budget_becomes_steps_once_and_stays(tmp_path):
    _, module = train(tmp_path, BudgetSettings(cpu_seconds=6))
    assert module.total_steps is not None and module.global_step == module.total_steps
    assert module.total_steps > FIRST_TIMED_STEP + TIMED_STEPS
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved[KEY]["total_steps"] == module.total_steps
    rate = pd.read_csv(tmp_path / "metrics.csv")["train/learning_rate"].dropna()
    assert rate.iloc[-1] < 0.2 * rate.max()  # annealed


def test_ranks_never_share_a_sample_and_resume_goes_on_with_the_next():
    streams = [iter(TrainingIndices(4, 0, rank, 3)) for rank in range(3)]
    seen = torch.cat([next(s) for _ in range(5) for s in streams])
    assert sorted(seen.tolist()) == list(range(60))
    assert torch.equal(next(iter(TrainingIndices(4, 5, 1, 3))), next(streams[1]))


def test_the_learning_rate_warms_up_and_anneals_to_zero():
    factor = [learning_rate_factor(step, 1000, 100) for step in range(1001)]
    assert factor[0] == pytest.approx(0.01, rel=1e-3) and factor[1000] == 0
    assert max(factor) > 0.95 and factor.index(max(factor)) == pytest.approx(99, abs=2)
    assert learning_rate_factor(500, 1000, 0) == pytest.approx(0.5)
    assert learning_rate_factor(50, None, 100) == pytest.approx(0.51)


def test_scales_follow_the_priors():
    assert scaling_for(SimulationSettings()) == Scaling(1000.0, 0.5, 300.0, 22.0)
    assert scaling_for(replace(SIMULATION, z_range_nm=(0.0, 0.0))).z_nm > 0


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: BudgetSettings(minutes=1, steps=5), "only one"),
        (lambda: BudgetSettings(minutes=0), "minutes"),
        (lambda: BudgetSettings(minutes=math.inf), "minutes"),
        (lambda: TrainingSettings(seed=2**63), "seed"),
        pytest.param(
            lambda: TrainerSettings("gpu"),
            "there is no GPU",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here"),
        ),
        (lambda: OptimizerSettings(learning_rate=0), "learning_rate"),
        (lambda: OptimizerSettings(algorithm="sgd"), "optimizer.algorithm"),
        (lambda: OptimizerSettings(clip_norm=0), "clip_norm"),
        (lambda: TrainingSettings(batch_size=0), "batch_size"),
        (lambda: ValidationSettings(times=0), "times"),
    ],
)
def test_wrong_settings_are_named(make, named):
    with pytest.raises(SettingsError, match=named):
        make()


def test_checkpoints_that_are_none_are_refused_in_a_sentence(tmp_path):
    with pytest.raises(EmitterError, match="there is no checkpoint"):
        load_bundle(tmp_path / "none.ckpt")
    with pytest.raises(EmitterError, match="holds no checkpoints"):
        load_bundle(tmp_path)
    (tmp_path / "text.ckpt").write_text("hello")
    with pytest.raises(EmitterError, match="cannot be read"):
        load_bundle(tmp_path / "text.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(EmitterError, match="another program"):
        load_bundle(tmp_path / "other.ckpt")
    torch.save({KEY: {**bundle().state(), "format": 99}, "state_dict": {}}, tmp_path / "newer.ckpt")
    with pytest.raises(EmitterError, match="format 99"):
        load_bundle(tmp_path / "newer.ckpt")
    torch.save({KEY: bundle().state(), "state_dict": {}}, tmp_path / "good.ckpt")
    with pytest.raises(EmitterError, match="does not fit this version"):
        load_bundle(tmp_path / "good.ckpt")  # no weights
    torch.save({KEY: 3, "state_dict": {}}, tmp_path / "number.ckpt")
    with pytest.raises(EmitterError, match="format None"):
        load_bundle(tmp_path / "number.ckpt")
    torch.save({KEY: {"format": 1}, "state_dict": {}}, tmp_path / "hollow.ckpt")
    with pytest.raises(EmitterError, match="does not fit this version"):
        load_bundle(tmp_path / "hollow.ckpt")
    data = (tmp_path / "good.ckpt").read_bytes()
    (tmp_path / "half.ckpt").write_bytes(data[: len(data) // 2])
    with pytest.raises(EmitterError, match="cannot be read"):
        load_bundle(tmp_path / "half.ckpt")


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({KEY: Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(EmitterError, match="cannot be read"):
        load_bundle(tmp_path / "evil.ckpt")
    assert not (tmp_path / "ran").exists()


def test_a_signal_of_another_rank_ends_this_one_too_and_is_told_as_what_it_is():
    """Rank 0 says how a run has ended, and a scheduler may have warned another rank alone."""
    reduced = []

    def reduce(value, reduce_op):
        reduced.append((int(value), reduce_op))
        return torch.tensor(int(signal.SIGTERM))

    trainer = SimpleNamespace(strategy=SimpleNamespace(reduce=reduce), should_stop=False)
    module = SimpleNamespace(stepped=True, device=torch.device("cpu"))
    interruption = Interruption()
    interruption.on_train_batch_end(trainer, module, None, None, 0)
    assert trainer.should_stop and interruption.signal == signal.SIGTERM
    assert reduced == [(0, "max")]


@pytest.mark.parametrize(
    ("accelerator", "has_gpu", "fast_on", "expected"),
    [
        ("auto", True, ("cpu", "cuda"), "bf16-mixed"),
        ("gpu", True, ("cuda",), "bf16-mixed"),
        ("gpu", True, ("cpu",), "32-true"),
        ("cpu", True, ("cpu", "cuda"), "32-true"),
        ("auto", False, ("cpu",), "32-true"),
    ],
)
def test_a_cpu_trains_in_float32(
    monkeypatch, accelerator: str, has_gpu: bool, fast_on: tuple[str, ...], expected: str
) -> None:
    """Whatever it has in hardware."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr("emitter.training.fit.has_fast_bfloat16", lambda device: device in fast_on)
    machine = TrainerSettings(accelerator=accelerator)
    assert _precision("auto", machine) == expected
    for given in ("bf16-mixed", "32-true"):
        assert _precision(given, machine) == given
