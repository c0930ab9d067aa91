"""Non-finite numbers are counted, masked and never stepped on."""

import math
from dataclasses import replace

import pandas as pd
import pytest
import torch
from test_training import SETTINGS, bundle, train
from torch import nn

from emitter.simulation.simulator import Simulator
from emitter.training.data import EmitterData
from emitter.training.fit import Job, LoggerSettings, TrainerSettings, fit
from emitter.training.guard import (
    COUNTS,
    count_non_finite,
    drop_non_finite_gradients,
    emptied,
    finite_images,
)
from emitter.training.module import EmitterModule
from emitter.training.settings import BudgetSettings

NAN, INF = math.nan, math.inf


def test_nan_and_inf_are_counted_apart():
    values = [torch.tensor([1.0, NAN, INF]), torch.tensor([[-INF, NAN], [NAN, 0.0]])]
    assert count_non_finite(values).tolist() == [3, 2]
    assert count_non_finite([]).tolist() == [0, 0]


def test_images_with_a_bad_number_are_emptied_in_value_and_gradient():
    frames = torch.ones(4, 3, 5, 5)
    frames[1, 2, 0, 0], frames[3, 0, 4, 4] = NAN, INF
    keep = finite_images([frames])
    assert keep.tolist() == [True, False, True, False]
    leaf = frames.clone().requires_grad_()
    emptied(leaf, keep).square().sum().backward()
    assert torch.isfinite(leaf.grad).all() and (leaf.grad[keep] == 2).all() and not leaf.grad[~keep].any()


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_one_bad_gradient_drops_all(bad):
    parameters = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(1))]
    for p in parameters[:2]:
        p.grad = torch.ones_like(p)
    counts, dropped = drop_non_finite_gradients(parameters)
    assert counts.tolist() == [0, 0] and not dropped and parameters[0].grad is not None
    parameters[1].grad[1] = bad
    counts, dropped = drop_non_finite_gradients(parameters)
    assert counts.tolist() == ([1, 0] if math.isnan(bad) else [0, 1]) and dropped
    assert all(p.grad is None for p in parameters)


class Faulty(EmitterModule):
    """Plants a fault in the third step."""

    where = ""

    def training_step(self, sample, batch_idx):
        if self.where == "inputs" and self.global_step == 2:
            counts = sample.counts_BTHW.clone()
            counts[1, 0, 3, 4], counts[2, 1, 0, 0], counts[2, 1, 0, 1] = NAN, INF, -INF
            sample = replace(sample, counts_BTHW=counts)
        return super().training_step(sample, batch_idx)

    def on_after_backward(self):
        if self.where == "gradients" and self.global_step == 2:
            self.network.head.out.weight.grad[0, 0] = NAN


def fitted(run_dir, where, settings=SETTINGS):
    made = bundle()
    module = Faulty(made, settings)
    module.where = where
    data = EmitterData(Simulator(made.simulation, made.psf, made.camera), settings.seed, 4, 4)
    job = Job("test", run_dir, BudgetSettings(steps=6), TrainerSettings("cpu"), LoggerSettings(wandb="off"))
    fit(module, data, job)
    health = pd.read_csv(run_dir / "metrics.csv").filter(regex="^(step|health/.*)$").dropna()
    return module, health.set_index("step")


def test_bad_inputs_are_masked_counted_and_the_step_is_taken(tmp_path):
    module, health = fitted(tmp_path, "inputs")
    assert health.index.tolist() == list(range(6))  # at every step
    assert health["health/inputs_nan"].tolist() == [0, 0, 1, 0, 0, 0]
    assert health["health/inputs_inf"].tolist() == [0, 0, 2, 0, 0, 0]
    assert health["health/masked_images"].tolist() == [0, 0, 2, 0, 0, 0]
    others = [name for name in COUNTS if not name.startswith("health/inputs")]
    assert (health[others] == 0).all(axis=None) and module.skipped_steps == 0
    assert all(torch.isfinite(p).all() for p in module.parameters())


def test_a_bad_gradient_skips_the_step_truly(tmp_path):
    """The weights stay as they were, momentum included: two steps before and three after make five in all."""
    module, health = fitted(tmp_path, "gradients")
    assert health["health/gradients_nan"].tolist() == [0, 0, 1, 0, 0, 0]
    assert health["health/skipped_steps"].tolist() == [0, 0, 1, 1, 1, 1]
    assert all(torch.isfinite(p).all() for p in module.parameters())
    assert float(module.optimizers().optimizer.state[module.network.head.out.weight]["step"]) == 5


def test_a_healthy_run_counts_nothing(tmp_path):
    train(tmp_path, BudgetSettings(steps=4))
    health = pd.read_csv(tmp_path / "metrics.csv").filter(regex="^health/").dropna()
    assert len(health) == 4 and len(health.columns) == len(COUNTS) + 2 and (health == 0).all(axis=None)
