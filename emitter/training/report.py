"""What a run leaves behind to look at."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from emitter.io.files import replacing
from emitter.plots.training import plot_training
from emitter.training.cpu_time import cpu_seconds
from emitter.training.log_files import LOG

log = logging.getLogger(__name__)


@contextmanager
def expendable(path: Path) -> Iterator[Path]:
    """Where to write a file that is not worth a training: when the disk is full, a warning says what is missing.

    What stood under the name before stays until the new one is whole.
    """
    try:
        with replacing(path) as temporary:
            yield temporary
    except OSError as error:
        log.warning("%s cannot be written (%s)", path, error)


def report_folder(run_dir: Path) -> Path:
    """Where the run's pictures and findings are."""
    folder = run_dir / "report"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def draw_report(run_dir: Path) -> None:
    """``report/curve.png`` from the run's ``metrics.csv``, where there is one."""
    with expendable(report_folder(run_dir) / "curve.png") as path:
        plot_training(run_dir / LOG, path)


class RunTimes(pl.Callback):
    """Logs the run's CPU time and clock, of all its lives, at every validation."""

    def __init__(self) -> None:
        self._cpu_before = 0.0  # of the lives before a resume
        self._clock_before = 0.0
        self._cpu_start = cpu_seconds()
        self._clock_start = time.perf_counter()

    def _times(self) -> tuple[float, float]:
        cpu = self._cpu_before + cpu_seconds() - self._cpu_start
        return cpu, self._clock_before + time.perf_counter() - self._clock_start

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            cpu, clock = self._times()
            pl_module.log_dict({"time/cpu_seconds": cpu, "time/minutes": clock / 60})

    def state_dict(self) -> dict[str, Any]:
        cpu, clock = self._times()
        return {"cpu_seconds": cpu, "clock_seconds": clock}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._cpu_before = state_dict["cpu_seconds"]
        self._clock_before = state_dict["clock_seconds"]
