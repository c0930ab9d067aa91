"""Illnesses planted in whole runs, each expected to be diagnosed, and a healthy run that is told nothing."""

import logging
from dataclasses import replace

import pandas as pd
import torch
from test_training import SETTINGS, SIMULATION, bundle, train
from wandb_file import history

from emitter.losses.scale_warmup import ScaleWarmupSettings
from emitter.simulation.camera import Camera, CameraSettings
from emitter.simulation.simulator import Simulator
from emitter.training.data import EmitterData
from emitter.training.fit import Job, LoggerSettings, TrainerSettings, fit
from emitter.training.module import EmitterModule
from emitter.training.settings import BudgetSettings, OptimizerSettings

QUICK = replace(SETTINGS, epoch_steps=2, log_every_steps=1)


def diagnosed(tmp_path, caplog, made=None, settings=QUICK, steps=24) -> set[str]:
    """Names of the advice in the CSV log; every one stands in the report and once on the terminal."""
    with caplog.at_level(logging.WARNING):
        train(tmp_path, BudgetSettings(steps=steps), settings, made=made)
    log = pd.read_csv(tmp_path / "metrics.csv").filter(regex="^diagnosis/(?!probe_|clipped_share)")
    names = {name.removeprefix("diagnosis/") for name in log.columns}
    told = [r.getMessage() for r in caplog.records if r.getMessage().startswith("diagnosis: ")]
    assert len(told) == len(names) and len(set(told)) == len(told)
    report = (tmp_path / "report" / "diagnosis.md").read_text()
    assert all(message.removeprefix("diagnosis: ") in report for message in told)
    assert names or "Nothing to report" in report
    return names


def test_a_healthy_run_is_told_nothing(tmp_path, caplog):
    assert diagnosed(tmp_path, caplog, steps=60) == set()
    for picture in ("reconstruction.png", "data_check.png", "curve.png"):
        assert (tmp_path / "report" / picture).stat().st_size > 10_000


def test_a_learning_rate_of_nothing(tmp_path, caplog):
    optimizer = OptimizerSettings(learning_rate=1e-7, muon_learning_rate=1e-7, warmup_steps=0)
    settings = replace(QUICK, optimizer=optimizer)
    assert diagnosed(tmp_path, caplog, settings=settings) == {"plateau_learning_rate"}
    assert "muon_learning_rate" in caplog.text


def test_a_trained_network_that_stands_still_is_measured_by_an_untrained_one(tmp_path, caplog):
    made = bundle()
    train(tmp_path / "first", BudgetSettings(steps=300), made=made)  # in place, as with init_from=
    optimizer = OptimizerSettings(learning_rate=1e-7, muon_learning_rate=1e-7, warmup_steps=0)
    names = diagnosed(tmp_path / "then", caplog, made, replace(QUICK, optimizer=optimizer))
    # x is hardly learned by then, but detection is: so not plateau_learning_rate
    assert names <= {"plateau_regression"}
    probed = pd.read_csv(tmp_path / "then" / "metrics.csv")["diagnosis/probe_loss"].dropna()
    assert probed.max() < 1.01 * probed.min()  # what is logged is the trained one's


def test_a_scale_that_is_locked_is_not_called_ill(tmp_path, caplog):
    warmup = ScaleWarmupSettings("none", active_from_epoch=(0, 9))
    assert diagnosed(tmp_path, caplog, settings=replace(QUICK, scale_warmup=warmup), steps=16) == set()


def test_a_dead_head(tmp_path, caplog):
    made = bundle()
    with torch.no_grad():
        made.network.head.hidden.bias.fill_(-1e6)  # behind it a ReLU
    names = diagnosed(tmp_path, caplog, made)
    assert "vanishing_gradient" in names and names <= {"vanishing_gradient", "plateau_vanishing"}


def test_constant_frames(tmp_path, caplog):
    camera = Camera.build(CameraSettings("scmos", e_per_adu=1e6))  # every pixel rounds to 0
    assert "data_1" in diagnosed(tmp_path, caplog, replace(bundle(), camera=camera), steps=2)
    assert "constant" in caplog.text


def test_saturated_frames(tmp_path, caplog):
    camera = Camera.build(CameraSettings("scmos", baseline_adu=65530))
    assert "data_1" in diagnosed(tmp_path, caplog, replace(bundle(), camera=camera), steps=2)
    assert "saturated" in caplog.text


def test_a_foreground_of_a_hundredth_of_a_percent_with_weight_1(tmp_path, caplog):
    made = bundle(simulation=replace(SIMULATION, density_per_um2=(0.01, 0.01)))
    assert "data_1" in diagnosed(tmp_path, caplog, made, steps=2)
    assert "pos_weight" in caplog.text and "density_per_um2" in caplog.text


def test_an_exploding_loss(tmp_path, caplog):
    optimizer = OptimizerSettings(
        algorithm="adamw", learning_rate=0.9, warmup_steps=0, clip_norm=1e6, weight_decay=0
    )
    names = diagnosed(tmp_path, caplog, settings=replace(QUICK, optimizer=optimizer), steps=60)
    assert names & {"exploding_loss", "non_finite"}


def test_numbers_of_the_probe_and_of_the_data_are_logged(tmp_path):
    train(tmp_path, BudgetSettings(steps=4), QUICK)
    log = pd.read_csv(tmp_path / "metrics.csv")
    assert log["diagnosis/probe_loss"].notna().sum() == 3  # epochs 0, 1, 2
    assert log["data/foreground_share"].notna().sum() == 1


def test_everything_is_in_the_wandb_run_too(tmp_path):
    """Counts at every step, losses, norms, probe, pictures and the advice's sentences, read back from its file."""
    made = bundle(simulation=replace(SIMULATION, density_per_um2=(0.01, 0.01)))
    data = EmitterData(Simulator(made.simulation, made.psf, made.camera), 1, 4, 4)
    job = Job(
        "test", tmp_path, BudgetSettings(steps=6), TrainerSettings("cpu"), LoggerSettings(wandb="offline")
    )
    fit(EmitterModule(made, QUICK), data, job)
    rows = history(tmp_path)
    logged = {key.removesuffix("._type") for row in rows for key in row}
    csv = set(pd.read_csv(tmp_path / "metrics.csv").columns) - {"step", "epoch"}
    assert csv <= logged
    counted = [row["trainer/global_step"] for row in rows if "health/inputs_nan" in row]
    assert counted == list(range(6))
    assert {"reconstruction", "data_check", "diagnosis/advice"} <= logged
    media = {path.suffix for path in tmp_path.glob("wandb/offline-run-*/files/media/**/*.*")}
    assert media == {".png", ".json"}
    (table, *_) = tmp_path.glob("wandb/offline-run-*/files/media/table/**/*.json")
    assert "density_per_um2" in table.read_text()
