"""Ending the runs of a sweep that fall behind.

Optuna's own pruners want a trial object within the run, which Hydra's sweeper does not hand on, and a grid has none.
What the finished runs logged is enough: a run that is worse than their median at the same share of a run is ended.
"""

from __future__ import annotations

import logging
import statistics
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytorch_lightning as pl

from emitter.core.errors import EmitterError, require
from emitter.training.comparison import PRUNED, find_runs, read_run
from emitter.training.module import MONITOR, EmitterModule

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PruningSettings:
    """``after_runs``: finished runs of the sweep, from which on others may be ended (None: never). ``from_share``: of a
    run, before which it is not."""

    after_runs: int | None = None
    from_share: float = 0.25

    def __post_init__(self) -> None:
        require(
            self.after_runs is None or self.after_runs >= 1,
            f"prune.after_runs is {self.after_runs}: give 1 or more finished runs, or null",
        )
        require(0 <= self.from_share <= 1, f"prune.from_share is {self.from_share}: give a share from 0 to 1")


class Pruning(pl.Callback):
    """Ends a run whose best efficiency so far is below the median of the finished runs' at the same share of a run.

    Why stands in ``pruned.txt`` in its folder then. Rank 0 reads and decides for all.
    """

    def __init__(self, settings: PruningSettings, sweep: Path, run_dir: Path) -> None:
        self.settings = settings
        self.sweep = sweep
        self.run_dir = run_dir
        self._best = float("-inf")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, EmitterModule)
        if trainer.sanity_checking or pl_module.total_steps is None:
            return
        self._best = max(self._best, float(trainer.callback_metrics[MONITOR]))
        share = trainer.global_step / pl_module.total_steps
        if self.settings.from_share <= share < 1:
            reason = self._reason(share) if trainer.is_global_zero else None
            if trainer.strategy.broadcast(reason) is not None:
                trainer.should_stop = True

    def _reason(self, share: float) -> str | None:
        """Why this run is ended, if it is; then it is written down too."""
        others = efficiencies_at(share, self.sweep)
        if self.settings.after_runs is None or len(others) < self.settings.after_runs:
            return None
        median = statistics.median(others)
        if self._best >= median:
            return None
        reason = (
            f"ended after {share:.0%} of its steps with an efficiency of {self._best:.3f}: "
            f"the median of {len(others)} finished runs was {median:.3f} there"
        )
        log.info("%s", reason)
        (self.run_dir / PRUNED).write_text(reason + "\n")
        return reason

    def state_dict(self) -> dict[str, float]:
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        self._best = state_dict["best"]


def efficiencies_at(share: float, sweep: Path) -> list[float]:
    """The best efficiency of every finished run in a folder up to a share of its steps; of those that had one."""
    try:
        runs = [read_run(folder) for folder in find_runs(sweep)]
    except EmitterError:  # none yet
        return []
    best = [_best_until(share, run.validations) for run in runs if run.status == "finished"]
    return [one for one in best if one is not None]


def _best_until(share: float, validations: pd.DataFrame) -> float | None:
    steps = validations["step"]
    until = validations[steps <= share * steps.max() + 0.5]  # validations are at whole steps
    return None if until.empty else float(until[MONITOR].max())
