"""Launchers and sweepers: every choice composes, an extra that is missing is named, cores and choices are used well."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from tiny import train

from emitter.app.config_errors import sentence
from emitter.app.launch import conf_dir


def hydra_of(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("train", overrides=list(overrides), return_hydra_config=True).hydra


@pytest.mark.parametrize(
    "choice",
    [
        f"{path.parent.name}={path.stem}"
        for g in ("launcher", "sweeper")
        for path in (conf_dir() / g).iterdir()
    ],
)
def test_every_choice_composes_and_one_command_is_enough(choice) -> None:
    hydra = hydra_of(choice)
    OmegaConf.to_container(hydra.launcher, resolve=True, throw_on_missing=True)
    assert hydra.sweeper._target_.startswith(("hydra_plugins", "hydra._internal"))
    runs_here = choice in ("launcher=local", "sweeper=grid")
    assert hydra.mode is (None if runs_here else RunMode.MULTIRUN)  # without -m


@pytest.mark.parametrize(
    ("choice", "group", "plugin", "extra"),
    [
        ("launcher=slurm", "launcher", "submitit_slurm", "slurm"),
        ("launcher=slurm_nodes", "launcher", "submitit_slurm", "slurm"),
        ("launcher=slurm_local", "launcher", "submitit_local", "slurm"),
        ("launcher=joblib", "launcher", "joblib", "joblib"),
        ("sweeper=optuna", "sweeper", "optuna", "optuna"),
    ],
)
def test_a_missing_extra_is_named(monkeypatch, choice, group, plugin, extra) -> None:
    Plugins.instance()  # has every plugin put down what it has
    monkeypatch.delitem(ConfigStore.instance().repo["hydra"][group], f"{plugin}.yaml")
    with pytest.raises(HydraException) as caught:
        hydra_of(choice)
    message = sentence(caught.value, conf_dir(), "train", [choice])
    assert message.endswith(f"pip install 'emitter[{extra}]'") and "\n" not in message


@pytest.mark.parametrize("setting", ["trainer.devices", "trainer.num_nodes"])
def test_what_is_asked_of_a_cluster_is_a_number(setting) -> None:
    """``trainer=ddp`` has auto."""
    launcher = hydra_of("launcher=slurm", f"{setting}=auto").launcher
    with pytest.raises(OmegaConfBaseException) as caught:
        OmegaConf.to_container(launcher, resolve=True)
    message = sentence(caught.value, conf_dir(), "train", [])
    assert message == f"{setting} is 'auto' and as many are asked of the cluster: give a number, {setting}=4"


def test_joblib_shares_the_cores(tmp_path, monkeypatch) -> None:
    """By itself each of the two runs would take a thread for every core."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    sweep = [
        "launcher=joblib",
        "hydra.launcher.n_jobs=2",
        "training.seed=1,-1",
        f"hydra.sweep.dir={tmp_path}",
    ]
    ended = train(tmp_path, *sweep, threads=None)
    assert ended.returncode == 2 and "training.seed is -1" in ended.stderr.splitlines()[-1]
    assert list(pd.read_csv(tmp_path / "sweep.csv")["status"]) == ["finished", "failed"]
    last = torch.load(tmp_path / "0" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["callbacks"]["Budget"]["threads"] == max(1, len(os.sched_getaffinity(0)) // 2)


def optuna(folder: Path, *overrides: str):
    """A search over one good and one impossible setting."""
    search = ["training.optimizer.weight_decay=choice(-1,0.01)", "training.batch_size=2"]
    return train(folder, "sweeper=optuna", *search, f"hydra.sweep.dir={folder}", *overrides)


def test_a_search_that_is_continued_makes_the_same_choices(tmp_path) -> None:
    ended = optuna(tmp_path, "hydra.sweeper.n_trials=2")
    first = pd.read_csv(tmp_path / "sweep.csv")
    assert ended.returncode == (2 if "failed" in set(first["status"]) else 0), ended.stderr
    made = {run: (tmp_path / str(run) / "overrides.yaml").read_text() for run in first["run"]}
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/checkpoints/last.ckpt")}
    optuna(tmp_path, "hydra.sweeper.n_trials=3")
    table = pd.read_csv(tmp_path / "sweep.csv")
    assert list(table["run"]) == [0, 1, 2] and list(table["status"][:2]) == list(first["status"])
    assert {run: (tmp_path / str(run) / "overrides.yaml").read_text() for run in made} == made
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    rates = table["training.optimizer.muon_learning_rate"]
    assert rates.between(0.005, 0.08).all() and rates.nunique() == 3
    assert "training.batch_size" not in table  # fixed on the command line, and searched no more
    assert (tmp_path / "optimization_results.yaml").is_file()


def test_what_is_searched_stands_in_the_configuration() -> None:
    sweeper = hydra_of("sweeper=optuna").sweeper
    assert sweeper.direction == "maximize"  # of the 3D efficiency, which a run returns
    assert "training.optimizer.muon_learning_rate" in sweeper.params
