"""Faults planted in trainings: counted to the number, masked or skipped, and the same on both of two processes."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_training import SETTINGS, bundle
from wandb_file import history

from emitter.core.channels import CHANNELS
from emitter.core.errors import EmitterError
from emitter.inference.bundle import load_bundle
from emitter.simulation.simulator import Simulator
from emitter.training.data import EmitterData
from emitter.training.fit import Job, LoggerSettings, TrainerSettings, fit
from emitter.training.module import EmitterModule
from emitter.training.schedule import learning_rate_factor
from emitter.training.settings import BudgetSettings, RecoverySettings

NAN, INF = math.nan, math.inf
# step → for each rank that is hit: (place, value)
FAULTS = {
    2: {0: ("input", NAN)},
    3: {1: ("input", INF)},
    5: {0: ("input", NAN), 1: ("input", INF)},
    6: {0: ("input", NAN), 1: ("input", NAN)},
    7: {0: ("output", INF), 1: ("output", NAN)},  # masked in the loss; what made it so is in the gradient too
    8: {1: ("loss", NAN)},
    9: {0: ("loss", INF), 1: ("loss", NAN)},
    11: {1: ("gradient", NAN)},
    12: {0: ("gradient", INF)},
    14: {1: ("reduced gradient", NAN)},  # as by a broken device: the other rank sees nothing of it
    **{
        step: {0: ("gradient", NAN)} for step in range(16, 21)
    },  # so many in a row bring the last good weights back
}
STEPS = 24
MASKED = ("input", "output")
SKIPPED = [step for step, hit in FAULTS.items() if any(place != "input" for place, _ in hit.values())]


class Faulty(EmitterModule):
    """Plants FAULTS in the first batch of a step."""

    folder: Path

    def _fault(self, place: str) -> float | None:
        hit = FAULTS.get(self.global_step, {}).get(self.global_rank)
        return hit[1] if hit is not None and hit[0] == place and self._is_first else None

    def on_train_start(self):
        def planted(gradient):
            value = self._fault("gradient")
            if value is not None:
                gradient = gradient.clone()
                gradient[2, 3] = value
            return gradient

        self.network.head.out.weight.register_hook(planted)
        read = self.network.read

        def output(estimates, height, width):
            maps = read(estimates, height, width)
            value = self._fault("output")
            return maps if value is None else [*maps[:-1], maps[-1] * _one(maps[-1], (1, 2, 3, 4), value)]

        self.network.read = output
        finest = self.objective.losses[-1]
        loss_of = finest.forward

        def loss(maps, truth, progress):
            parts_B6 = loss_of(maps, truth, progress)
            value = self._fault("loss")
            return parts_B6 if value is None else parts_B6 * _one(parts_B6, (1, 2), value)

        finest.forward = loss

    def training_step(self, sample, batch_idx):
        self._is_first = batch_idx % self.settings.accumulate_batches == 0
        value = self._fault("input")
        if value is not None:
            sample = replace(
                sample, counts_BTHW=sample.counts_BTHW * _one(sample.counts_BTHW, (1, 0, 3, 4), value)
            )
        return super().training_step(sample, batch_idx)

    def on_after_backward(self):
        value = self._fault("reduced gradient")
        if value is not None:
            self.network.head.out.bias.grad[0] = value

    def on_fit_end(self):
        torch.save(dict(self.network.state_dict()), self.folder / f"rank{self.global_rank}.pt")


def _one(like: torch.Tensor, place: tuple[int, ...], value: float) -> torch.Tensor:
    """Ones, but for one number."""
    ones = torch.ones_like(like)
    ones[place] = value
    return ones


def run(folder: Path, module: EmitterModule, machine: TrainerSettings, steps: int) -> None:
    made, settings = module.bundle, module.settings
    data = EmitterData(Simulator(made.simulation, made.psf, made.camera), 1, settings.batch_size, 4)
    fit(module, data, Job("test", folder, BudgetSettings(steps=steps), machine, LoggerSettings("offline")))


@pytest.mark.parametrize(
    ("precision", "accumulate"), [("32-true", 1), ("bf16-mixed", 2)], ids=["fp32", "bf16, two batches a step"]
)
def test_faults_on_two_ranks_are_counted_and_both_stay_the_same(tmp_path, precision, accumulate):
    settings = replace(SETTINGS, precision=precision, accumulate_batches=accumulate, batch_size=2)
    module = Faulty(bundle(), settings)
    module.folder = tmp_path
    run(tmp_path, module, TrainerSettings("cpu", 2, "ddp_fork", timeout_minutes=0.5), STEPS)

    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert all(torch.isfinite(value).all() for value in ranks[0].values())
    assert all(torch.equal(value, ranks[1][name]) for name, value in ranks[0].items())

    logged = {
        int(row["trainer/global_step"]): row
        for row in map(_numbers, history(tmp_path))
        if "health/inputs_nan" in row
    }
    assert sorted(logged) == list(range(STEPS))
    assert [row["health/restarts"] for row in history(tmp_path) if "health/restarts" in row] == [1]
    for step, row in logged.items():
        hit = list(FAULTS.get(step, {}).values())
        for kind, value in (("nan", NAN), ("inf", INF)):
            in_input = sum(place == "input" and _same(v, value) for place, v in hit)
            assert row[f"health/inputs_{kind}"] == in_input, (step, kind)
            in_loss = sum(place == "loss" and _same(v, value) for place, v in hit)
            assert row[f"health/loss_{CHANNELS[2]}_{kind}"] == in_loss, (step, kind)
            in_gradient = sum(place == "gradient" and _same(v, value) for place, v in hit)
            if not any(place in ("output", "loss", "reduced gradient") for place, _ in hit):
                assert row[f"health/gradients_{kind}"] == in_gradient, (step, kind)
            in_output = sum(place == "output" and _same(v, value) for place, v in hit)
            assert row[f"health/outputs_{kind}"] == in_output, (step, kind)
        assert row["health/masked_images"] == sum(place in MASKED for place, _ in hit)
        assert row["health/skipped_steps"] == sum(skipped <= step for skipped in SKIPPED)


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def _numbers(row: dict) -> dict:
    return {name: float(value) for name, value in row.items() if isinstance(value, (int, float))}


class Bad(EmitterModule):
    """No gradient is finite in some steps."""

    bad_steps = range(5, 1000)

    def on_after_backward(self):
        if self.global_step in self.bad_steps:
            self.network.head.out.bias.grad[0] = NAN


def test_steps_skipped_in_a_row_bring_good_weights_back_and_at_last_end_the_run(tmp_path):
    made = bundle()
    before = {name: value.clone() for name, value in made.network.state_dict().items()}
    module = Bad(made, replace(SETTINGS, recovery=RecoverySettings(skips=3, restarts=2)))
    with pytest.raises(
        EmitterError, match=r"3 steps in a row had to be skipped up to step 14, after 2 returns.*last\.ckpt"
    ):
        run(tmp_path, module, TrainerSettings("cpu"), 100)
    assert module.rate_factor == 0.25 and module.skipped_steps == 9
    last = load_bundle(tmp_path / "checkpoints" / "last.ckpt").network.state_dict()
    assert all(
        torch.equal(value, before[name]) for name, value in last.items()
    )  # there was no validation yet
    restarts = [row["health/restarts"] for row in history(tmp_path) if "health/restarts" in row]
    assert restarts == [1, 2]


def test_after_a_recovery_training_goes_on_at_half_the_learning_rate(tmp_path):
    module = Bad(
        bundle(), replace(SETTINGS, recovery=RecoverySettings(skips=3, restarts=2), log_every_steps=1)
    )
    module.bad_steps = range(5, 8)
    run(tmp_path, module, TrainerSettings("cpu"), 20)
    assert module.rate_factor == 0.5 and module.skipped_steps == 3
    rates = {
        int(row["trainer/global_step"]): row["train/learning_rate"]
        for row in history(tmp_path)
        if "train/learning_rate" in row
    }
    full = {
        step: SETTINGS.optimizer.muon_learning_rate
        * learning_rate_factor(step, 20, SETTINGS.optimizer.warmup_steps)
        for step in rates
    }
    assert rates == pytest.approx({s: full[s] * (0.5 if s >= 8 else 1.0) for s in rates})


class Blind(EmitterModule):
    """Sees nothing but NaN from step 3 on."""

    def training_step(self, sample, batch_idx):
        if self.global_step == 3:
            self.seen = {name: value.clone() for name, value in self.network.state_dict().items()}
        if self.global_step >= 3:
            sample = replace(sample, counts_BTHW=sample.counts_BTHW * NAN)
        return super().training_step(sample, batch_idx)


def test_a_step_of_which_no_image_is_left_moves_nothing(tmp_path):
    module = Blind(bundle(), replace(SETTINGS, recovery=RecoverySettings(skips=9)))
    run(tmp_path, module, TrainerSettings("cpu"), 8)
    assert module.skipped_steps == 5
    assert all(torch.equal(value, module.seen[name]) for name, value in module.network.state_dict().items())


class Struck(EmitterModule):
    """Loses a weight, as to a broken memory."""

    def on_train_batch_start(self, batch, batch_idx):
        super().on_train_batch_start(batch, batch_idx)
        if self.global_step == 5 and self.rate_factor == 1:
            self.network.head.out.bias.data[0] = NAN


def test_a_weight_that_is_not_finite_brings_the_last_good_ones_back(tmp_path):
    module = Struck(bundle(), replace(SETTINGS, recovery=RecoverySettings(skips=3)))
    run(tmp_path, module, TrainerSettings("cpu"), 12)
    assert (module.skipped_steps, module.rate_factor) == (3, 0.5)
    assert all(torch.isfinite(value).all() for value in module.network.parameters())
