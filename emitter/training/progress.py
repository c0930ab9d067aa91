"""One progress bar for the whole run, with the loss and the best efficiency so far."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from emitter.training.module import MONITOR, NOTHING_FOUND, EmitterModule

_EVERY_STEPS = 10


class RunProgress(pl.Callback):
    """Shows step, loss, efficiency and the time left, on rank 0."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.1f}  efficiency {task.fields[efficiency]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._task: TaskID | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self._task = self._bar.add_task("", total=None, loss=float("nan"), efficiency="-")
            self._bar.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if self._task is not None and (step % _EVERY_STEPS == 0 or step == pl_module.total_steps):
            loss = float(outputs["loss"])
            self._bar.update(self._task, completed=step, total=pl_module.total_steps, loss=loss)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._task is not None and not trainer.sanity_checking and isinstance(pl_module, EmitterModule):
            efficiency = float(trainer.callback_metrics[MONITOR])
            self._bar.update(
                self._task, efficiency=f"{efficiency:.3f}" if efficiency > NOTHING_FOUND else "none yet"
            )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._bar.stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._bar.stop()
