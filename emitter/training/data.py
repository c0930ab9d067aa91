"""Samples for training and validation: indices from a loader, simulated on the training device.

The loader yields nothing but sample indices. Rank r of R takes every R-th batch, so no sample is seen twice, and the
first index follows from the step: a resumed run goes on with the next sample.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from emitter.simulation.simulator import Domain, Sample, Simulator


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


class EmitterData(pl.LightningDataModule):
    """Simulated samples, keyed by (seed, index)."""

    def __init__(self, simulator: Simulator, seed: int, batch_size: int, validation_samples: int) -> None:
        super().__init__()
        self.simulator = simulator
        self.seed = seed
        self.batch_size = batch_size
        self.validation_samples = validation_samples

    def _rank(self) -> tuple[int, int]:
        trainer = self.trainer
        return (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)

    def train_dataloader(self) -> DataLoader[Tensor]:
        trainer = self.trainer
        first = trainer.global_step * trainer.accumulate_grad_batches if trainer is not None else 0
        indices = TrainingIndices(self.batch_size, first, *self._rank())
        return DataLoader(indices, batch_size=None)

    def val_dataloader(self) -> DataLoader[Tensor]:
        rank, world_size = self._rank()
        own = torch.arange(rank, self.validation_samples, world_size)
        return DataLoader(list(own.split(32)), batch_size=None)  # type: ignore[arg-type]

    @torch.no_grad()
    def on_after_batch_transfer(self, batch: Tensor, dataloader_idx: int) -> Sample:
        """Simulate, outside of the step's autocast."""
        if self.simulator.camera.baseline_adu.device != batch.device:
            self.simulator = self.simulator.to(batch.device)
        training = self.trainer is not None and self.trainer.training
        return self.simulator.sample(self.seed, batch, Domain.TRAINING if training else Domain.VALIDATION)
