"""Finished runs side by side: what differs in their settings, and what came of it.

    comparison = compare(find_runs(Path("runs/quickstart/sweep_…")))
    comparison.table  # one row a run

A run is a folder with ``config.yaml``. Which settings differ is found from these files; where a sweep left each
run's ``overrides.yaml`` (the settings as the user gave them: ``channel_weights=balanced``), these names are used.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from emitter.core.errors import EmitterError
from emitter.inference.bundle import KEY, read_checkpoint
from emitter.training.log_files import LOG
from emitter.training.module import MONITOR, NOTHING_FOUND

CONFIG = "config.yaml"
OVERRIDES = "overrides.yaml"  # of one run of a sweep: a list of name=value
ERROR = "error.txt"  # of a run that failed: its sentence
PRUNED = "pruned.txt"  # of a run that was ended because others were better: the same
FAILED = NOTHING_FOUND - 1  # what a failed run is worth to a sweeper: less than one that found no emitter
SEED = "training.seed"
FIGURES = (
    "jaccard",
    "precision",
    "recall",
    "rmse_lateral_nm",
    "rmse_axial_nm",
    "efficiency_3d",
    "efficiency_lateral",
    "efficiency_axial",
)
# say nothing of how a run was trained
_NOISE = ("name", "run_dir", "resume", "logger", "launcher", "sweeper", "sweep")


@dataclass(frozen=True)
class Run:
    """What a run's folder holds: ``settings`` by dotted name, ``log`` from its ``metrics.csv`` (empty without one)."""

    folder: Path
    settings: dict[str, Any]
    overrides: dict[str, str] | None
    log: pd.DataFrame
    status: str  # finished, failed, pruned or unfinished
    error: str

    @property
    def validations(self) -> pd.DataFrame:
        """The rows of the log in which the run was validated."""
        return _validations(self.log)

    @property
    def course(self) -> pd.DataFrame:
        """The log, its efficiency unknown where no emitter was found: to be drawn."""
        efficiency = self.log.get(MONITOR, pd.Series(dtype=float))
        return self.log.assign(**{MONITOR: efficiency.where(efficiency > NOTHING_FOUND)})


@dataclass(frozen=True)
class Comparison:
    """``table`` has one row a run (see ``compare``), ``differing`` names its columns of settings, and ``groups[i]``
    says in what run ``i`` differs from others than by its seed."""

    runs: tuple[Run, ...]
    table: pd.DataFrame
    differing: tuple[str, ...]
    groups: tuple[str, ...]


def find_runs(folder: Path) -> list[Path]:
    """The runs in a folder, which may be one itself, in their order.

    Raises:
        EmitterError: when there is none.
    """
    found = _runs_below(folder) if folder.is_dir() else []
    if not found:
        raise EmitterError(f"'{folder}' holds no {CONFIG} of a run: give the folder of a run or of a sweep")
    return found


def _runs_below(folder: Path) -> list[Path]:
    if (folder / CONFIG).is_file():  # and not further: the W&B run has a file of that name too
        return [folder]
    below = sorted((one for one in folder.iterdir() if one.is_dir()), key=_natural)
    return [run for one in below for run in _runs_below(one)]


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sorts 2 before 10."""
    return [(int(digits or 0), text) for digits, text in re.findall(r"(\d+)|(\D+)", path.name)]


def read_run(folder: Path) -> Run:
    """A run from its folder. What cannot be read counts as not there: the others are not lost for it."""
    try:
        settings = _dotted(yaml.safe_load((folder / CONFIG).read_text()))
    except (OSError, yaml.YAMLError):
        settings = {}
    overrides = None
    if (folder / OVERRIDES).is_file():
        pairs = [str(one).partition("=") for one in yaml.safe_load((folder / OVERRIDES).read_text()) or []]
        overrides = {name.lstrip("+"): value for name, _, value in pairs}
    try:
        log = pd.read_csv(folder / LOG)
    except (OSError, ValueError):  # absent, or empty
        log = pd.DataFrame()
    error = (folder / ERROR).read_text().strip() if (folder / ERROR).is_file() else ""
    return Run(folder, settings, overrides, log, _status(folder, log, error), error)


def _validations(log: pd.DataFrame) -> pd.DataFrame:
    return log[log[MONITOR].notna()] if MONITOR in log else pd.DataFrame()


def _status(folder: Path, log: pd.DataFrame, error: str) -> str:
    """Finished: the last checkpoint is of the last step. Failed: there is an error, or never was a validation."""
    if error or _validations(log).empty:
        return "failed"
    if (folder / PRUNED).is_file():
        return "pruned"
    try:
        last = read_checkpoint(folder / "checkpoints" / "last.ckpt")
    except EmitterError:
        return "unfinished"
    complete = last["global_step"] == last[KEY].get("total_steps")
    return "finished" if complete else "unfinished"


def _dotted(node: Any, prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": [1, 2]}}`` → ``{"a.b": (1, 2)}``: values by dotted name, and such that they can be compared."""
    if isinstance(node, Mapping):
        parts = [_dotted(value, f"{prefix}.{name}" if prefix else str(name)) for name, value in node.items()]
        return {name: value for part in parts for name, value in part.items()}
    return {prefix: _hashable(node)} if prefix else {}


