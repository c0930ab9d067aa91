"""Where a run can be taken up again: what is written, when, and what is read back."""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from lightning_fabric.utilities.types import _PATH

from emitter.core.errors import EmitterError
from emitter.inference.bundle import read_checkpoint

log = logging.getLogger(__name__)

FOLDER = "checkpoints"
LAST = "last.ckpt"
PREVIOUS = "previous.ckpt"  # the one before, for a last one that is damaged


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes under another name first: a kill or a full disk leaves the checkpoint of before as it was."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any = None) -> None:
        final = Path(path)
        temporary = final.with_name(f"{final.name}.tmp")
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())  # on the disk before it takes the name
            temporary.replace(final)
        except (OSError, RuntimeError) as error:  # a full disk is either, as torch meets it
            reason = error.strerror if isinstance(error, OSError) else str(error).partition("\n")[0]
            raise EmitterError(
                f"the checkpoint '{final}' cannot be written ({reason}): make room there, then go on with "
                f"resume={final.parent.parent}"
            ) from error
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def last_state(run_dir: Path) -> tuple[Path, dict[str, Any]]:
    """The newest checkpoint of a run that can be read, and what it holds.

    Raises:
        EmitterError: when there is none.
    """
    damaged: EmitterError | None = None
    for path in (run_dir / FOLDER / LAST, run_dir / FOLDER / PREVIOUS):
        if path.is_file():
            try:
                state = read_checkpoint(path)
            except EmitterError as error:
                damaged = damaged or error
                log.warning("%s; the one before is tried", error)
            else:
                return path, state
    raise damaged or EmitterError(
        f"'{run_dir}' holds no {FOLDER}/{LAST}: give the folder of an interrupted run"
    )


def _keep_as_previous(last: Path) -> None:
    """Another name for the same file: at no moment is there none."""
    if last.is_file():
        previous = last.with_name(PREVIOUS)
        previous.unlink(missing_ok=True)
        try:
            previous.hardlink_to(last)
        except OSError:  # a file system without links
            shutil.copyfile(last, previous)


class LastCheckpoint(pl.callbacks.Checkpoint):
    """Keeps ``last.ckpt`` and the one before it: after every validation, every so many steps, and at the end, also
    that of an interrupted run. The logs are written out with it, so that no step before it is missing from them.

    Nothing is written when the run fails: the failure may lie in the middle of a step, and what is in memory then is
    the state of no step.

    Lightning's own either deletes it at the end of a good run or writes it only when the best improves. As one of its
    kind this is called after the one that keeps the best, whose state it holds.
    """

    def __init__(self, folder: Path, every_steps: int) -> None:
        self.folder = folder
        self.every_steps = every_steps
        self._saved_step = -1
        self._last_is_whole = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # it is when the run begins from it; a damaged one must not take the place of the one before it
        self._last_is_whole = trainer.ckpt_path is not None and Path(trainer.ckpt_path).name == LAST

    def _save(self, trainer: pl.Trainer) -> None:
        if trainer.sanity_checking or trainer.global_step == self._saved_step:
            return
        last = self.folder / LAST
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.save()
            if self._last_is_whole:
                _keep_as_previous(last)
        trainer.save_checkpoint(last, weights_only=False)
        self._last_is_whole = True
        self._saved_step = trainer.global_step

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # else a life that goes on from a checkpoint of here counts one step too many, and logs come late
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step
        # not at a batch's end: the module does its part of that after all callbacks
        if trainer.global_step > 0 and trainer.global_step % self.every_steps == 0:
            self._save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer)
