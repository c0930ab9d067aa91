"""Finished runs side by side: what differs, what came of each, and that no folder spoils the others."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from emitter.core.errors import EmitterError
from emitter.inference.bundle import KEY
from emitter.training.comparison import Run, compare, differing_settings, find_runs, group_names

SETTINGS: dict[str, Any] = {
    "name": "a",
    "run_dir": "somewhere",
    "resume": None,
    "psf": {"kind": "gaussian", "sigma_nm": 130.0},
    "training": {
        "seed": 1,
        "optimizer": {"learning_rate": 0.004},
        "channel_weights": {"p": 1.0, "y": 1.0},
        "widths": [8, 8],
    },
    "logger": {"wandb": "off"},
}


def settings(**changes: Any) -> dict[str, Any]:
    """``settings(training__seed=2)``: the settings with some changed."""
    changed = copy.deepcopy(SETTINGS)
    for name, value in changes.items():
        *path, last = name.split("__")
        node = changed
        for part in path:
            node = node[part]
        node[last] = value
    return changed


def make_run(
    folder: Path,
    given: dict[str, Any] | None = None,
    efficiency: tuple[float, ...] = (0.2, 0.6, 0.5),
    total_steps: int = 300,
    overrides: list[str] | None = None,
) -> Path:
    """A run's folder, validated every 100 steps; the last checkpoint is of the last validation."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(given or settings()))
    if overrides is not None:
        (folder / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    n = len(efficiency)
    steps = [100 * (i + 1) for i in range(n)]
    validated = pd.DataFrame(
        {
            "step": steps,
            "time/cpu_seconds": [step / 10 for step in steps],
            "val/efficiency": efficiency,
            "val/jaccard": [0.1 * (i + 1) for i in range(n)],
            "val/rmse_lateral_nm": [30.0 - i for i in range(n)],
        }
    )
    trained = pd.DataFrame({"step": [19, 39], "train/loss": [3.0, 2.0]})
    pd.concat([trained, validated]).to_csv(folder / "metrics.csv", index=False)
    (folder / "checkpoints").mkdir()
    torch.save(
        {"global_step": 100 * n, KEY: {"total_steps": total_steps}}, folder / "checkpoints" / "last.ckpt"
    )
    return folder


def run_of(given: dict[str, Any], overrides: dict[str, str] | None = None) -> Run:
    return Run(Path("a"), given, overrides, pd.DataFrame(), "failed", "")


def test_a_row_holds_the_best_validation_and_the_end(tmp_path) -> None:
    (row,) = compare([make_run(tmp_path / "0")]).table.to_dict("records")
    assert row["status"] == "finished" and row["run"] == "0"
    assert row["best_efficiency"] == 0.6 and row["best_step"] == 200
    assert row["jaccard"] == pytest.approx(0.2) and row["rmse_lateral_nm"] == 29.0
    assert row["steps"] == 300 and row["cpu_seconds"] == 30.0
    assert math.isnan(row["rmse_axial_nm"])  # of a run in 2D, say


def test_only_what_differs_is_shown_without_names_and_places(tmp_path) -> None:
    runs = [
        make_run(
            tmp_path / str(i), settings(training__optimizer__learning_rate=rate, name=f"n{i}", run_dir=f"{i}")
        )
        for i, rate in enumerate([1e-5, 2e-3])
    ]
    comparison = compare(runs)
    assert comparison.differing == ("training.optimizer.learning_rate",)
    assert list(comparison.table["training.optimizer.learning_rate"]) == ["1e-05", "0.002"]
    assert comparison.groups == ("learning_rate=1e-05", "learning_rate=0.002")


def test_seeds_are_shown_but_make_no_group(tmp_path) -> None:
    runs = [
        make_run(tmp_path / f"{seed}{p}", settings(training__seed=seed, training__channel_weights__p=p))
        for p in (1.0, 2.0)
        for seed in (1, 2, 3)
    ]
    comparison = compare(runs)
    assert set(comparison.differing) == {"training.seed", "training.channel_weights.p"}
    assert comparison.groups == ("p=1.0",) * 3 + ("p=2.0",) * 3


def test_alike_runs_are_one_group(tmp_path) -> None:
    comparison = compare([make_run(tmp_path / "a"), make_run(tmp_path / "b")])
    assert comparison.differing == () and len(set(comparison.groups)) == 1


def test_a_whole_number_is_no_other_than_the_same_with_a_point(tmp_path) -> None:
    """A run that failed has its settings as they were composed, not yet converted to the types of the program."""
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", settings(training__widths=[8.0, 8.0]))]
    assert compare(runs).differing == ()


def test_a_setting_of_another_kind_makes_no_difference_by_itself(tmp_path) -> None:
    spline = make_run(tmp_path / "spline", settings(psf={"kind": "spline", "file": "a.h5"}))
    comparison = compare([make_run(tmp_path / "a"), spline])
    assert comparison.differing == ("psf.kind",)


def test_overrides_name_what_they_explain(tmp_path) -> None:
    """A weighting changes two settings and is one choice; what it does not explain is shown beside it."""
    choices = [("balanced", 1.0), ("detection", 2.0)]
    runs = [
        make_run(
            tmp_path / name,
            settings(training__channel_weights={"p": p, "y": p / 2}),
            overrides=["budget.steps=300", f"channel_weights={name}"],
        )
        for name, p in choices
    ]
    assert compare(runs).differing == ("channel_weights",)
    assert compare(runs).groups == ("channel_weights=balanced", "channel_weights=detection")
    other = make_run(
        tmp_path / "later",
        settings(training__channel_weights={"p": 2.0, "y": 1.0}, psf__sigma_nm=150.0),
        overrides=["channel_weights=detection", "budget.steps=300"],
    )
    assert compare([*runs, other]).differing == ("channel_weights", "psf.sigma_nm")


def test_a_run_without_overrides_is_compared_by_its_settings(tmp_path) -> None:
    swept = make_run(
        tmp_path / "0", settings(training__channel_weights__p=2.0), overrides=["channel_weights=b"]
    )
    assert compare([swept, make_run(tmp_path / "alone")]).differing == ("training.channel_weights.p",)


def test_status(tmp_path) -> None:
    runs = {
        "finished": make_run(tmp_path / "a"),
        "unfinished": make_run(tmp_path / "b", total_steps=1000),
        "failed": make_run(tmp_path / "c"),
    }
    (runs["failed"] / "metrics.csv").unlink()
    assert list(compare(list(runs.values())).table["status"]) == list(runs)


def test_failed_runs_are_in_the_table_and_spoil_nothing(tmp_path) -> None:
    good, silent, empty, broken, stopped = (make_run(tmp_path / name) for name in "abcde")
    pd.DataFrame({"step": [19], "train/loss": [3.0]}).to_csv(silent / "metrics.csv", index=False)
    (empty / "metrics.csv").write_text("")
    (broken / "config.yaml").write_text("a: [1")
    (stopped / "error.txt").write_text("out of memory\n")
    table = compare([good, silent, empty, broken, stopped]).table
    assert list(table["status"]) == ["finished", "failed", "failed", "finished", "failed"]
    assert table["best_efficiency"].notna().tolist() == [True, False, False, True, True]
    assert list(table["error"]) == ["", "", "", "", "out of memory"]


def test_an_efficiency_of_a_run_that_found_nothing_is_unknown(tmp_path) -> None:
    comparison = compare([make_run(tmp_path / "a", efficiency=(-10.0, -10.0, -10.0))])
    (row,) = comparison.table.to_dict("records")
    assert row["status"] == "finished" and math.isnan(row["best_efficiency"])
    assert comparison.runs[0].course["val/efficiency"].isna().all()
    later = compare([make_run(tmp_path / "b", efficiency=(-10.0, -0.5, -10.0))]).table.iloc[0]
    assert later["best_efficiency"] == -0.5 and later["best_step"] == 200


def test_runs_are_found_in_the_order_of_their_numbers(tmp_path) -> None:
    for number in (10, 2, 0):
        inside = make_run(tmp_path / "sweep" / str(number)) / "wandb" / "files"
        inside.mkdir(parents=True)
        (inside / "config.yaml").write_text("")
    names = [run.name for run in find_runs(tmp_path)]
    assert names == ["0", "2", "10"]
    assert find_runs(tmp_path / "sweep" / "2") == [tmp_path / "sweep" / "2"]
    assert list(compare(find_runs(tmp_path)).table["run"]) == names


@pytest.mark.parametrize("folder", ["empty", "none"])
def test_a_folder_without_a_run_is_named(tmp_path, folder) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(EmitterError, match=folder):
        find_runs(tmp_path / folder)


VALUES = st.integers(0, 2)
ROWS = st.lists(st.fixed_dictionaries({"a.x": VALUES, "b.x": VALUES, "training.seed": VALUES}), min_size=1)


@given(ROWS)
def test_groups_tell_apart_what_differs_beside_the_seed(rows: list[dict[str, int]]) -> None:
    differing = differing_settings([run_of(row) for row in rows])
    names = group_names(differing)
    for one, name in zip(rows, names, strict=True):
        for other, other_name in zip(rows, names, strict=True):
            alike = (one["a.x"], one["b.x"]) == (other["a.x"], other["b.x"])
            assert alike == (name == other_name)


@given(ROWS, st.lists(st.sampled_from("pq"), min_size=1))
def test_shown_settings_determine_all(rows: list[dict[str, int]], choices: list[str]) -> None:
    """Runs that agree in everything shown agree in everything, with overrides and without."""
    for swept in (False, True):
        runs = [
            run_of(row, {"group": choices[i % len(choices)]} if swept else None) for i, row in enumerate(rows)
        ]
        shown = [tuple(row.values()) for row in differing_settings(runs)]
        for one, seen in zip(rows, shown, strict=True):
            assert all(one == other for other, also in zip(rows, shown, strict=True) if also == seen)
