"""Where samples are simulated makes no difference: on the training device, in workers, after a resume, after Ctrl-C."""

import multiprocessing
import os
import pickle
import signal
import time
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from test_training import SETTINGS, bundle, train

from emitter.simulation.camera import Camera, CameraSettings
from emitter.simulation.simulator import Sample, Simulator
from emitter.training.cpu_time import cpu_seconds, note_worker
from emitter.training.data import EmitterData
from emitter.training.fit import Job, LoggerSettings, TrainerSettings, fit
from emitter.training.module import EmitterModule
from emitter.training.settings import BudgetSettings, ValidationSettings


def simulator(kind: type[Simulator] = Simulator) -> Simulator:
    """With a camera whose pixels differ, so that a sample has all the tensors that it can have."""
    made = bundle()
    maps = torch.rand(3, 20, 24, generator=torch.Generator().manual_seed(1)) + 1
    camera = Camera.build(CameraSettings("scmos"))._with_maps(*maps)
    return kind(made.simulation, made.psf, camera)


def batches(n: int, workers: int, first_step: int = 0, kind: type[Simulator] = Simulator) -> list[Sample]:
    """The first ``n`` of rank 1 of 2, from a step on."""
    data = EmitterData(simulator(kind), 5, 3, 4, workers)
    data.trainer = SimpleNamespace(
        training=True,
        global_rank=1,
        world_size=2,
        global_step=first_step,
        accumulate_grad_batches=1,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )
    loader = iter(data.train_dataloader())
    return [data.on_after_batch_transfer(next(loader), 0) for _ in range(n)]


def tensors(value) -> list[torch.Tensor]:
    """All that a sample holds, however deep."""
    if isinstance(value, torch.Tensor):
        return [value]
    return (
        [t for field in fields(value) for t in tensors(getattr(value, field.name))] if _is_data(value) else []
    )


def _is_data(value) -> bool:
    return hasattr(value, "__dataclass_fields__")


def assert_same(a: list[Sample], b: list[Sample]) -> None:
    for one, other in zip(a, b, strict=True):
        for x, y in zip(tensors(one), tensors(other), strict=True):
            assert torch.equal(x, y)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_send_the_device_s_samples_in_its_order_also_after_a_resume(workers):
    here = batches(7, workers=0)
    assert len(tensors(here[0])) == 11
    assert_same(here, batches(7, workers))
    assert_same(here[4:], batches(3, workers, first_step=4))


class Telling(Simulator):
    """Says in the counts with how many threads it runs, and whether in a process of its own."""

    def to(self, device):
        return self

    def sample(self, *args):
        sample = super().sample(*args)
        sample.counts_BTHW[:, 0] = torch.get_num_threads()
        sample.counts_BTHW[:, 1] = multiprocessing.parent_process() is not None
        return sample


def test_a_worker_is_a_process_of_one_thread_that_ends_with_its_loader():
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        (sample,) = batches(1, workers=1, kind=Telling)
    finally:
        torch.set_num_threads(threads)
    assert (sample.counts_BTHW[:, 0] == 1).all() and (sample.counts_BTHW[:, 1] == 1).all()
    assert multiprocessing.active_children() == []


def test_what_a_worker_is_given_can_be_sent_to_a_new_process():
    """Where processes are not forked."""
    sent = pickle.loads(pickle.dumps(simulator()))
    assert_same([sent.sample(1, torch.arange(2))], [simulator().sample(1, torch.arange(2))])


def test_every_tensor_of_a_sample_is_pinned_and_moved(monkeypatch):
    (sample,) = batches(1, workers=0)
    assert {t.device.type for t in tensors(sample.to("meta"))} == {"meta"}
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 1)  # there may be no GPU
    for before, pinned in zip(tensors(sample), tensors(sample.pin_memory()), strict=True):
        assert torch.equal(pinned, before + 1)


def test_cpu_time_counts_what_workers_have_spent():
    before = cpu_seconds()
    note_worker(-1, 50.0)
    note_worker(-1, 60.0)  # of the same worker, later
    note_worker(-2, 40.0)
    assert 100 <= cpu_seconds() - before < 110


class CtrlC(EmitterModule):
    """In its eighth step every process of the run gets the signal, as from a terminal; workers a scheduler's too."""

    def training_step(self, sample, batch_idx):
        if self.global_step == 7:
            self.workers = multiprocessing.active_children()
            for worker in self.workers:
                os.kill(worker.pid, signal.SIGINT)
                os.kill(worker.pid, signal.SIGTERM)
            time.sleep(0.2)  # one that minds would be gone by now
            assert all(worker.is_alive() for worker in self.workers)
            signal.raise_signal(signal.SIGINT)
        return super().training_step(sample, batch_idx)


def test_an_interrupted_run_with_workers_ends_them_and_resumes_to_the_same_weights(tmp_path):
    settings = replace(SETTINGS, workers=2, validation=ValidationSettings(2, 1, pictures=False))
    budget = BudgetSettings(steps=12)
    _, whole = train(tmp_path / "whole", budget, replace(settings, workers=0))
    first = CtrlC(bundle(), settings)
    with pytest.raises(KeyboardInterrupt):
        fit(first, data_of_two_workers(), job(tmp_path / "cut", budget))
    assert first.global_step == 8 and len(first.workers) == 2
    assert multiprocessing.active_children() == []
    second = EmitterModule(bundle(), settings)
    fit(
        second,
        data_of_two_workers(),
        job(tmp_path / "cut", budget),
        tmp_path / "cut" / "checkpoints" / "last.ckpt",
    )
    assert multiprocessing.active_children() == []
    for a, b in zip(whole.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(a, b)


def data_of_two_workers() -> EmitterData:
    made = bundle()
    return EmitterData(Simulator(made.simulation, made.psf, made.camera), 1, 4, 2, workers=2)


def job(folder: Path, budget: BudgetSettings) -> Job:
    return Job("test", folder, budget, TrainerSettings("cpu"), LoggerSettings(wandb="off"))
