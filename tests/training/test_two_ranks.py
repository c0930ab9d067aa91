"""Two gloo processes: adaptive weights and counts are the same on every rank."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from test_training import SETTINGS, bundle

from emitter.losses.weighting.gradient_norm import GradientNormSettings
from emitter.losses.weighting.inverse_loss import InverseLossSettings
from emitter.losses.weighting.log_normalized import LogNormalizedSettings
from emitter.losses.weighting.rate import RateSettings
from emitter.losses.weighting.uncertainty import UncertaintySettings
from emitter.simulation.simulator import Simulator
from emitter.training.data import EmitterData
from emitter.training.fit import Job, LoggerSettings, TrainerSettings, fit
from emitter.training.module import EmitterModule
from emitter.training.settings import BudgetSettings, OptimizerSettings, ValidationSettings


class Telling(EmitterModule):
    """Every rank writes down its weights; rank 1 is handed a NaN in step 5."""

    folder: Path

    def training_step(self, sample, batch_idx):
        if self.global_step == 5 and self.global_rank == 1:
            sample.counts_BTHW[0, 0, 0, 0] = math.nan
        return super().training_step(sample, batch_idx)

    def on_train_batch_end(self, *args):
        """At every step: before the next forward pass DDP would copy rank 0's buffers over the others'."""
        super().on_train_batch_end(*args)
        told = {
            "weights": self.objective.weighting.effective_6().tolist(),
            "parameters": [float(p.double().sum()) for p in self.parameters()],
        }
        with (self.folder / f"rank{self.global_rank}.jsonl").open("a") as file:
            file.write(json.dumps(told) + "\n")


@pytest.mark.parametrize(
    "weighting",
    [
        RateSettings(1),
        InverseLossSettings(),
        GradientNormSettings(),
        UncertaintySettings(),
        LogNormalizedSettings(),
    ],
    ids=lambda s: s.kind,
)
def test_weights_are_equal_on_every_rank_though_the_samples_differ(tmp_path, weighting):
    settings = replace(SETTINGS, weighting=weighting, epoch_steps=3, batch_size=2)
    made = bundle()
    module = Telling(made, settings)
    module.folder = tmp_path
    data = EmitterData(Simulator(made.simulation, made.psf, made.camera), 1, 2, 4)
    machine = TrainerSettings("cpu", devices=2, strategy="ddp_fork", timeout_minutes=0.5)
    job = Job("test", tmp_path, BudgetSettings(steps=25), machine, LoggerSettings(wandb="off"))
    fit(module, data, job)
    first, second = ((tmp_path / f"rank{rank}.jsonl").read_text().splitlines() for rank in (0, 1))
    assert len(first) == 25 and first == second
    assert not torch.allclose(torch.tensor(json.loads(first[-1])["weights"]), torch.ones(6))
    health = (
        pd.read_csv(tmp_path / "metrics.csv").filter(regex="^(step|health/.*)$").dropna().set_index("step")
    )
    assert health["health/inputs_nan"].sum() == health["health/inputs_nan"][5] == 1  # summed over ranks
    assert health["health/masked_images"].sum() == 1


def test_two_processes_with_half_the_batch_train_and_score_as_one(tmp_path):
    """A network that shows an emitter in every cell, so that there is something to score."""
    logs = []
    for name, machine in (("one", TrainerSettings("cpu")), ("two", TrainerSettings("cpu", 2, "ddp_fork"))):
        made = bundle()
        with torch.no_grad():
            made.network.head.out.bias[0] = 1.0
        batch = 4 // (2 if name == "two" else 1)
        settings = replace(
            SETTINGS,
            batch_size=batch,
            log_every_steps=1,
            validation=ValidationSettings(7, 2, pictures=False),
            optimizer=OptimizerSettings(learning_rate=2e-4, muon_learning_rate=1e-3, warmup_steps=3),
        )
        data = EmitterData(Simulator(made.simulation, made.psf, made.camera), 1, batch, 7)
        job = Job("test", tmp_path / name, BudgetSettings(steps=8), machine, LoggerSettings(wandb="off"))
        fit(EmitterModule(made, settings), data, job)
        logs.append(pd.read_csv(tmp_path / name / "metrics.csv"))
    one, two = logs
    for column in one.filter(regex="^train/(loss|scale|gradient_norm|learning_rate|weight)").columns:
        a, b = (log.set_index("step")[column].dropna() for log in (one, two))
        assert len(a) == 8 and b.to_numpy() == pytest.approx(a.to_numpy(), rel=2e-3, abs=1e-6), column
    scores = one.filter(regex="^val/").columns
    assert {"val/jaccard", "val/rmse_lateral_nm", "val/n_truth"} <= set(scores)
    for column in scores:  # sums over an uneven split: not the means of two ratios
        a, b = (log[column].dropna().to_numpy() for log in (one, two))
        assert b == pytest.approx(a, rel=1e-3), column
    assert one["val/n_matched"].max() > 5


def test_more_processes_than_validation_samples_are_refused_and_wait_for_nobody(tmp_path):
    made = bundle()
    data = EmitterData(Simulator(made.simulation, made.psf, made.camera), 1, 2, validation_samples=1)
    machine = TrainerSettings("cpu", devices=2, strategy="ddp_fork", timeout_minutes=0.5)
    job = Job("test", tmp_path, BudgetSettings(steps=2), machine, LoggerSettings(wandb="off"))
    with pytest.raises(Exception, match=r"validation\.samples is 1 for 2 processes: give one for each"):
        fit(EmitterModule(made, SETTINGS), data, job)
