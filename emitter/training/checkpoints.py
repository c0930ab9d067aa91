"""Where a run can be taken up again."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl


class LastCheckpoint(pl.Callback):
    """Keeps ``last.ckpt``: after every validation, at the end, and when the run is interrupted.

    Lightning's own either deletes it at the end of a good run or writes it only when the best improves. The file is
    written under another name first, so that a kill never leaves half of it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._saved_step = -1

    def _save(self, trainer: pl.Trainer) -> None:
        if trainer.sanity_checking or trainer.global_step == self._saved_step:
            return
        temporary = self.path.with_suffix(".tmp")
        trainer.save_checkpoint(temporary, weights_only=False)
        if trainer.is_global_zero:
            temporary.replace(self.path)
        self._saved_step = trainer.global_step

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        # another rank may be gone: saving together would wait for it
        if trainer.world_size == 1 and trainer.global_step > 0:
            self._save(trainer)
