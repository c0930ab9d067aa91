"""Ending a run on Ctrl-C or SIGTERM at a place from which it can be resumed exactly."""

from __future__ import annotations

import logging
import signal
import threading
from typing import Any

import pytorch_lightning as pl
import torch

log = logging.getLogger(__name__)


class Interruption(pl.Callback):
    """On the first Ctrl-C or SIGTERM the step that is under way is finished and the run ends; the second ends at once.

    An exception thrown in the middle of a step would leave weights, schedule and samples at different steps.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: Any) -> None:
        self.signal = number
        self._restore()
        log.info("ending after this step; once more ends at once")

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # at a step's end: gradients of half a step would be in no checkpoint
        here = torch.tensor(self.signal or 0 if pl_module.stepped else 0, device=pl_module.device)
        anywhere = int(trainer.strategy.reduce(here, reduce_op="max"))
        if anywhere:
            self.signal = anywhere
            trainer.should_stop = True

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._restore()