def _hashable(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_hashable(one) for one in value)
    return str(value) if isinstance(value, Mapping) else value


def differing_settings(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Of each run the settings in which the runs differ, by name, the same names in the same order for all.

    First the overrides that differ, when every run has its overrides; then the settings that still differ between
    runs of the same overrides. A setting that a run does not have (another kind of PSF has other ones) is None
    there and makes no difference by itself.
    """
    rows: list[dict[str, Any]] = [{} for _ in runs]
    if all(run.overrides is not None for run in runs):
        given = [_telling(run.overrides or {}) for run in runs]
        for name in _names(given):
            if len({one.get(name) for one in given}) > 1:
                for row, one in zip(rows, given, strict=True):
                    row[name] = one.get(name)
    alike = [tuple(row.values()) for row in rows]
    settings = [_telling(run.settings) for run in runs]
    for name in _names(settings):
        known = {(key, one[name]) for key, one in zip(alike, settings, strict=True) if name in one}
        if name not in rows[0] and len(known) > len({key for key, _ in known}):
            for row, one in zip(rows, settings, strict=True):
                row[name] = one.get(name)
    return rows


def _telling(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name.partition(".")[0] not in _NOISE}


def _names(mappings: Sequence[Mapping[str, Any]]) -> list[str]:
    """All names, each once, in their order."""
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))


def group_names(differing: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each run is, in as few of the differing settings as tell apart all runs that differ in more than the seed.

    >>> group_names([{"loss.alpha": 1, "loss.beta": 1}, {"loss.alpha": 2, "loss.beta": 4}])
    ['alpha=1', 'alpha=2']
    """
    rows = [{name: value for name, value in row.items() if name != SEED} for row in differing]
    chosen: list[str] = []

    def parted(names: Sequence[str]) -> int:
        return len({tuple(row[name] for name in names) for row in rows})

    for name in rows[0] if rows else ():
        if parted([*chosen, name]) > parted(chosen):
            chosen.append(name)
    for name in list(chosen):  # an early one may be needed no more
        rest = [one for one in chosen if one != name]
        if parted(rest) == parted(chosen):
            chosen = rest
    short = {name: _shortest(name, chosen) for name in chosen}
    return [", ".join(f"{short[name]}={written(row[name])}" for name in chosen) or "all" for row in rows]


def _shortest(name: str, among: Sequence[str]) -> str:
    """The end of a dotted name that no other has."""
    parts = name.split(".")
    ends = [".".join(parts[i:]) for i in range(len(parts) - 1, -1, -1)]
    others = [one for one in among if one != name]
    return next((end for end in ends if not any(f".{one}".endswith(f".{end}") for one in others)), name)


def written(value: Any) -> str:
    """A setting as a user writes it; nothing for one that is not there."""
    if isinstance(value, tuple):
        return f"[{','.join(written(one) for one in value)}]"
    return "" if value is None else str(value)


def compare(folders: Sequence[Path]) -> Comparison:
    """The table of some runs, one row each, in the order given.

    Columns: ``run`` (its folder below the one that all are in: the number, in a sweep), ``status``, the settings that
    differ, ``best_efficiency`` and ``best_step`` (of the best validation; unknown where no emitter was ever found),
    the ``FIGURES`` of that validation (fractions and nm), ``steps`` and ``cpu_seconds`` of the whole run (to its last
    validation), and ``error``, the sentence of a run that failed.
    """
    runs = tuple(read_run(folder) for folder in folders)
    differing = differing_settings(runs)
    inside = os.path.commonpath([run.folder.resolve().parent for run in runs])
    rows = []
    for run, settings in zip(runs, differing, strict=True):
        name = run.folder.resolve().relative_to(inside).as_posix()
        shown = {setting: written(value) for setting, value in settings.items()}
        rows.append({"run": name, "status": run.status, **shown, **_outcome(run), "error": run.error})
    table = pd.DataFrame(rows).astype({"best_step": "Int64", "steps": "Int64"})
    return Comparison(runs, table, tuple(differing[0]), tuple(group_names(differing)))


def _outcome(run: Run) -> dict[str, Any]:
    """What came of a run, NaN where it is unknown."""
    names = ("best_efficiency", "best_step", *FIGURES, "steps", "cpu_seconds")
    validations = run.validations
    if validations.empty:
        return dict.fromkeys(names, float("nan"))
    best = validations.iloc[validations[MONITOR].argmax()]
    last = validations.iloc[-1]
    figures = {name: best.get(f"val/{name}", float("nan")) for name in FIGURES}
    return {
        "best_efficiency": best[MONITOR] if best[MONITOR] > NOTHING_FOUND else float("nan"),
        "best_step": best["step"],
        **figures,
        "steps": last["step"],
        "cpu_seconds": last.get("time/cpu_seconds", float("nan")),
    }
