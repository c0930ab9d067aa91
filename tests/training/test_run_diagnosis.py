"""Illnesses planted in whole runs, each expected to be diagnosed, and a healthy run that is told nothing."""

import logging
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from test_training import SETTINGS, SIMULATION, bundle, train
from torch.nn import functional as F
from wandb_file import history

from emitter.core import channels as ch
from emitter.core.encoding import encode
from emitter.core.errors import SettingsError
from emitter.losses.detection.overlap import DiceSettings
from emitter.losses.ppxyzb import PPXYZBSettings
from emitter.losses.scale_warmup import ScaleWarmupSettings
from emitter.losses.set_matching import SetMatchingSettings
from emitter.losses.weighting.log_normalized import LogNormalizedSettings
from emitter.losses.weighting.static import StaticSettings
from emitter.models.network import EmitterNetwork
from emitter.psf.gaussian import GaussianSettings
from emitter.simulation.camera import Camera, CameraSettings
from emitter.simulation.simulator import Simulator
from emitter.training.data import EmitterData
from emitter.training.fit import Job, LoggerSettings, TrainerSettings, fit
from emitter.training.module import EmitterModule
from emitter.training.run_diagnosis import RunDiagnosis, probe_parts
from emitter.training.settings import BudgetSettings, OptimizerSettings, ValidationSettings

QUICK = replace(SETTINGS, epoch_steps=2, log_every_steps=1)
WITH_PICTURES = replace(QUICK, validation=ValidationSettings(4, 1))
HARDLY_MOVES = OptimizerSettings(learning_rate=1e-7, muon_learning_rate=1e-7, warmup_steps=0)
WEIGHTINGS = pytest.mark.parametrize(
    "weighting", [StaticSettings(), LogNormalizedSettings()], ids=lambda s: s.kind
)


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


@WEIGHTINGS
def test_a_healthy_run_is_told_nothing(tmp_path, caplog, weighting):
    assert (
        diagnosed(tmp_path, caplog, settings=replace(WITH_PICTURES, weighting=weighting), steps=60) == set()
    )
    for picture in ("reconstruction.png", "data_check.png", "curve.png"):
        assert (tmp_path / "report" / picture).stat().st_size > 10_000


@WEIGHTINGS
@pytest.mark.parametrize("seed", [2, 3])
def test_a_learning_rate_of_nothing(tmp_path, caplog, weighting, seed):
    settings = replace(QUICK, optimizer=HARDLY_MOVES, weighting=weighting, seed=seed)
    assert diagnosed(tmp_path, caplog, settings=settings) == {"plateau_learning_rate"}
    assert "muon_learning_rate and training.optimizer.learning_rate ×5" in caplog.text
    assert "a third" not in caplog.text


@pytest.mark.parametrize("seed", range(8))
def test_a_network_that_hardly_moves_wants_a_higher_rate_whatever_it_began_as(tmp_path, seed):
    """The epochs alone, of many networks: none may be measured by another one's luck."""
    made = bundle()
    torch.manual_seed(seed)
    network = EmitterNetwork(made.network.settings, made.network.n_frames, made.network.input_scaling)
    module = EmitterModule(replace(made, network=network), replace(QUICK, seed=seed))
    sentences = [sentence for _, _, sentence in epochs_of(module, tmp_path)]
    assert len(sentences) == 1 and "×5" in sentences[0] and "a third" not in sentences[0]


def epochs_of(module, run_dir, n=12) -> list[tuple[int, str, str]]:
    """The advice after ``n`` epochs in which the weights move by 1e-7."""
    made = module.bundle
    diagnosis = RunDiagnosis(Simulator(made.simulation, made.psf, made.camera), module, run_dir)
    diagnosis._probe = diagnosis.simulator.sample(module.settings.seed, torch.arange(4))
    for epoch in range(n):
        diagnosis._epoch(SimpleNamespace(loggers=[], global_step=2 * epoch), module, epoch)
        with torch.no_grad():
            for parameter in module.network.parameters():
                parameter += 1e-7 * torch.randn_like(parameter)
    return diagnosis._advice


def test_where_there_is_no_z_it_is_no_part_of_the_probe_loss(tmp_path):
    flat = replace(SIMULATION, z_range_nm=(0.0, 0.0), n_frames=1, lifetime_frames=None)
    module = EmitterModule(bundle(GaussianSettings(130), flat), QUICK)
    with torch.no_grad():
        module.network.head.out.bias[ch.Z] = 100.0  # as if it had drifted
    diagnosis = RunDiagnosis(Simulator(flat, module.bundle.psf, module.bundle.camera), module, tmp_path)
    diagnosis._probe = diagnosis.simulator.sample(1, torch.arange(4))
    parts_6 = probe_parts(module, module.network, diagnosis._probe)
    logged = {}
    logger = SimpleNamespace(log_metrics=lambda numbers, step: logged.update(numbers))
    diagnosis._epoch(SimpleNamespace(loggers=[logger], global_step=0), module, 0)
    assert parts_6[ch.Z] > 100
    assert logged["diagnosis/probe_loss"] == pytest.approx(float(parts_6.sum() - parts_6[ch.Z]), rel=1e-5)
    assert "z" not in diagnosis.diagnosis.state_dict()["first_parts"]


