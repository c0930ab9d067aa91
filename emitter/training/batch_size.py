"""``batch_size=auto``: the largest batch that fits into memory; and what to do when memory runs out all the same.

On a GPU batches are tried, on a CPU, where memory runs out for all programs together, they are reckoned.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from emitter.core.errors import EmitterError
from emitter.simulation.simulator import Simulator
from emitter.training.data import EmitterData
from emitter.training.module import EmitterModule

log = logging.getLogger(__name__)

LARGEST_ON_GPU = 256  # the learning rates were chosen with small batches
LARGEST_ON_CPU = 16  # the default

Step = Callable[[int], None]


def fitting_batch(step: Step, largest: int) -> int:
    """The largest power of two, up to ``largest``, for which a step of a quarter more images than that runs.

    Args:
        step: runs one training step of so many images, or raises ``torch.OutOfMemoryError``.
        largest: at which the doubling ends.

    Returns:
        the size, or 0 when not even one image fits.
    """
    fitting, batch_size = 0, 1
    while batch_size <= largest and _runs(step, batch_size + -(-batch_size // 4)):
        fitting, batch_size = batch_size, 2 * batch_size
    return fitting


def _runs(step: Step, batch_size: int) -> bool:
    try:
        step(batch_size)
    except torch.OutOfMemoryError:
        fits = False
    else:
        fits = True
    # after the except clause: until there the traceback holds the step's tensors
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return fits


def training_step(module: EmitterModule, simulator: Simulator) -> Step:
    """A step as in training, without the optimizer: what it keeps is small against the images' share."""
    simulator = simulator.to(module.device)
    objective = module.objective

    def step(batch_size: int) -> None:
        index_B = torch.arange(batch_size, device=module.device)
        sample = simulator.sample(module.settings.seed, index_B, n_predicted=module.settings.predicted_frames)
        keep_B = torch.ones(sample.emitters.n_images, dtype=torch.bool, device=module.device)
        before = deepcopy(objective.state_dict())  # a weighting remembers what it saw last
        try:
            with module.trainer.precision_plugin.forward_context():
                maps = module(sample.photons_BTHW)
                with torch.autocast(module.device.type, enabled=False):
                    outcome = objective(maps, sample, keep_B, sys.maxsize, 0.0)  # every scale at work
            outcome.total.backward()
        finally:
            module.zero_grad(set_to_none=True)
            objective.load_state_dict(before)

    return step


def reckoned(step: Step, available_bytes: float) -> Step:
    """A stand-in for ``step`` that raises where it would need more memory than is available.

    A step takes about twice what autograd keeps for the backward pass: the gradients come to it.
    """
    kept: dict[int, int] = {}  # bytes by address

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        step(1)
    bytes_per_image = 2 * sum(kept.values())

    def stand_in(batch_size: int) -> None:
        if batch_size * bytes_per_image > available_bytes:
            raise torch.OutOfMemoryError

    return stand_in


def available_memory_bytes() -> float:
    """What this machine's programs can still take; without bound where the system does not say."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.is_file():
        return float("inf")
    sizes_kb = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return 1024.0 * int(sizes_kb["MemAvailable"].split()[0])


class FittingBatch(pl.Callback):
    """Decides an auto batch size before the first step: the smallest of what fits on each rank.

    A resumed run keeps the size that it began with, so that its stream of samples goes on.
    """

    def __init__(self) -> None:
        self.batch_size: int | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(pl_module, EmitterModule) and isinstance(data, EmitterData)
        if data.batch_size != "auto":
            return
        if self.batch_size is None:
            self.batch_size = self._decided(trainer, pl_module, data)
        data.batch_size = self.batch_size
        pl_module.settings = replace(pl_module.settings, batch_size=self.batch_size)

    def _decided(self, trainer: pl.Trainer, module: EmitterModule, data: EmitterData) -> int:
        step, largest = training_step(module, data.simulator), LARGEST_ON_GPU
        if module.device.type != "cuda":
            ranks_here = max(1, trainer.num_devices)
            step, largest = reckoned(step, available_memory_bytes() / ranks_here), LARGEST_ON_CPU
        here = torch.tensor(fitting_batch(step, largest), device=module.device)
        least = trainer.strategy.reduce(here, reduce_op="min")
        assert isinstance(least, Tensor)
        if least == 0:
            raise EmitterError(
                "not one image fits into the memory: give a smaller model or simulation.frame_size_px"
            )
        log.info("batch_size=auto: %d images", int(least))
        return int(least)

    def state_dict(self) -> dict[str, Any]:
        return {"batch_size": self.batch_size}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.batch_size = state_dict["batch_size"]


@contextmanager
def memory_error_in_words(module: EmitterModule) -> Iterator[None]:
    """Ends a run whose memory has run out with a sentence.

    Raises:
        EmitterError: in place of torch's error.
    """
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError on a GPU; on a CPU it has no name of its own
        if not isinstance(error, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        batch_size, batches = module.settings.batch_size, module.settings.accumulate_batches
        advice = "a smaller model or simulation.frame_size_px"
        if batch_size != "auto" and batch_size > 1:
            advice = (
                f"training.batch_size=auto, or {batch_size // 2} with training.accumulate_batches={2 * batches} for "
                "the same step"
            )
        raise EmitterError(
            f"the memory of {module.device} ran out at batch_size={batch_size}: begin again with {advice}"
        ) from error
