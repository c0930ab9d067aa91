"""What a run leaves behind to look at."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl

from emitter.io.files import replacing
from emitter.plots.report import Report, Section
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


PAGE = "report.html"
_PICTURES = (
    (
        "curve",
        "Judge a run by the validation (upper row): held-out frames, scored as evaluate.py does. Below, the loss of "
        "fixed samples by its parts, each over its first value. The training loss rises with the warm-up of its parts "
        "and hardly falls afterwards; it does not show how good the network is.",
    ),
    (
        "reconstruction",
        "Validation frames, what the network says they show, and the difference in standard deviations of the noise.",
    ),
    (
        "data_check",
        "What is simulated: a frame with its emitters, the photons of pixels (and of the movie, where one is given), "
        "emitters per frame, photons per emitter, background, and the signal to noise.",
    ),
)
_NO_ADVICE = "Nothing to report"
_SCORES = (
    ("efficiency 3D", "val/efficiency_3d", "{:.3f}"),
    ("efficiency lateral", "val/efficiency_lateral", "{:.3f}"),
    ("Jaccard index", "val/jaccard", "{:.3f}"),
    ("precision", "val/precision", "{:.3f}"),
    ("recall", "val/recall", "{:.3f}"),
    ("RMSE lateral (nm)", "val/rmse_lateral_nm", "{:.1f}"),
    ("RMSE axial (nm)", "val/rmse_axial_nm", "{:.1f}"),
    ("CPU time of the run (s)", "time/cpu_seconds", "{:.0f}"),
)


def draw_report(run_dir: Path) -> None:
    """``report/curve.png`` from the run's ``metrics.csv``, where there is one, and ``report/report.html`` from all that
    is in the folder."""
    folder, log_file = report_folder(run_dir), run_dir / LOG
    if log_file.is_file():
        with expendable(folder / "curve.png") as path:
            plot_training(log_file, path)
    with expendable(folder / PAGE) as path:
        path.write_text(_page(run_dir, folder).html(), encoding="utf-8")


def _page(run_dir: Path, folder: Path) -> Report:
    """The run's page, from the files that are there."""
    report = Report(f"Training {run_dir.parent.name}", f"Run {run_dir.name}")
    _add_scores(report.section("Validation"), run_dir / LOG)
    advice = folder / "diagnosis.md"
    if advice.is_file():
        section = report.section("Diagnosis")
        for line in advice.read_text(encoding="utf-8").splitlines():
            add = section.fine if line.startswith(_NO_ADVICE) else section.warning
            add(line.removeprefix("- "))
    titles = {
        "curve": "The course of the training",
        "reconstruction": "Examples",
        "data_check": "Training data",
    }
    for name, caption in _PICTURES:
        if (folder / f"{name}.png").is_file():
            report.section(titles[name]).figure(folder / f"{name}.png", caption)
    words = folder / "data_check.txt"
    if words.is_file():
        report.section("Training data in numbers").listing(words.read_text(encoding="utf-8").strip())
    return report


def _add_scores(section: Section, log_file: Path) -> None:
    """The best validation by the 3D efficiency (2D: the lateral one), and the last."""
    values = pd.read_csv(log_file) if log_file.is_file() else pd.DataFrame()
    scored = values[values["val/efficiency"].notna()] if "val/efficiency" in values else values.iloc[:0]
    if scored.empty:
        section.text("No validation yet.")
        return
    best, last = scored.iloc[int(scored["val/efficiency"].argmax())], scored.iloc[-1]
    rows = [
        (label, *(form.format(row[column]) if math.isfinite(row[column]) else "–" for row in (best, last)))
        for label, column, form in _SCORES
        if column in scored
    ]
    section.table([("step", f"{best['step']:.0f}", f"{last['step']:.0f}"), *rows], ("", "best", "last"))


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
