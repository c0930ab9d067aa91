"""A sweep that is continued: what is over stays, what was begun goes on, what is of another sweep is refused."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_conf import composed
from tiny import TINY

from emitter.app.resume import in_sweep, is_begun
from emitter.app.schema import build
from emitter.app.train import run
from emitter.app.train_settings import Settings, save_settings
from emitter.core.errors import EmitterError
from emitter.inference.bundle import KEY
from emitter.training.module import NOTHING_FOUND

LOADED = ("checkpoints/last.ckpt", "checkpoints/best.ckpt")


def settings(folder: Path, *overrides: str) -> Settings:
    built = build(Settings, composed("train", [*TINY, *overrides]))
    return replace(built, run_dir=folder, sweep=replace(built.sweep, folder=folder.parent))


def left_behind(folder: Path, step: int, total: int = 3) -> Settings:
    """What a run leaves that reached a step."""
    (folder / "checkpoints").mkdir(parents=True)
    scores = {"ModelCheckpoint{}": {"best_model_score": torch.tensor(0.25)}}
    state = {"global_step": step, KEY: {"total_steps": total}, "callbacks": scores}
    for name in LOADED:
        torch.save(state, folder / name)
    began = settings(folder)
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
    with pytest.raises(EmitterError, match="holds a run of other settings") as caught:
        in_sweep(settings(tmp_path / "0", override))
    assert named in str(caught.value)


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