def test_a_probability_is_judged_by_what_is_there_and_not_by_a_quality(tmp_path):
    module = EmitterModule(bundle(), QUICK)
    assert QUICK.teaches_quality
    sample = Simulator(SIMULATION, module.bundle.psf, module.bundle.camera).sample(1, torch.arange(4))
    with torch.no_grad():
        maps = module.network(sample.photons_BTHW)
    expected = 0.0
    for logits, cell_px, weight in zip(maps, (2.0, 1.0), module.objective.final_weights(), strict=True):
        there = encode(sample.emitters, sample.background_IHW, module.bundle.scaling, cell_px).maps_B6HW
        expected += weight * F.binary_cross_entropy_with_logits(
            logits[:, ch.P], there[:, ch.P], reduction="sum"
        )
    part = probe_parts(module, module.network, sample)[ch.P]
    assert float(part) == pytest.approx(float(expected) / 4, rel=1e-5)


def test_a_trained_network_that_stands_still_is_measured_by_an_untrained_one(tmp_path, caplog):
    made, plain = bundle(), PPXYZBSettings(quality_px=None, regression="mse")  # detection is learned first
    first = replace(SETTINGS, loss=plain)
    train(tmp_path / "first", BudgetSettings(steps=300), first, made=made)  # in place, as with init_from=
    names = diagnosed(tmp_path / "then", caplog, made, replace(QUICK, loss=plain, optimizer=HARDLY_MOVES))
    # x is hardly learned by then, but detection is: measured by itself all six would stand at 100 %
    assert names <= {"plateau_regression", "plateau_learning_rate"}
    assert "p_logit" not in caplog.text and "photons" not in caplog.text and "a third" not in caplog.text
    probed = pd.read_csv(tmp_path / "then" / "metrics.csv")["diagnosis/probe_loss"].dropna()
    assert probed.max() < 1.01 * probed.min()  # what is logged is the trained one's


def test_a_scale_that_is_locked_is_not_called_ill(tmp_path, caplog):
    warmup = ScaleWarmupSettings("none", active_from_epoch=(0, 7))
    assert diagnosed(tmp_path, caplog, settings=replace(QUICK, scale_warmup=warmup), steps=16) == set()


def test_a_scale_that_never_becomes_active_is_told_of(tmp_path, caplog):
    warmup = ScaleWarmupSettings("none", active_from_epoch=(100, 0))
    names = diagnosed(tmp_path, caplog, settings=replace(QUICK, scale_warmup=warmup), steps=8)
    assert names == {"scale_never_active"}
    assert "scale 0 would become active at epoch 100 and the run ends at epoch 4: give" in caplog.text


def test_a_finest_scale_that_never_becomes_active_is_an_error_before_the_first_step(tmp_path):
    warmup = ScaleWarmupSettings("none", active_from_epoch=(0, 8))
    settings = replace(QUICK, scale_warmup=warmup)
    with pytest.raises(SettingsError, match=r"the finest scale 1 .* epoch 8 and the run ends at epoch 8"):
        train(tmp_path, BudgetSettings(steps=16), settings)
    assert not (tmp_path / "checkpoints").exists()


def test_a_dead_head(tmp_path, caplog):
    made = bundle()
    with torch.no_grad():
        made.network.head.hidden.bias.fill_(-1e6)  # behind it a ReLU
    names = diagnosed(tmp_path, caplog, made)
    assert "vanishing_gradient" in names and names <= {"vanishing_gradient", "plateau_vanishing"}


def test_constant_frames(tmp_path, caplog):
    camera = Camera.build(CameraSettings("scmos", e_per_adu=1e6))  # every pixel rounds to 0
    assert diagnosed(tmp_path, caplog, replace(bundle(), camera=camera), steps=2) == {"data_constant"}
    assert "constant" in caplog.text


def test_saturated_frames(tmp_path, caplog):
    camera = Camera.build(CameraSettings("scmos", baseline_adu=65530))
    assert diagnosed(tmp_path, caplog, replace(bundle(), camera=camera), steps=2) == {"data_saturated"}
    assert "saturated" in caplog.text


def test_a_foreground_of_a_hundredth_of_a_percent_with_weight_1(tmp_path, caplog):
    made = bundle(simulation=replace(SIMULATION, density_per_um2=(0.01, 0.01)))
    assert diagnosed(tmp_path, caplog, made, steps=2) == {"data_empty"}
    assert "pos_weight" in caplog.text and "density_per_um2" in caplog.text


def test_dice_is_said_to_weigh_no_cells_and_so_are_losses_that_detect_in_their_own_way(tmp_path):
    for name, settings in (
        ("dice", replace(QUICK, detection=DiceSettings())),
        ("matching", replace(QUICK, loss=SetMatchingSettings())),
    ):
        train(tmp_path / name, BudgetSettings(steps=2), settings)
        assert "does not weigh cells" in (tmp_path / name / "report" / "data_check.txt").read_text()
        assert "data/foreground_weight" not in pd.read_csv(tmp_path / name / "metrics.csv")


@WEIGHTINGS
@pytest.mark.parametrize("epoch_steps", [2, 1000])  # seen by the probe samples, and by the steps alone
def test_an_exploding_loss(tmp_path, caplog, weighting, epoch_steps):
    optimizer = OptimizerSettings(
        algorithm="adamw", learning_rate=0.9, warmup_steps=0, clip_norm=1e6, weight_decay=0
    )
    loss = PPXYZBSettings(
        regression="mse"
    )  # smooth_l1 grows too slowly: the network is dead before it explodes
    settings = replace(QUICK, loss=loss, optimizer=optimizer, weighting=weighting, epoch_steps=epoch_steps)
    assert diagnosed(tmp_path, caplog, settings=settings, steps=30) == {"exploding_loss"}


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
    fit(EmitterModule(made, WITH_PICTURES), data, job)
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
