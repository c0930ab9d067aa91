"""Runs that live more than once: resumed by their folder, or found half done by the sweep that they belong to."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from emitter.app.schema import to_plain
from emitter.app.train_settings import Settings, saved_settings
from emitter.core.errors import EmitterError
from emitter.inference.bundle import KEY, read_checkpoint
from emitter.training.checkpoints import FOLDER, last_state
from emitter.training.comparison import CONFIG, ERROR, PRUNED
from emitter.training.fit import LoggerSettings, TrainerSettings
from emitter.training.module import NOTHING_FOUND

Section = TypeVar("Section", TrainerSettings, LoggerSettings)

BEST = "best.ckpt"
# may differ from one life to the next
_OF_ONE_LIFE = ("name", "run_dir", "trainer", "logger", "sweep", "resume", "init_from")


class RefusedError(EmitterError):
    """The command does not fit what is in the folder, which stays as it is: no run has failed."""


@dataclass(frozen=True)
class Life:
    """What is to be done: train with ``settings``, from ``checkpoint`` on where there is one; nothing when the run is
    over: then ``result`` is its best efficiency."""

    settings: Settings
    checkpoint: Path | None = None
    result: float | None = None


def new(settings: Settings) -> Life:
    """A run in a folder of its own.

    Raises:
        RefusedError: when another was begun there.
    """
    if is_begun(settings.run_dir):
        raise RefusedError(
            f"'{settings.run_dir}' holds a run already: give resume={settings.run_dir} to go on with it, or another "
            "run_dir for a new one"
        )
    return Life(settings)


def resumed(settings: Settings, run_dir: Path, given: Collection[str] = ()) -> Life:
    """A run goes on where it stopped, as it began; only the machine and the logger may be given anew.

    ``given``: dotted names of the settings that the command line gives.

    Raises:
        EmitterError: when the folder is none of a run that can go on, or a given setting is not as it was there.
    """
    if not run_dir.is_dir():
        raise EmitterError(
            f"resume is '{run_dir}' and there is no such folder: give the folder of an interrupted run"
        )
    if not (run_dir / CONFIG).is_file():
        raise EmitterError(f"'{run_dir}' holds no {CONFIG}: give resume= the folder of an interrupted run")
    checkpoint, state = last_state(run_dir)
    if _is_complete(state):
        raise EmitterError(
            f"the run in '{run_dir}' is complete ({state['global_step']} steps): begin a new one"
        )
    began = saved_settings(run_dir)
    other = _first_difference(to_plain(began), to_plain(settings), given)
    if other:
        raise RefusedError(
            f"the run in '{run_dir}' goes on with the settings that it began with, and {other}: leave it out, or "
            f"begin a new run (init_from={run_dir} takes its weights)"
        )
    now = replace(
        settings,
        run_dir=run_dir,
        trainer=_given_or_kept(settings.trainer, began.trainer, "trainer", given),
        logger=_given_or_kept(settings.logger, began.logger, "logger", given),
        sweep=settings.sweep if began.sweep.folder is None else began.sweep,  # one of a sweep stays one
    )
    life = _next_life(began, now, checkpoint)
    (run_dir / ERROR).unlink(missing_ok=True)
    return life


def in_sweep(settings: Settings) -> Life:
    """A run of a sweep, of which its folder may hold the beginning, or all.

    Raises:
        RefusedError: when that is of other settings.
        EmitterError: when it failed and is not to be tried again.
    """
    folder = settings.run_dir
    error = folder / ERROR
    if not is_begun(folder):
        _stay_failed(error, settings)
        return Life(settings)
    began = saved_settings(folder)
    other = _first_difference(to_plain(began), to_plain(settings))
    if other:
        raise RefusedError(
            f"'{folder}' holds a run of other settings ({other}): give the command that this sweep was begun "
            "with, or another hydra.sweep.dir"
        )
    checkpoint, state = last_state(folder)
    if _is_complete(state) or (folder / PRUNED).is_file():
        error.unlink(missing_ok=True)  # of a command that was not this sweep's
        return Life(began, result=_best_efficiency(folder))
    _stay_failed(error, settings)
    return _next_life(began, settings, checkpoint)


def is_begun(run_dir: Path) -> bool:
    """Whether there is something to lose."""
    return any((run_dir / FOLDER).glob("*.ckpt"))


def _stay_failed(error: Path, settings: Settings) -> None:
    if error.is_file() and not settings.sweep.retry_failed:
        raise EmitterError(error.read_text().strip())
    error.unlink(missing_ok=True)


def _given_or_kept(now: Section, began: Section, where: str, given: Collection[str]) -> Section:
    """Settings as the run began, but for those that the command line gives."""
    names = (field.name for field in fields(began))
    anew = {name for name in names if any(_overlap(f"{where}.{name}", one) for one in given)}
    return replace(began, **{name: getattr(now, name) for name in anew})


def _next_life(began: Settings, settings: Settings, checkpoint: Path) -> Life:
    before, after = _n_processes(began.trainer), _n_processes(settings.trainer)
    if before and after and before != after:
        raise RefusedError(
            f"the run in '{settings.run_dir}' began with {before} processes and would go on with {after}, which would "
            f"train on samples again: give trainer.devices={began.trainer.devices} "
            f"trainer.num_nodes={began.trainer.num_nodes}"
        )
    now = {name: getattr(settings, name) for name in ("run_dir", "trainer", "logger", "sweep")}
    # what a warm start took from its checkpoint stands in this run's own by now
    init_from = None if began.init_from is None else str(checkpoint)
    return Life(replace(began, **now, init_from=init_from), checkpoint)


def _n_processes(machine: TrainerSettings) -> int | None:
    """Of the whole run; None where only the machine knows: ``auto``, -1, a list."""
    return int(machine.devices) * machine.num_nodes if str(machine.devices).isdecimal() else None


def _is_complete(state: Mapping[str, Any]) -> bool:
    return bool(state["global_step"] == state[KEY].get("total_steps"))


def _best_efficiency(run_dir: Path) -> float:
    """Of a run that is over: what stands in its best checkpoint."""
    path = run_dir / FOLDER / BEST
    states = read_checkpoint(path)["callbacks"].values() if path.is_file() else ()
    scores = [float(one["best_model_score"]) for one in states if one.get("best_model_score") is not None]
    return scores[0] if scores else NOTHING_FOUND


def _first_difference(began: Any, now: Any, given: Collection[str] | None = None, where: str = "") -> str:
    """``training.batch_size is 8 there and 16 here``, or nothing. ``given``: the only names to look at."""
    if isinstance(began, Mapping) and isinstance(now, Mapping):
        names = [name for name in {**began, **now} if where or name not in _OF_ONE_LIFE]
        found = (
            _first_difference(began.get(n), now.get(n), given, f"{where}.{n}".lstrip(".")) for n in names
        )
        return next((one for one in found if one), "")
    if began == now or not (given is None or any(_overlap(where, name) for name in given)):
        return ""
    return f"{where} is {began} there and {now} here"


def _overlap(one: str, other: str) -> bool:
    """Whether of two dotted names one is the other or a part of it."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")
