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
from emitter.plots.report import Picture, Section, page
from emitter.plots.training import plot_training
from emitter.training.cpu_time import cpu_seconds
from emitter.training.log_files import LOG

log = logging.getLogger(__name__)

PAGE = "report.html"
_NO_ADVICE = "Nothing to report"
_PICTURES = {
    "curve": (
        "The course of the training",
        "Judge a run by the validation (above): held-out frames, scored as evaluate.py does. Below, the loss of fixed "
        "samples by its parts, each over its first value. The training loss rises with the warm-up of its parts and "
        "hardly falls afterwards: it does not show how good the network is.",
    ),
    "reconstruction": (
        "Examples",
        "Validation frames, what the network says they show, and the difference.",
    ),
    "data_check": ("Training data", "What is simulated, and the movie where one is given."),
}
_SCORES = (
    ("step", "step", "{:.0f}"),
    ("efficiency 3D", "val/efficiency_3d", "{:.3f}"),
    ("efficiency lateral", "val/efficiency_lateral", "{:.3f}"),
    ("Jaccard index", "val/jaccard", "{:.3f}"),
    ("precision", "val/precision", "{:.3f}"),
    ("recall", "val/recall", "{:.3f}"),
    ("RMSE lateral (nm)", "val/rmse_lateral_nm", "{:.1f}"),
    ("RMSE axial (nm)", "val/rmse_axial_nm", "{:.1f}"),
    ("CPU time of the run (s)", "time/cpu_seconds", "{:.0f}"),
)


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
    """``report/curve.png`` from the run's ``metrics.csv``, where there is one, and ``report/report.html`` of all that
    is in the folder."""
    folder = report_folder(run_dir)
    with expendable(folder / "curve.png") as path:
        plot_training(run_dir / LOG, path)
    with expendable(folder / PAGE) as path:
        path.write_text(page(f"Training {run_dir.name}", _sections(run_dir, folder)), encoding="utf-8")


def _sections(run_dir: Path, folder: Path) -> list[Section]:
    """What the run has left, the validation first."""
    advice = folder / "diagnosis.md"
    said = advice.read_text(encoding="utf-8").splitlines() if advice.is_file() else []
    healthy = [line for line in said if line.startswith(_NO_ADVICE)]
    warnings = tuple(line.removeprefix("- ") for line in said if line.strip() and line not in healthy)
    sections = [Section("Validation", rows=_last_scores(run_dir / LOG))]
    if said:
        sections.append(Section("Diagnosis", text="\n".join(healthy), warnings=warnings))
    for name, (heading, caption) in _PICTURES.items():
        picture = folder / f"{name}.png"
        if picture.is_file():
            sections.append(Section(heading, pictures=(Picture(picture.read_bytes(), caption),)))
    words = folder / "data_check.txt"
    if words.is_file():
        sections.append(Section("Training data in numbers", words.read_text(encoding="utf-8").strip()))
    return sections


def _last_scores(log_file: Path) -> tuple[tuple[str, str], ...]:
    """Of the last validation."""
    values = pd.read_csv(log_file)
    if "val/efficiency" not in values or values["val/efficiency"].isna().all():
        return (("validations", "none yet"),)
    last = values[values["val/efficiency"].notna()].iloc[-1]
    return tuple(
        (label, form.format(last[column]) if math.isfinite(last[column]) else "–")
        for label, column, form in _SCORES
        if column in values
    )


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
