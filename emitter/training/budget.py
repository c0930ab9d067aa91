"""Turning a time budget into a number of steps, once.

The first steps are timed, and from then on the run is a fixed number of steps long: the schedule anneals to its end
and everything after is deterministic and resumable. On a CPU they are timed with all threads and with one, and the
run goes on with what gives more steps for the budget: small convolutions on cores that share their arithmetic units
are often no faster on two threads than on one, and wait for each other at a cost. Rank 0's clock decides for all.
"""

from __future__ import annotations

import logging
import math
import time
from typing import Any

import pytorch_lightning as pl
import torch

from emitter.training.cpu_time import cpu_seconds
from emitter.training.module import EmitterModule
from emitter.training.settings import BudgetSettings, ValidationSettings

log = logging.getLogger(__name__)

FIRST_TIMED_STEP = 10  # the first steps compile kernels and fill caches
TIMED_STEPS = 20
_NEVER = 10**9
SETTLING_STEPS = 5  # after a change of threads


class Budget(pl.Callback):
    """Sets the run's length and when it validates: ``times`` times, evenly, the last at the last step."""

    def __init__(self, settings: BudgetSettings, validation: ValidationSettings) -> None:
        self.settings = settings
        self.validation = validation
        self._clock = time.perf_counter if settings.minutes is not None else cpu_seconds
        self._began = self._clock()
        self._mark = 0.0
        self._validation_seconds = 0.0
        self._first_step = 0  # of this life: a run may be resumed before its length is known
        self._threads_before = torch.get_num_threads()
        self._threads = [torch.get_num_threads()]  # to be tried; the one chosen, once it is
        self._seconds_per_step: list[float] = []

    @property
    def seconds(self) -> float | None:
        """The budget in seconds of its clock; None for a budget in steps."""
        settings = self.settings
        if settings.steps is not None:
            return None
        if settings.minutes is not None:
            return settings.minutes * 60.0
        return settings.cpu_seconds or settings.default_cpu_seconds

    def on_sanity_check_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._mark = self._clock()

    def on_sanity_check_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validation_seconds = self._clock() - self._mark

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, EmitterModule)
        self._first_step = trainer.global_step
        if pl_module.total_steps is None and self.settings.steps is not None:
            pl_module.total_steps = self.settings.steps
        if pl_module.total_steps is not None:
            torch.set_num_threads(self._threads[0])
            trainer.fit_loop.epoch_loop.max_steps = pl_module.total_steps
        elif pl_module.device.type == "cpu" and self._threads[0] > 1:
            self._threads.append(1)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not pl_module.stepped:
            return
        if pl_module.total_steps is None:
            self._measure(trainer, pl_module)
        else:
            self._say_whether_to_validate(trainer, pl_module.total_steps)

    def _measure(self, trainer: pl.Trainer, module: EmitterModule) -> None:
        """Time a stretch of steps with each number of threads, then decide."""
        here = trainer.global_step - self._first_step - FIRST_TIMED_STEP
        trial, step = divmod(here, TIMED_STEPS + SETTLING_STEPS)
        if trial >= 0 and step == 0:
            self._mark = self._clock()
        if trial < 0 or step != TIMED_STEPS:
            return
        self._seconds_per_step.append((self._clock() - self._mark) / TIMED_STEPS)
        if len(self._seconds_per_step) < len(self._threads):
            torch.set_num_threads(self._threads[trial + 1])
            return
        fastest, threads = min(zip(self._seconds_per_step, self._threads, strict=True))
        steps = self._steps_left(fastest) + trainer.global_step
        module.total_steps, threads = trainer.strategy.broadcast((steps, threads))
        self._threads = [threads]
        torch.set_num_threads(threads)
        log.info(
            "%.0f ms a step on %d threads: training for %d steps", 1000 * fastest, threads, module.total_steps
        )
        trainer.fit_loop.epoch_loop.max_steps = module.total_steps

    def _steps_left(self, seconds_per_step: float) -> int:
        """How many more steps fit, beside the validations."""
        assert self.seconds is not None
        left = self.seconds - (self._clock() - self._began) - self.validation.times * self._validation_seconds
        return max(1, int(left / max(seconds_per_step, 1e-6)))

    def _say_whether_to_validate(self, trainer: pl.Trainer, total_steps: int) -> None:
        """Before Lightning asks. By the step: Lightning's own count of batches is one off after some resumes."""
        interval = math.ceil(total_steps / self.validation.times)
        due = trainer.global_step % interval == 0 or trainer.global_step == total_steps
        trainer.val_check_batch = 1 if due else _NEVER

    def state_dict(self) -> dict[str, Any]:
        return {"threads": self._threads[0], "validation_seconds": self._validation_seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._threads = [min(state_dict["threads"], self._threads_before)]
        self._validation_seconds = state_dict["validation_seconds"]

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        torch.set_num_threads(self._threads_before)  # the next job of a sweep chooses for itself
