"""The CSV log of a run, which may live more than once and be killed at any moment.

Lightning's own CSV logger deletes what an earlier life wrote, and rewrites the file in place.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.loggers.logger import Logger

from emitter.io.files import replacing

LOG = "metrics.csv"
_FLUSH_ROWS = 200


class CsvLog(Logger):
    """``metrics.csv``: a row for each call, a column for each name; what was not logged in it is empty."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._columns: list[str] = []  # of the file
        self._written = 0  # rows in the file
        self._waiting: list[dict[str, float]] = []

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @property
    def n_rows(self) -> int:
        """Logged so far, in this life and those before."""
        return self._written + len(self._waiting)

    @rank_zero_only
    def begin(self, n_rows: int) -> None:
        """Keep so many rows of an earlier life: those of before the checkpoint that this one goes on from."""
        rows = _read(self.path)[:n_rows] if n_rows and self.path.is_file() else []
        self._columns, self._written = list(rows[0]) if rows else [], len(rows)
        if rows:
            self._write(rows)
        else:
            self.path.unlink(missing_ok=True)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The settings stand in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        row = {"step": float("nan") if step is None else step}
        self._waiting.append(row | {name: float(value) for name, value in metrics.items()})
        if len(self._waiting) >= _FLUSH_ROWS:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        """Write what waits."""
        if not self._waiting:
            return
        new = dict.fromkeys(name for row in self._waiting for name in row if name not in self._columns)
        if new:
            earlier = _read(self.path) if self._written else []
            self._columns += new
            self._write(earlier)
        self._append(self._waiting)
        self._written, self._waiting = self.n_rows, []

    def _append(self, rows: list[dict[str, float]]) -> None:
        """All of them, or, on a full disk, none."""
        whole_bytes = self.path.stat().st_size
        try:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self._columns).writerows(rows)
        except OSError:
            os.truncate(self.path, whole_bytes)
            raise

    def _write(self, rows: list[dict[str, str]]) -> None:
        """The whole file, under the columns of now."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as path, path.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(rows)


def _read(path: Path) -> list[dict[str, str]]:
    """Its whole rows; a kill may have left half of the last one."""
    lines = path.read_text().splitlines(keepends=True)
    return list(csv.DictReader(line for line in lines if line.endswith("\n")))


class SavedLogs(pl.Callback):
    """Writes the logs however the run ends: Lightning does not after a failure. A resumed run's CSV log goes on where
    its checkpoint was made."""

    def __init__(self) -> None:
        self._n_rows = 0  # of the CSV log, at the checkpoint that this run goes on from

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, CsvLog):
                logger.begin(self._n_rows)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        (checkpoint["log_rows"],) = (log.n_rows for log in trainer.loggers if isinstance(log, CsvLog))

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._n_rows = checkpoint.get("log_rows", 0)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._save(trainer)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        for logger in trainer.loggers:
            logger.save()
