"""When one gradient after the other is not finite: back to the last good weights, more slowly, a few times.

Every rank sees the same skipped steps (``guard``), keeps the same good state and decides the same, without a word
to the others.
"""

from __future__ import annotations

import logging
from copy import deepcopy
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from emitter.training.module import EmitterModule
from emitter.training.settings import RecoverySettings

log = logging.getLogger(__name__)

RESTARTS = "health/restarts"


class Recovery(pl.Callback):
    """After ``skips`` skipped steps in a row, the weights and the optimizer's state of the last validation (of the
    start, before the first) come back and the learning rate is halved; the samples and the schedule go on.

    After ``restarts`` of them the run ends, with the good state in ``last.ckpt`` and ``failure`` saying what to do.
    """

    def __init__(self, settings: RecoverySettings) -> None:
        self.settings = settings
        self.failure: str | None = None
        self._skipped_in_a_row = 0
        self._restarts = 0
        self._step = 0
        self._good: tuple[int, dict[str, Tensor], dict[str, Any]] | None = None  # step, module, optimizer

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._step = trainer.global_step
        if self._good is None:
            self._keep(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking and not self._skipped_in_a_row:
            self._keep(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, EmitterModule)
        if not pl_module.stepped:
            return
        self._step = trainer.global_step
        self._skipped_in_a_row = self._skipped_in_a_row + 1 if pl_module.dropped else 0
        if self._skipped_in_a_row < self.settings.skips:
            return
        step, self._skipped_in_a_row = trainer.global_step, 0
        good_step = self._restore(trainer, pl_module)
        if self._restarts == self.settings.restarts:
            self.failure = (
                f"{self.settings.skips} steps in a row had to be skipped up to step {step}, after "
                f"{self._restarts} returns to good weights: look at health/ in metrics.csv for where NaN and Inf "
                "begin, and give a lower training.optimizer.learning_rate and muon_learning_rate or "
                "training.precision=32-true"
            )
            trainer.should_stop = True
            return
        self._restarts += 1
        pl_module.rate_factor /= 2
        for group in trainer.optimizers[0].param_groups:
            group["lr"] /= 2
        for logger in trainer.loggers:
            logger.log_metrics({RESTARTS: float(self._restarts)}, step=step - 1)
        log.warning(
            "%d steps in a row had to be skipped, for NaN and Inf: the weights of step %d come back and the learning "
            "rate is halved (%d of %d times)",
            self.settings.skips,
            good_step,
            self._restarts,
            self.settings.restarts,
        )

    def _keep(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        weights = {name: value.detach().clone() for name, value in module.state_dict().items()}
        self._good = trainer.global_step, weights, deepcopy(trainer.optimizers[0].state_dict())

    def _restore(self, trainer: pl.Trainer, module: EmitterModule) -> int:
        """The good state, but for the learning rates: they belong to the step and not to the weights. Its step."""
        assert self._good is not None
        optimizer = trainer.optimizers[0]
        rates = [group["lr"] for group in optimizer.param_groups]
        good_step, weights, state = self._good
        module.load_state_dict(weights)
        optimizer.load_state_dict(deepcopy(state))
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        return good_step

    def state_dict(self) -> dict[str, Any]:
        """The good state too, where it is not the checkpoint's own: a resumed run returns to the same."""
        own = self._good is None or self._good[0] == self._step
        return {
            "restarts": self._restarts,
            "skipped_in_a_row": self._skipped_in_a_row,
            "good": None if own else list(self._good or ()),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._restarts = state_dict["restarts"]
        self._skipped_in_a_row = state_dict.get("skipped_in_a_row", 0)  # there is none in older checkpoints
        good = state_dict.get("good")
        self._good = None if good is None else (good[0], good[1], good[2])
