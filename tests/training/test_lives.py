"""Runs that are killed outright and go on: to the same weights and the same curve, bit for bit."""

import logging
import multiprocessing
import os
import random
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from test_training import SETTINGS, bundle

from emitter.core.errors import EmitterError
from emitter.simulation.simulator import Simulator
from emitter.training import checkpoints
from emitter.training.checkpoints import AtomicCheckpointIO, last_state
from emitter.training.data import EmitterData
from emitter.training.fit import Job, LoggerSettings, TrainerSettings, fit
from emitter.training.module import EmitterModule
from emitter.training.settings import BudgetSettings, RecoverySettings, TrainingSettings

ONE = TrainerSettings("cpu")
TWO = TrainerSettings("cpu", 2, "ddp_fork", timeout_minutes=0.5)
STEPS = 24
EVERY = replace(SETTINGS, checkpoint_every_steps=6, batch_size=2, log_every_steps=1)


def sigkill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Killed(EmitterModule):
    """Is killed on rank ``rank``, in the forward pass of a step."""

    step, rank = -1, 0

    def training_step(self, sample, batch_idx):
        if self.global_step == self.step and self.global_rank == self.rank:
            sigkill()
        return super().training_step(sample, batch_idx)


class HeldUp(Killed):
    """Needs a recovery after steps 8 to 10."""

    def on_after_backward(self):
        if self.global_step in range(8, 11):
            self.network.head.out.bias.grad[0] = float("nan")


class Impatient(Killed):
    """Is told to end at step 10, and once more when half of the weights have been stepped."""

    def training_step(self, sample, batch_idx):
        if self.global_step == 10:
            os.kill(os.getpid(), signal.SIGINT)
        return super().training_step(sample, batch_idx)

    def optimizer_step(self, epoch, batch_idx, optimizer, closure):
        parameters = list(self.network.parameters())
        before = [p.detach().clone() for p in parameters]
        super().optimizer_step(epoch, batch_idx, optimizer, closure)
        if self.global_step == 10:
            with torch.no_grad():
                for p, old in list(zip(parameters, before, strict=True))[::2]:
                    p.copy_(old)
            os.kill(os.getpid(), signal.SIGINT)
            raise AssertionError("the second Ctrl-C did nothing")


def life(
    folder: Path,
    machine: TrainerSettings,
    step: int = -1,
    resume: bool = False,
    kind: type[Killed] = Killed,
    settings: TrainingSettings = EVERY,
) -> EmitterModule:
    made = bundle()
    module = kind(made, settings)
    module.step, module.rank = step, machine.devices - 1
    data = EmitterData(Simulator(made.simulation, made.psf, made.camera), 1, EVERY.batch_size, 5)
    job = Job("test", folder, BudgetSettings(steps=STEPS), machine, LoggerSettings(wandb="off"))
    fit(module, data, job, last_state(folder)[0] if resume else None)
    return module


