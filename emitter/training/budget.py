"""Turning a time budget into a number of steps, once.

The first steps are timed, and from then on the run is a fixed number of steps long: the schedule anneals to its end
and everything after is deterministic and resumable. Rank 0's clock decides for all.
"""

from __future__ import annotations

import logging
import math
import time
from typing import Any

import pytorch_lightning as pl

from emitter.training.module import EmitterModule
from emitter.training.settings import BudgetSettings, ValidationSettings

log = logging.getLogger(__name__)

FIRST_TIMED_STEP = 10  # the first steps compile kernels and fill caches
TIMED_STEPS = 40
FEWEST_STEPS = FIRST_TIMED_STEP + TIMED_STEPS


class Budget(pl.Callback):
    """Sets the run's length and when it validates: ``times`` times, evenly, the last at the last step."""

    def __init__(self, settings: BudgetSettings, validation: ValidationSettings) -> None:
        self.settings = settings
        self.validation = validation
        self._clock = time.perf_counter if settings.minutes is not None else time.process_time
        self._began = self._clock()
        self._mark = 0.0
        self._validation_seconds = 0.0

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
        if pl_module.total_steps is None and self.settings.steps is not None:
            pl_module.total_steps = self.settings.steps
        if pl_module.total_steps is not None:
            self._apply(trainer, pl_module.total_steps)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if pl_module.total_steps is None and trainer.global_step == FIRST_TIMED_STEP:
            self._mark = self._clock()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if pl_module.total_steps is None and step == FEWEST_STEPS:
            per_step = (self._clock() - self._mark) / TIMED_STEPS
            pl_module.total_steps = trainer.strategy.broadcast(self._steps_left(per_step) + step)
            log.info("%.0f ms a step: training for %d steps", 1000 * per_step, pl_module.total_steps)
            self._apply(trainer, pl_module.total_steps)
        elif pl_module.total_steps is not None:
            self._set_next_validation(trainer, pl_module.total_steps, step)

    def _steps_left(self, seconds_per_step: float) -> int:
        """How many more steps fit, beside the validations."""
        assert self.seconds is not None
        left = self.seconds - (self._clock() - self._began) - self.validation.times * self._validation_seconds
        return max(1, int(left / max(seconds_per_step, 1e-6)))

    def _apply(self, trainer: pl.Trainer, total_steps: int) -> None:
        trainer.fit_loop.epoch_loop.max_steps = total_steps
        self._set_next_validation(trainer, total_steps, trainer.global_step)

    def _set_next_validation(self, trainer: pl.Trainer, total_steps: int, step: int) -> None:
        interval = math.ceil(total_steps / self.validation.times)
        last_regular = total_steps - total_steps % interval
        # after the last regular one only the run's end is left
        trainer.val_check_batch = total_steps if step > last_regular else interval
