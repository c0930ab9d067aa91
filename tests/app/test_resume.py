"""A sweep that is continued: what is over stays, what was begun goes on, what is of another sweep is refused."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_conf import composed
from tiny import TINY, train

from emitter.app.given import given
from emitter.app.launch import conf_dir
from emitter.app.resume import RefusedError, in_sweep, is_begun, resumed
from emitter.app.schema import build
from emitter.app.train import run
from emitter.app.train_settings import Settings, save_settings, saved_settings
from emitter.core.errors import EmitterError
from emitter.inference.bundle import KEY
from emitter.training.module import NOTHING_FOUND

LOADED = ("checkpoints/last.ckpt", "checkpoints/best.ckpt")


def settings(folder: Path, *overrides: str) -> Settings:
    built = build(Settings, composed("train", [*TINY, *overrides]))
    return replace(built, run_dir=folder, sweep=replace(built.sweep, folder=folder.parent))


def left_behind(folder: Path, step: int, *overrides: str, total: int = 3) -> Settings:
    """What a run leaves that reached a step."""
    (folder / "checkpoints").mkdir(parents=True)
    scores = {"ModelCheckpoint{}": {"best_model_score": torch.tensor(0.25)}}
    state = {"global_step": step, KEY: {"total_steps": total}, "callbacks": scores}
    for name in LOADED:
        torch.save(state, folder / name)
    began = settings(folder, *overrides)
    save_settings(began)
    return began


def test_a_run_that_is_over_is_not_begun_again(tmp_path, caplog) -> None:
    began = left_behind(tmp_path / "0", step=3)
    with caplog.at_level(logging.INFO):
        assert run(began) == 0.25
    assert "done before: best validation efficiency 0.250" in caplog.text
    (tmp_path / "0" / LOADED[1]).unlink()
    assert in_sweep(began).result == NOTHING_FOUND


def test_a_run_that_was_ended_early_is_over(tmp_path) -> None:
    began = left_behind(tmp_path / "0", step=2)
    (tmp_path / "0" / "pruned.txt").write_text("others were better\n")
    assert in_sweep(began).result == 0.25


def test_a_run_from_before_qualities_goes_on_without_them(tmp_path) -> None:
    folder = tmp_path / "0"
    folder.mkdir()
    save_settings(settings(folder))
    assert saved_settings(folder).training.teaches_quality
    config = (folder / "config.yaml").read_text().splitlines(keepends=True)
    (folder / "config.yaml").write_text("".join(line for line in config if "quality" not in line))
    assert not saved_settings(folder).training.teaches_quality


def test_a_run_that_was_interrupted_goes_on_as_it_began(tmp_path) -> None:
    left_behind(tmp_path / "0", step=2)
    life = in_sweep(settings(tmp_path / "0", "trainer.timeout_minutes=1", "name=other"))
    assert life.checkpoint == tmp_path / "0" / LOADED[0] and life.result is None
    assert life.settings.trainer.timeout_minutes == 1  # the machine may be another
    assert life.settings.name == "quickstart"


def test_a_new_run_begins(tmp_path) -> None:
    wanted = settings(tmp_path / "0")
    life = in_sweep(wanted)
    assert life.settings is wanted and life.checkpoint is None and not is_begun(tmp_path / "0")


@pytest.mark.parametrize(
    ("step", "override", "named"),
    [
        (3, "training.batch_size=4", "training.batch_size is 2 there and 4 here"),
        (2, "training.seed=2", "training.seed is 1 there and 2 here"),
        (2, "psf=gaussian", "psf.kind is astigmatic there and gaussian here"),
    ],
)
def test_a_run_of_other_settings_is_refused(tmp_path, step, override, named) -> None:
    left_behind(tmp_path / "0", step)
    with pytest.raises(RefusedError, match="holds a run of other settings") as caught:
        in_sweep(settings(tmp_path / "0", override))
    assert named in str(caught.value)


def test_another_command_in_a_sweeps_folder_is_one_sentence_and_changes_nothing(tmp_path) -> None:
    left_behind(tmp_path / "0", step=2)
    (tmp_path / "sweep.csv").write_text("run\n0\n")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    ended = train(tmp_path, "-m", "training.seed=3,2", f"hydra.sweep.dir={tmp_path}")
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1, ended.stderr
    assert "training.seed is 1 there and 3 here" in ended.stderr
    (tmp_path / "multirun.yaml").unlink()  # Hydra's record of the last command
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def of_user(folder: Path, *overrides: str) -> Settings:
    """Outside of a sweep."""
    return build(Settings, composed("train", [*overrides, f"run_dir={folder}"]))


@pytest.mark.parametrize("more", [[], ["fast_dev_run=true"]])
def test_a_new_run_in_the_folder_of_another_is_refused_and_changes_nothing(tmp_path, more) -> None:
    left_behind(tmp_path / "a", step=2)
    before = {path: path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()}
    with pytest.raises(
        EmitterError, match=r"a' holds a run already: give resume=.*a to go on.*another run_dir"
    ):
        run(of_user(tmp_path / "a", *TINY, *more))
    assert {path: path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("training.seed=99", "training.seed is 1 there and 99 here"),
        (
            "training.optimizer.learning_rate=1e-5",
            "training.optimizer.learning_rate is 0.004 there and 1e-05 here",
        ),
        ("psf=gaussian", "psf.kind is astigmatic there and gaussian here"),
        ("weighting=static", "training.weighting.kind is log_normalized there and static here"),
        ("experiment=scmos", "camera.kind is emccd there and scmos here"),
        ("simulation.frame_size_px=[32,32]", "simulation.frame_size_px is [16, 16] there and [32, 32] here"),
        ("fast_dev_run=true", "fast_dev_run is False there and True here"),
    ],
)
def test_a_resumed_run_takes_no_other_setting_from_the_command_line(tmp_path, override, named) -> None:
    left_behind(tmp_path / "a", step=2)
    overrides = ["trainer=cpu", "logger=csv", "training.batch_size=2", override]
    with pytest.raises(EmitterError, match="goes on with the settings that it began with") as caught:
        resumed(of_user(tmp_path, *overrides), tmp_path / "a", given(overrides, conf_dir()))
    assert named in str(caught.value) and "leave it out" in str(caught.value)


def test_a_resumed_run_takes_its_machine_and_its_logger_from_the_command_line(tmp_path) -> None:
    began = left_behind(tmp_path / "a", 2, "training.seed=5")
    overrides = ["trainer=cpu", "trainer.timeout_minutes=1", "logger=csv", "training.seed=5"]
    life = resumed(of_user(tmp_path, *overrides), tmp_path / "a", given(overrides, conf_dir()))
    assert life.settings.trainer.timeout_minutes == 1 and life.settings.logger.wandb == "off"
    assert life.settings.training == began.training  # the rest is only the default of the configuration


def test_a_resumed_run_keeps_the_machine_and_the_logger_that_are_not_given(tmp_path) -> None:
    left_behind(tmp_path / "a", 2, "trainer.devices=2", "trainer.timeout_minutes=3", "logger.wandb=off")
    life = resumed(
        of_user(tmp_path, "trainer.timeout_minutes=7"), tmp_path / "a", {"trainer.timeout_minutes"}
    )
    machine = life.settings.trainer
    assert (machine.devices, machine.timeout_minutes, life.settings.logger.wandb) == (2, 7, "off")


def test_what_a_command_line_gives() -> None:
    names = given(["+a.b=1", "~c", "weighting=static", "psf=gaussian", "launcher=slurm_nodes"], conf_dir())
    assert {"a.b", "c", "training.weighting", "psf"} <= names
    assert {"trainer", "trainer.devices", "trainer.num_nodes"} <= names  # which that launcher sets
    experiment = given(["experiment=scmos"], conf_dir())
    assert experiment == {"psf", "camera", "simulation", "name", "budget.default_cpu_seconds"}


def test_a_run_of_a_sweep_that_is_resumed_stays_one_of_it(tmp_path) -> None:
    left_behind(tmp_path / "0", 2, "logger.group=sweep_1", "sweep.prune.after_runs=4")
    (tmp_path / "0" / "error.txt").write_text("the node went down\n")
    life = resumed(of_user(tmp_path), tmp_path / "0")
    assert life.settings.logger.group == "sweep_1" and life.settings.sweep.folder == tmp_path
    assert life.settings.sweep.prune.after_runs == 4
    assert not (tmp_path / "0" / "error.txt").exists()  # or the table would call it failed


@pytest.mark.parametrize("go_on", [in_sweep, lambda one: resumed(one, one.run_dir, {"trainer"})])
def test_another_number_of_processes_is_refused(tmp_path, go_on) -> None:
    left_behind(tmp_path / "0", 2, "trainer.devices=2")
    with pytest.raises(
        RefusedError, match=r"began with 2 processes .* with 6.*devices=2 trainer.num_nodes=1"
    ):
        go_on(settings(tmp_path / "0", "trainer.devices=3", "trainer.num_nodes=2"))
    for same in (
        ["trainer.devices=1", "trainer.num_nodes=2"],
        ["trainer.devices=auto"],
        ["trainer.devices=-1"],
    ):
        go_on(settings(tmp_path / "0", *same))


def test_a_run_that_failed_is_tried_again_unless_others_were_chosen_by_it(tmp_path) -> None:
    (tmp_path / "0").mkdir()
    error = tmp_path / "0" / "error.txt"
    error.write_text("the node went down\n")
    with pytest.raises(EmitterError, match="the node went down"):
        in_sweep(settings(tmp_path / "0", "sweep.retry_failed=false"))
    in_sweep(settings(tmp_path / "0"))
    assert not error.exists()


def test_what_a_run_of_a_sweep_leaves(tmp_path) -> None:
    folder = tmp_path / "sweep_1" / "7"
    wanted = settings(folder, "fast_dev_run=true")
    result = run(wanted)
    kept = (folder / "config.yaml").read_text()
    assert "name: quickstart_7\n" in kept and "group: sweep_1\n" in kept
    assert run(wanted) == result  # without a training
    for name in LOADED:  # the next life has to know the best of this one
        states = torch.load(folder / name, weights_only=True)["callbacks"].values()
        assert [one["best_model_score"] for one in states if "best_model_score" in one] == [result]