def killed(work: Callable[[], object]) -> None:
    """Run in a process of its own, which does not end well, within minutes on a busy machine."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(240)
    assert process.exitcode not in (0, None), "still running, or ended well"


def same_runs(a: Path, b: Path) -> None:
    """Weights, optimizer and every number of the curve that both validate at."""
    states = [torch.load(f / "checkpoints" / "last.ckpt", weights_only=True) for f in (a, b)]
    assert states[0]["global_step"] == states[1]["global_step"] == STEPS
    for name, value in states[0]["state_dict"].items():
        assert torch.equal(value, states[1]["state_dict"][name]), name
    first, second = (pd.read_csv(f / "metrics.csv") for f in (a, b))
    for column in first.filter(regex="^(train|val|health|diagnosis/probe)"):
        one, other = (log[["step", column]].dropna().reset_index(drop=True) for log in (first, second))
        pd.testing.assert_frame_equal(one, other, check_exact=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    life(folder, ONE)
    return folder


@pytest.mark.parametrize("draw", range(3))
def test_a_run_killed_at_a_random_step_is_the_uninterrupted_one(tmp_path, whole, draw):
    step = random.Random(draw).randrange(7, STEPS)
    killed(lambda: life(tmp_path, ONE, step))
    assert last_state(tmp_path)[1]["global_step"] in range(step - 6, step + 1)
    life(tmp_path, ONE, resume=True)
    same_runs(whole, tmp_path)


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path, whole, monkeypatch):
    written = []

    def killed_at_the_third(descriptor):
        written.append(descriptor)
        if len(written) == 3:  # after step 6's and the best
            sigkill()

    monkeypatch.setattr(checkpoints.os, "fsync", killed_at_the_third)
    killed(lambda: life(tmp_path, ONE))
    monkeypatch.undo()
    assert list((tmp_path / "checkpoints").glob("*.tmp"))  # it was in the middle of one
    assert 0 < last_state(tmp_path)[1]["global_step"] < STEPS
    life(tmp_path, ONE, resume=True)
    same_runs(whole, tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "empty", "gone"])
def test_a_damaged_checkpoint_is_told_and_the_one_before_is_taken(tmp_path, whole, caplog, damage):
    killed(lambda: life(tmp_path, ONE, 21))
    last = tmp_path / "checkpoints" / "last.ckpt"
    newest = last_state(tmp_path)[1]["global_step"]
    content = last.read_bytes()
    last.unlink() if damage == "gone" else last.write_bytes(
        content[: len(content) // 2 if damage[0] == "t" else 0]
    )
    with caplog.at_level(logging.WARNING):
        path, state = last_state(tmp_path)
    assert path.name == "previous.ckpt" and state["global_step"] < newest
    assert damage == "gone" or ("damaged" in caplog.text and "the one before is tried" in caplog.text)
    if damage == "truncated":
        life(tmp_path, ONE, resume=True)
        same_runs(whole, tmp_path)
    (tmp_path / "checkpoints" / "previous.ckpt").write_bytes(b"")
    with pytest.raises(EmitterError, match=r"\.ckpt' cannot be read"):
        last.unlink(missing_ok=True) if damage == "gone" else last.write_bytes(b"")
        last_state(tmp_path)


def test_after_a_damaged_checkpoint_a_kill_in_the_next_write_leaves_the_one_before(tmp_path, monkeypatch):
    killed(lambda: life(tmp_path, ONE, 21))
    (tmp_path / "checkpoints" / "last.ckpt").write_bytes(b"half a checkpoint")
    before = last_state(tmp_path)[1]["global_step"]
    monkeypatch.setattr(checkpoints.os, "fsync", lambda descriptor: sigkill())
    killed(lambda: life(tmp_path, ONE, resume=True))
    assert last_state(tmp_path)[1]["global_step"] == before


def test_a_run_killed_before_a_recovery_returns_to_the_same_weights(tmp_path):
    settings = replace(EVERY, recovery=RecoverySettings(3, 2), validation=replace(EVERY.validation, times=1))
    life(tmp_path / "whole", ONE, kind=HeldUp, settings=settings)
    killed(lambda: life(tmp_path / "cut", ONE, 7, kind=HeldUp, settings=settings))
    life(tmp_path / "cut", ONE, resume=True, kind=HeldUp, settings=settings)
    same_runs(tmp_path / "whole", tmp_path / "cut")


@pytest.fixture
def heard():
    """As in a program of its own; in a process of pytest-xdist Ctrl-C is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_a_second_ctrl_c_in_the_middle_of_a_step_keeps_nothing_of_it(tmp_path, whole, caplog):
    with pytest.raises(KeyboardInterrupt), caplog.at_level(logging.INFO):
        life(tmp_path, ONE, kind=Impatient)
    assert (
        f"ended at once; go on from the last checkpoint, if there is one, with resume={tmp_path}"
        in caplog.text
    )
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert last_state(tmp_path)[1]["global_step"] == 6
    life(tmp_path, ONE, resume=True)
    same_runs(whole, tmp_path)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("PytorchStreamWriter failed writing file")]
)
def test_a_full_disk_leaves_the_checkpoint_of_before_and_is_told(tmp_path, monkeypatch, error):
    def full(descriptor):
        raise error

    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"a": 1}, path)
    monkeypatch.setattr(checkpoints.os, "fsync", full)
    with pytest.raises(EmitterError) as told:
        AtomicCheckpointIO().save_checkpoint({"a": 2}, path)
    for part in (str(path), str(error.args[-1]), f"resume={tmp_path / 'run'}"):
        assert part in str(told.value)
    assert torch.load(path, weights_only=True) == {"a": 1}
    assert [one.name for one in path.parent.iterdir()] == ["last.ckpt"]


def test_a_failed_write_leaves_the_checkpoint_of_before(tmp_path):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"a": 1}, path)
    with pytest.raises(Exception, match="pickle"):
        AtomicCheckpointIO().save_checkpoint({"a": lambda: 2}, path)
    assert torch.load(path, weights_only=True) == {"a": 1} and [p.name for p in tmp_path.iterdir()] == [
        "last.ckpt"
    ]


def test_of_two_processes_one_is_killed_and_the_run_goes_on(tmp_path, capfd):
    life(tmp_path / "whole", TWO)
    killed(lambda: life(tmp_path / "cut", TWO, 17))
    told = re.search("EmitterError: another process of this run does not answer.*", capfd.readouterr().err)
    assert told and told.group().endswith(f"resume={tmp_path / 'cut'}")
    life(tmp_path / "cut", TWO, resume=True)
    same_runs(tmp_path / "whole", tmp_path / "cut")
