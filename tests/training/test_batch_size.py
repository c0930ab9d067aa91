"""batch_size=auto on devices of any memory; a run keeps what it began with; running out of memory is put in words."""

import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from test_training import SETTINGS, StopError, bundle, fail, interrupted, train

from emitter.app.schema import build
from emitter.core.errors import EmitterError, SettingsError
from emitter.simulation.simulator import Simulator
from emitter.training import batch_size as batch_size_module
from emitter.training.batch_size import (
    LARGEST_ON_CPU,
    available_memory_bytes,
    fitting_batch,
    memory_error_in_words,
    reckoned,
    training_step,
)
from emitter.training.data import EmitterData
from emitter.training.fit import Job, LoggerSettings, TrainerSettings, fit
from emitter.training.module import EmitterModule
from emitter.training.settings import BudgetSettings, TrainingSettings

AUTO = replace(SETTINGS, batch_size="auto")


@given(limit=st.integers(0, 700), largest=st.integers(1, 512))
@example(limit=0, largest=16)
@example(limit=1, largest=16)
@example(limit=10**9, largest=256)
def test_the_largest_power_of_two_that_leaves_a_quarter_to_spare(limit, largest):
    tried = []

    def step(batch_size: int) -> None:
        tried.append(batch_size)
        if batch_size > limit:
            raise torch.OutOfMemoryError("out of memory")

    powers = [2**k for k in range(11) if 2**k <= largest and math.ceil(1.25 * 2**k) <= limit]
    assert fitting_batch(step, largest) == max(powers, default=0)
    assert sum(size > limit for size in tried) <= 1  # a GPU is driven out of its memory once


def test_other_errors_of_a_step_are_not_taken_for_a_lack_of_memory():
    def step(batch_size: int) -> None:
        raise RuntimeError("wrong shapes")

    with pytest.raises(RuntimeError, match="wrong shapes"):
        fitting_batch(step, 16)


def test_on_a_cpu_memory_is_reckoned_as_twice_what_autograd_keeps():
    weights = torch.zeros(1000, requires_grad=True)
    step = reckoned(
        lambda n: weights.exp().sum().backward(), available_bytes=40_000
    )  # keeps exp: 4,000 bytes
    step(5)
    with pytest.raises(torch.OutOfMemoryError):
        step(6)
    assert available_memory_bytes() > 2**20


class Attached(EmitterModule):
    """Tries a step once it is on its device."""

    def on_fit_start(self):
        super().on_fit_start()
        before = {name: value.clone() for name, value in self.state_dict().items()}
        random = torch.get_rng_state()
        training_step(self, self.trainer.datamodule.simulator)(3)
        assert all(torch.equal(value, before[name]) for name, value in self.state_dict().items())
        assert torch.equal(random, torch.get_rng_state())
        assert all(p.grad is None for p in self.parameters())


def data_of(made, batch_size) -> EmitterData:
    return EmitterData(Simulator(made.simulation, made.psf, made.camera), 1, batch_size, 4)


def job(folder, steps: int, machine: TrainerSettings | None = None) -> Job:
    machine = machine or TrainerSettings("cpu")
    return Job("test", folder, BudgetSettings(steps=steps), machine, LoggerSettings(wandb="off"))


def test_trying_a_step_leaves_no_trace(tmp_path):
    made = bundle()
    fit(Attached(made, SETTINGS), data_of(made, 4), job(tmp_path, 1))


def test_on_a_cpu_with_enough_memory_auto_is_the_default(tmp_path):
    _, auto = train(tmp_path / "auto", BudgetSettings(steps=5), AUTO)
    _, default = train(
        tmp_path / "default", BudgetSettings(steps=5), replace(AUTO, batch_size=LARGEST_ON_CPU)
    )
    assert auto.settings.batch_size == TrainingSettings().batch_size == LARGEST_ON_CPU
    for a, b in zip(auto.network.parameters(), default.network.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_resumed_run_keeps_the_batch_size_that_it_began_with(tmp_path, monkeypatch):
    _, whole = train(tmp_path / "whole", BudgetSettings(steps=12), replace(AUTO, batch_size=2))
    made = bundle()
    with monkeypatch.context() as patch, pytest.raises(StopError):
        patch.setattr(batch_size_module, "LARGEST_ON_CPU", 2)
        fit(
            interrupted("on_train_batch_end", fail)(made, AUTO),
            data_of(made, "auto"),
            job(tmp_path / "cut", 12),
        )
    last = tmp_path / "cut" / "checkpoints" / "last.ckpt"
    _, resumed = train(tmp_path / "cut", BudgetSettings(steps=12), AUTO, resume=last)
    assert resumed.settings.batch_size == 2
    for a, b in zip(whole.network.parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(a, b)


class Writing(EmitterModule):
    """Every rank writes down its batches' sizes and the sum of its weights."""

    def on_train_batch_end(self, outputs, batch, batch_idx):
        super().on_train_batch_end(outputs, batch, batch_idx)
        told = [len(batch.counts_BTHW), [float(p.double().sum()) for p in self.parameters()]]
        with (self.folder / f"rank{self.global_rank}.jsonl").open("a") as file:
            file.write(json.dumps(told) + "\n")


def test_every_rank_takes_the_smallest_of_what_fits_on_one(tmp_path, monkeypatch):
    def tried(step, largest):
        return 8 if torch.distributed.get_rank() == 0 else 2

    monkeypatch.setattr(batch_size_module, "fitting_batch", tried)
    made = bundle()
    module = Writing(made, AUTO)
    module.folder = tmp_path
    fit(module, data_of(made, "auto"), job(tmp_path, 3, TrainerSettings("cpu", 2, "ddp_fork", 1, 0.5)))
    first, second = ((tmp_path / f"rank{rank}.jsonl").read_text().splitlines() for rank in (0, 1))
    assert first == second and [json.loads(line)[0] for line in first] == [2, 2, 2]


def test_not_one_image_fits(tmp_path, monkeypatch):
    monkeypatch.setattr(batch_size_module, "available_memory_bytes", lambda: 1000.0)
    with pytest.raises(EmitterError, match="not one image fits into the memory: give a smaller model"):
        train(tmp_path, BudgetSettings(steps=2), AUTO)


def run_out() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_running_out_of_memory_in_a_step_says_what_to_do(tmp_path):
    made = bundle()
    advice = "ran out at batch_size=4: .* training.batch_size=auto, or 2 with training.accumulate_batches=2"
    with pytest.raises(EmitterError, match=advice):
        fit(interrupted("training_step", run_out)(made, SETTINGS), data_of(made, 4), job(tmp_path, 20))


def test_running_out_of_memory_on_a_cpu_and_with_one_image():
    module = EmitterModule(bundle(), replace(SETTINGS, batch_size=1))
    with pytest.raises(EmitterError, match="begin again with a smaller model"), memory_error_in_words(module):
        torch.empty(1 << 60)
    with pytest.raises(RuntimeError, match="shapes"), memory_error_in_words(module):
        raise RuntimeError("wrong shapes")


def test_the_setting_takes_auto_or_a_number():
    assert build(TrainingSettings, {"batch_size": "auto"}).batch_size == "auto"
    for wrong in (0, "many", True):
        with pytest.raises(SettingsError, match="batch_size"):
            build(TrainingSettings, {"batch_size": wrong})
