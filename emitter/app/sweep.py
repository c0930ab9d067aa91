"""The end of a sweep (``train.py -m …``): its runs in one table and one figure, and what failed, named.

Hydra calls ``Sweep`` (``hydra.callbacks`` in conf/train.yaml). By itself Hydra, at the first job that failed, would
forget the sweep's end and name no other; here a failed job is put down in its folder, the sweep goes on, and the
program ends with one sentence for each and exit code 2.

The same for any finished runs, in folders of runs or of sweeps:

    python -m emitter.app.sweep runs/quickstart/sweep_… runs/quickstart/2026-… --output comparison
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from emitter.app.launch import USER_ERRORS, end, log_handler, wants_traceback, worded
from emitter.app.ranks import is_first
from emitter.app.resume import RefusedError, is_begun
from emitter.io.files import prepare_output, replacing
from emitter.plots.comparison import Course, plot_comparison
from emitter.training.comparison import (
    CONFIG,
    ERROR,
    FAILED,
    OVERRIDES,
    PRUNED,
    Comparison,
    compare,
    find_runs,
)

log = logging.getLogger(__name__)

NAME = "sweep"  # of the table and the figure
_PROGRAM = "train"
_DECIMALS = {"nm": 1, "seconds": 0}  # by the unit at the end of a column's name; 3 for fractions
_LOGGED = ("best_efficiency", "jaccard", "rmse_lateral_nm", "rmse_axial_nm", "steps", "cpu_seconds")


class Sweep(Callback):
    """Keeps a sweep going when a job fails, and compares its runs at its end."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Before the launcher is made."""
        if "submitit" in config.hydra.launcher._target_:
            importlib.import_module("emitter.app.slurm").use_patient_launchers()

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Put down what the job is, before anything in it can fail."""
        folder = Path(config.hydra.runtime.output_dir)
        # in a folder of an earlier life stands what it began with
        if _is_in_sweep(config) and is_first() and not is_begun(folder):
            (folder / PRUNED).unlink(missing_ok=True)
            OmegaConf.save(config.hydra.overrides.task, folder / OVERRIDES)
            OmegaConf.save(_composed(config), folder / CONFIG)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Put a failure down, and give the sweeper a poor result instead of an error.

        Raises:
            SystemExit: 2, after one sentence, when the command is not that of the sweep in this folder.
        """
        if not _is_in_sweep(config) or job_return.status is not JobStatus.FAILED:
            return
        error = job_return._return_value  # return_value would raise it
        if isinstance(error, RefusedError):
            if "basic_launcher" in config.hydra.launcher._target_:
                end(_PROGRAM, error)
            return  # to Hydra, which raises it in the process that has started this job
        is_bug = not isinstance(error, USER_ERRORS)
        message = f"{type(error).__name__}: {worded(_PROGRAM, error)}" if is_bug else worded(_PROGRAM, error)
        if is_first():
            (Path(config.hydra.runtime.output_dir) / ERROR).write_text(message + "\n")
            log.error("run %s failed: %s", config.hydra.job.num, message)
            if is_bug or wants_traceback():
                traceback.print_exception(error)
        job_return.status = JobStatus.COMPLETED
        job_return.return_value = FAILED

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Compare the runs; end the program with an error when one of them failed.

        Raises:
            SystemExit: 2, after one sentence for each run that failed.
        """
        if not is_first():
            return
        folder = Path(config.hydra.sweep.dir)
        try:
            comparison = compare_into(folder, [folder])
        except USER_ERRORS as error:
            end(_PROGRAM, error)
        failed = [
            f"error: run {run.folder.name} ({group}): {run.error}\n"
            for run, group in zip(comparison.runs, comparison.groups, strict=True)
            if run.error
        ]
        if failed:
            sys.stderr.writelines(failed)
            sys.exit(2)


def compare_into(output: Path, folders: Sequence[Path]) -> Comparison:
    """``sweep.csv``, ``sweep.md`` and ``sweep.png`` of all runs in some folders, and the table on the terminal.

    Raises:
        EmitterError: a folder without a run, or an output that cannot be written.
    """
    runs = dict.fromkeys(run for folder in folders for run in find_runs(folder))  # each once
    comparison = compare(list(runs))
    table = readable(comparison.table)
    csv, md, png = (prepare_output(output / f"{NAME}.{ending}") for ending in ("csv", "md", "png"))
    with replacing(csv) as path:
        comparison.table.to_csv(path, index=False)
    with replacing(md) as path:
        path.write_text(f"{markdown(table)}\n\n![the runs over each other]({png.name})\n")
    courses = [
        Course(group, run.course, "" if run.status == "finished" else f"{name} {run.status}")
        for run, name, group in zip(comparison.runs, comparison.table["run"], comparison.groups, strict=True)
    ]
    with replacing(png) as path:
        plot_comparison(courses, path)
    logged = table[["run", "status", *comparison.differing, *_LOGGED]]
    log.info("%s", logged.to_string(index=False))
    efficiency = comparison.table["best_efficiency"]
    if efficiency.notna().any():
        best = int(efficiency.argmax())
        log.info("best: run %s (%s)", comparison.table["run"].iloc[best], comparison.groups[best])
    log.info("compared %d runs: %s, %s and %s", len(runs), csv, md.name, png.name)
    return comparison


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The table as text: figures with the decimals that matter, what is unknown as a dash, no empty ``error``."""
    text = pd.DataFrame(
        {name: [_number(value, name) for value in table[name]] for name in table.columns}, dtype=str
    )
    return text if table["error"].any() else text.drop(columns="error")


def _number(value: Any, column: str) -> str:
    if pd.isna(value) or value == "":
        return "–"
    if isinstance(value, float):
        return f"{value:.{_DECIMALS.get(column.rpartition('_')[2], 3)}f}"
    return str(value)


def markdown(text: pd.DataFrame) -> str:
    """A table of text in markdown."""
    rows = [list(text.columns), ["---"] * len(text.columns), *text.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def _is_in_sweep(config: DictConfig) -> bool:
    return config.hydra.mode is RunMode.MULTIRUN


def _composed(config: DictConfig) -> Any:
    """The program's own settings, without Hydra's; as they stand where they cannot be resolved."""
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    try:
        return OmegaConf.create(OmegaConf.to_container(own, resolve=True))
    except OmegaConfBaseException:
        return own


def main() -> None:
    """Compare the runs of the folders on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m emitter.app.sweep", description="Compare finished runs: a table and a figure."
    )
    parser.add_argument("folders", nargs="+", type=Path, help="of runs or of sweeps")
    parser.add_argument("--output", type=Path, help="folder of sweep.csv, sweep.md, sweep.png; the first one")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[log_handler()])
    try:
        compare_into(arguments.output or arguments.folders[0], arguments.folders)
    except USER_ERRORS as error:
        end(_PROGRAM, error)


if __name__ == "__main__":
    main()
