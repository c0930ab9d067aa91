"""Samples for training and validation: simulated on the training device, or for training in worker processes.

Rank r of R takes every R-th batch of sample indices, so no sample is seen twice, and the first index follows from the
step: a resumed run goes on with the next sample. A sample's numbers come from (seed, index) alone, wherever it is
simulated; the batches keep their order.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from itertools import islice
from typing import Literal, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from emitter.core.errors import require
from emitter.simulation.simulator import Domain, Sample, Simulator
from emitter.training.cpu_time import note_worker

# Sent to all of a run's processes, by a terminal or a scheduler; how the run ends is its main process's to say.
_SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")


class TrainingIndices(IterableDataset[Tensor]):
    """Batches of sample indices without end, from batch ``first`` of this rank on."""

    def __init__(self, batch_size: int, first: int, rank: int, world_size: int) -> None:
        self.batch_size = batch_size
        self.first = first
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[Tensor]:
        batch = self.first
        while True:
            start = (batch * self.world_size + self.rank) * self.batch_size
            yield torch.arange(start, start + self.batch_size)
            batch += 1


class Delivery(NamedTuple):
    """What a worker sends: a batch, who it is and the CPU time that it has spent so far."""

    sample: Sample
    process_id: int
    cpu_seconds: float


class TrainingSamples(IterableDataset[Delivery]):
    """The batches of ``indices``, simulated in the worker that iterates: worker w of W takes every W-th."""

    def __init__(self, indices: TrainingIndices, simulator: Simulator, seed: int, n_predicted: int) -> None:
        self.indices = indices
        self.simulator = simulator
        self.seed = seed
        self.n_predicted = n_predicted

    def __iter__(self) -> Iterator[Delivery]:
        worker = get_worker_info()
        assert worker is not None
        for index_B in islice(self.indices, worker.id, None, worker.num_workers):
            sample = self.simulator.sample(self.seed, index_B, Domain.TRAINING, self.n_predicted)
            yield Delivery(sample, os.getpid(), time.process_time())


def leave_signals_to_the_run(worker: int) -> None:
    """In a worker: it ends when its run closes the loader, or is gone."""
    for name in _SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


class EmitterData(pl.LightningDataModule):
    """Simulated samples, keyed by (seed, index): on the training device, or for training in ``workers`` processes.

    ``batch_size`` may be auto until the run begins (see ``batch_size.py``).
    """

    def __init__(
        self,
        simulator: Simulator,
        seed: int,
        batch_size: int | Literal["auto"],
        validation_samples: int,
        workers: int = 0,
        predicted_frames: int = 1,
    ) -> None:
        super().__init__()
        self.simulator = simulator
        self.seed = seed
        self.batch_size = batch_size
        self.validation_samples = validation_samples
        self.workers = workers
        self.predicted_frames = predicted_frames

    def _rank(self) -> tuple[int, int]:
        trainer = self.trainer
        return (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)

    def train_dataloader(self) -> DataLoader[Tensor] | DataLoader[Delivery]:
        assert self.batch_size != "auto"
        trainer = self.trainer
        first = trainer.global_step * trainer.accumulate_grad_batches if trainer is not None else 0
        indices = TrainingIndices(self.batch_size, first, *self._rank())
        if self.workers == 0:
            return DataLoader(indices, batch_size=None)
        return DataLoader(
            TrainingSamples(indices, self.simulator.to("cpu"), self.seed, self.predicted_frames),
            batch_size=None,
            num_workers=self.workers,  # of one thread each: torch sees to that
            worker_init_fn=leave_signals_to_the_run,
            pin_memory=trainer is not None and trainer.strategy.root_device.type == "cuda",
        )

    def val_dataloader(self) -> DataLoader[Tensor]:
        rank, world_size = self._rank()
        require(
            self.validation_samples >= world_size,
            f"validation.samples is {self.validation_samples} for {world_size} processes: give one for each, or more",
        )
        own = torch.arange(rank, self.validation_samples, world_size)
        return DataLoader(list(own.split(32)), batch_size=None)  # type: ignore[arg-type]

    @torch.no_grad()
    def on_after_batch_transfer(self, batch: Tensor | Delivery, dataloader_idx: int) -> Sample:
        """Simulate, outside of the step's autocast, what no worker has simulated."""
        if isinstance(batch, Delivery):
            note_worker(batch.process_id, batch.cpu_seconds)
            return batch.sample
        if self.simulator.camera.baseline_adu.device != batch.device:
            self.simulator = self.simulator.to(batch.device)
        training = self.trainer is not None and self.trainer.training
        if training:
            return self.simulator.sample(self.seed, batch, Domain.TRAINING, self.predicted_frames)
        return self.simulator.sample(self.seed, batch, Domain.VALIDATION)
