"""Runs of a sweep that fall behind the median of the finished ones end, and are told from those that failed."""

from pathlib import Path

import pytest
from test_comparison import make_run
from test_training import SETTINGS, bundle

from emitter.core.errors import SettingsError
from emitter.simulation.simulator import Simulator
from emitter.training.comparison import compare, read_run
from emitter.training.data import EmitterData
from emitter.training.fit import Job, LoggerSettings, TrainerSettings, fit
from emitter.training.module import EmitterModule
from emitter.training.pruning import Pruning, PruningSettings, efficiencies_at
from emitter.training.settings import BudgetSettings


def sweep(folder: Path, *first_efficiencies: float) -> Path:
    """Finished runs of three validations, the best at the second."""
    for i, efficiency in enumerate(first_efficiencies):
        make_run(folder / str(i), efficiency=(efficiency, 0.9, 0.8))
    return folder


def test_runs_are_compared_at_the_same_share_of_their_steps(tmp_path) -> None:
    sweep(tmp_path, 0.1, 0.2)
    make_run(tmp_path / "short", efficiency=(0.4,), total_steps=100)  # complete after one validation
    make_run(tmp_path / "unfinished", efficiency=(0.7,), total_steps=300)
    make_run(tmp_path / "ended", efficiency=(0.05,), total_steps=100)
    (tmp_path / "ended" / "pruned.txt").write_text("others were better")
    assert efficiencies_at(1 / 3, tmp_path) == [0.1, 0.2]
    assert efficiencies_at(0.5, tmp_path) == [0.1, 0.2]
    assert sorted(efficiencies_at(1, tmp_path)) == [0.4, 0.9, 0.9]  # the best so far, not the last
    assert efficiencies_at(0.5, tmp_path / "nowhere") == []


def run(folder: Path, finished: Path, after_runs: int) -> float:
    made = bundle()
    data = EmitterData(Simulator(made.simulation, made.psf, made.camera), 1, 4, 4)
    pruning = Pruning(PruningSettings(after_runs, from_share=0.5), finished, folder)
    machine, budget = TrainerSettings("cpu"), BudgetSettings(steps=8)
    job = Job("test", folder, budget, machine, LoggerSettings(wandb="off"), callbacks=(pruning,))
    (folder / "config.yaml").write_text("name: test\n")
    return fit(EmitterModule(made, SETTINGS), data, job)  # validates after steps 4 and 8


@pytest.mark.parametrize(
    ("others", "after_runs", "steps"),
    [((0.1, 0.2, 0.3), 3, 4), ((0.1, 0.2), 3, 8), ((-10.0, -10.0, 0.3), 3, 8)],
    ids=["below the median", "too few finished", "not below"],
)
def test_a_run_below_the_median_ends_early(tmp_path, others, after_runs, steps) -> None:
    """Of a run that finds nothing (efficiency -10)."""
    folder = tmp_path / "run"
    folder.mkdir()
    run(folder, sweep(tmp_path / "finished", *others), after_runs)
    ended = read_run(folder)
    assert ended.validations["step"].iloc[-1] == steps
    assert ended.status == ("pruned" if steps == 4 else "finished")
    if steps == 4:
        assert "median of 3 finished runs was 0.200" in (folder / "pruned.txt").read_text()
        table = compare([folder, tmp_path / "finished" / "0"]).table
        assert list(table["status"]) == ["pruned", "finished"]


def test_a_resumed_run_remembers_its_best(tmp_path) -> None:
    first, second = (Pruning(PruningSettings(1), tmp_path, tmp_path) for _ in range(2))
    first._best = 0.5
    second.load_state_dict(first.state_dict())
    assert second._best == 0.5


@pytest.mark.parametrize("wrong", [{"after_runs": 0}, {"from_share": 1.5}])
def test_settings_out_of_range_are_named(wrong) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        PruningSettings(**wrong)
