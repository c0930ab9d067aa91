"""The CSV log of a run that lives more than once.

Lightning's CSV logger begins by deleting the file that is there. What an earlier life wrote is set aside before and
joined again afterwards; steps that both lives made (after the last checkpoint) are the later life's.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytorch_lightning as pl

LOG = "metrics.csv"


def _earlier(run_dir: Path) -> list[Path]:
    return sorted(run_dir.glob("metrics_life*.csv"))


def set_aside(run_dir: Path) -> None:
    """Give the log of the last life a name of its own."""
    log = run_dir / LOG
    if log.is_file():
        log.replace(run_dir / f"metrics_life{len(_earlier(run_dir)) + 1:03d}.csv")


def join(run_dir: Path) -> None:
    """One ``metrics.csv`` of all lives."""
    earlier = _earlier(run_dir)
    log = run_dir / LOG
    if not earlier:
        return
    lives = [pd.read_csv(path) for path in [*earlier, log] if path.is_file() and path.stat().st_size]
    for i, life in enumerate(lives[:-1]):
        later = min(other["step"].min() for other in lives[i + 1 :])
        lives[i] = life[life["step"] < later]
    temporary = log.with_suffix(".tmp")
    pd.concat(lives).to_csv(temporary, index=False)
    temporary.replace(log)
    for path in earlier:
        path.unlink()


class SavedLogs(pl.Callback):
    """Writes the logs however the run ends, in the process that holds them: Lightning does not after a failure, and
    where it starts processes for the ranks, the one that started them has no logs."""

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._save(trainer)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        for logger in trainer.loggers:
            logger.save()
