"""The LightningModule: one training step, the validation, what a checkpoint holds.

Shape suffixes: B images, 6 channels, H rows, W columns.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from emitter.core.channels import CHANNELS
from emitter.core.decoding import Thresholds, decode
from emitter.core.emitters import Emitters
from emitter.core.table import EmitterTable
from emitter.inference.bundle import KEY, Bundle
from emitter.losses.base import Truth
from emitter.metrics.protocol import protocol_named
from emitter.metrics.scores import EmitterMetrics
from emitter.simulation.simulator import Sample
from emitter.training.guard import (
    COUNTS,
    MASKED,
    SKIPPED,
    count_non_finite,
    drop_non_finite_gradients,
    emptied,
    finite_images,
    group_norms,
)
from emitter.training.objective import Objective, Outcome
from emitter.training.optimizer import build_optimizer
from emitter.training.schedule import learning_rate_factor
from emitter.training.settings import TrainingSettings
from emitter.training.thresholds import MERGED, ONE_CELL_EACH, taken

MONITOR = "val/efficiency"
NOTHING_FOUND = -10.0


class EmitterModule(pl.LightningModule):
    """Trains the network of a bundle. Its thresholds are tuned for efficiency at every validation."""

    def __init__(self, bundle: Bundle, settings: TrainingSettings) -> None:
        super().__init__()
        self.network = bundle.network
        self.bundle = bundle
        self.settings = settings
        self.objective = Objective(settings, bundle)
        # a loss that gives every emitter one cell needs time to teach it: the validation says whether it has
        both = self.objective.finest.one_cell_each
        self.tried_thresholds = (*MERGED, *ONE_CELL_EACH) if both else MERGED
        self.thresholds = bundle.thresholds
        self.total_steps: int | None = None
        self.skipped_steps = 0
        self.dropped = False  # whether the last step was skipped
        self.rate_factor = 1.0  # of the learning rates; a recovery halves it
        self._step_before = 0  # the batch under way
        self._non_finite = 0  # numbers since they were last asked for
        self.gradient_norms: dict[str, float] = {}  # of the last logged step, input to head
        self.preset_loss = math.nan  # of the last logged step, here
        self._step_sums: Tensor | None = None
        self._gradient_counts = torch.zeros(2)
        self._kept_images = torch.zeros(())  # of the step under way, on this rank
        self.epoch_parts_6: Tensor
        self.register_buffer("epoch_parts_6", torch.zeros(len(CHANNELS)))  # sum over the epoch so far
        plain = replace(protocol_named("plain"), axial=bundle.is_3d)
        self.candidates = nn.ModuleList(EmitterMetrics(plain) for _ in self.tried_thresholds)

    def forward(self, frames_BTHW: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.network(frames_BTHW)
        return maps

    def on_fit_start(self) -> None:
        self.objective.weighting.mean_over_ranks = lambda values: (
            self._over_ranks(values) / self.trainer.world_size
        )

    @property
    def stepped(self) -> bool:
        """Whether the batch that ends was the last of its step (``accumulate_batches``)."""
        return self.global_step > self._step_before

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self._step_before = self.global_step

    def training_step(self, sample: Sample, batch_idx: int) -> Tensor:
        frames_BTHW = sample.photons_BTHW
        keep_B = finite_images([frames_BTHW])
        estimates = self.network.estimates(emptied(frames_BTHW, keep_B))
        keep_B = keep_B.repeat(sample.n_predicted)  # from here on images
        read = partial(self.network.read, height=frames_BTHW.shape[-2], width=frames_BTHW.shape[-1])
        maps = read(estimates)
        keep_B &= finite_images(maps)
        progress = self.global_step / self.total_steps if self.total_steps else 0.0

        def outcome_of(maps: list[Tensor]) -> Outcome:
            kept = [emptied(maps_k, keep_B) for maps_k in maps]
            outcome: Outcome = self.objective(kept, sample, keep_B, self.global_step, progress)
            return outcome

        with torch.autocast(self.device.type, enabled=False):
            outcome = outcome_of(maps)
            every = self.objective.weighting.norms_every_steps
            if every and self.global_step % every == 0:
                norms_6 = self.objective.channel_gradient_norms(estimates, read, outcome_of)
                self.objective.weighting.on_norms(self.objective.weighting.mean_over_ranks(norms_6))
        self._kept_images = (
            self._kept_images.to(keep_B.device) + keep_B.sum()
        )  # a GPU does not wait for it here
        places = ([frames_BTHW], maps, *([part] for part in outcome.parts_KB6.unbind(dim=2)))
        sums = torch.cat(
            [
                *(count_non_finite(tensors) for tensors in places),
                (~keep_B).sum()[None].double(),
                outcome.epoch_parts().double() / self.settings.accumulate_batches,
            ]
        )
        self._step_sums = sums if self._step_sums is None else self._step_sums + sums
        if self._is_logged_step():
            self._log_outcome(outcome, sample)
        return outcome.total

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Counts and parts of all ranks: one reduction a step, on every rank, with no condition around it."""
        if not self.stepped:
            return
        assert self._step_sums is not None
        sums, self._step_sums = self._over_ranks(self._step_sums), None
        n = len(COUNTS) - 2
        gradients_2 = self._gradient_counts  # the same on every rank
        counts = torch.cat((sums[:n], gradients_2.to(sums.device), sums[n : n + 1]))
        named = dict(zip((*COUNTS, MASKED), counts.tolist(), strict=True))
        self._non_finite += int(sum(value for name, value in named.items() if name != MASKED))
        for logger in self.trainer.loggers:
            logger.log_metrics({**named, SKIPPED: float(self.skipped_steps)}, step=self.global_step - 1)
        self.epoch_parts_6 += (sums[n + 1 :] / self.trainer.world_size).to(self.epoch_parts_6)
        if self.global_step % self.settings.epoch_steps == 0:
            self.objective.weighting.on_epoch(self.epoch_parts_6 / self.settings.epoch_steps)
            self.epoch_parts_6.zero_()

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip, unless a gradient is not finite or no image of any rank was: then nothing is stepped."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._gradient_counts, self.dropped = drop_non_finite_gradients(parameters, self._to_drop)
        self.skipped_steps += self.dropped
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def take_non_finite(self) -> int:
        """How many NaN and Inf were counted since the last call."""
        count, self._non_finite = self._non_finite, 0
        return count

    def _over_ranks(self, values: Tensor) -> Tensor:
        """Summed over ranks."""
        total = self.trainer.strategy.reduce(values, reduce_op="sum")
        assert isinstance(total, Tensor)
        return total

    def _to_drop(self, not_finite: bool) -> bool:
        """Whether the step is dropped, on every rank alike: with no image left, momentum alone would step."""
        n_here = self._kept_images
        n_not_finite, n_images = self._over_ranks(
            torch.stack((n_here.new_tensor(not_finite), n_here))
        ).tolist()
        self._kept_images = torch.zeros_like(n_here)
        return bool(n_not_finite > 0 or n_images == 0)

    def _is_logged_step(self) -> bool:
        """Lightning writes what was logged in every so-many-th step."""
        return (self.global_step + 1) % self.settings.log_every_steps == 0

    def _log_outcome(self, outcome: Outcome, sample: Sample) -> None:
        self.preset_loss = float(outcome.preset_loss)
        measured = self._mean_over_ranks({"train/loss": outcome.total, **self._parts(outcome, sample)})
        weights_6 = self.objective.weighting.effective_6()
        known: dict[str, Any] = {
            **{f"train/scale{k}/weight": weight for k, weight in enumerate(outcome.scale_weights)},
            **{f"train/weight/{name}": weights_6[i] for i, name in enumerate(CHANNELS)},
        }
        # the step is named here: Lightning's own count is one off after some resumes
        self.log_dict({"step": float(self.global_step), **measured, **known})

    def _parts(self, outcome: Outcome, sample: Sample) -> dict[str, Tensor]:
        """Where this rank's loss comes from; ``lost``: emitters that share a cell with a brighter one."""
        parts: dict[str, Tensor] = {}
        for k, parts_6 in zip(self.objective.scales, outcome.parts_KB6.mean(dim=1), strict=True):
            parts |= {f"train/scale{k}/{name}": parts_6[i] for i, name in enumerate(CHANNELS)}
            cell_px = self.network.cells_px[k]
            truth = Truth(sample.emitters, sample.background_IHW, self.bundle.scaling, cell_px)
            # a count of all ranks, where the others are means over them
            n_lost = truth.targets().n_lost * self.trainer.world_size
            parts[f"train/scale{k}/lost"] = outcome.total.new_tensor(float(n_lost))
        shares_6 = outcome.shares()
        parts |= {f"train/share/{name}": shares_6[i] for i, name in enumerate(CHANNELS)}
        if outcome.reconstruction is not None:
            parts["train/reconstruction"] = outcome.reconstruction
        return parts

    def _mean_over_ranks(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        stacked = torch.stack([value.detach().double() for value in values.values()])
        return dict(zip(values, self._over_ranks(stacked) / self.trainer.world_size, strict=True))

    def on_validation_epoch_start(self) -> None:
        for metrics in self._metrics():
            metrics.reset()

    def validation_step(self, sample: Sample, batch_idx: int) -> None:
        maps_B6HW = self(sample.photons_BTHW)[-1]
        truth = self._table(sample.emitters)
        for thresholds, metrics in zip(self.tried_thresholds, self._metrics(), strict=True):
            found = decode(maps_B6HW, self.bundle.scaling, thresholds, self.network.cells_px[-1])
            metrics.update(self._table(found), truth)

    def on_validation_epoch_end(self) -> None:
        scores = [metrics.compute() for metrics in self._metrics()]
        best = taken(self.tried_thresholds, [self.efficiency(one) for one in scores])
        self.thresholds = self.tried_thresholds[best]
        # a run that finds nothing yet has no RMSE: worse than any that has
        efficiency = max(self.efficiency(scores[best]), NOTHING_FOUND)
        self.log_dict({"step": float(self.global_step), MONITOR: efficiency}, sync_dist=False)
        logged = {name: value for name, value in scores[best].items() if math.isfinite(value)}
        self.log_dict({f"val/{name}": float(value) for name, value in logged.items()}, sync_dist=False)
        self.log_dict({f"val/threshold_{name}": value for name, value in vars(self.thresholds).items()})

    def efficiency(self, scores: dict[str, float]) -> float:
        """What a network is judged by: 3D efficiency, lateral where there is no z."""
        value = scores["efficiency_3d" if self.bundle.is_3d else "efficiency_lateral"]
        return value if math.isfinite(value) else -math.inf

    def _metrics(self) -> list[EmitterMetrics]:
        return [metrics for metrics in self.candidates if isinstance(metrics, EmitterMetrics)]

    def _table(self, emitters: Emitters) -> EmitterTable:
        return EmitterTable.from_emitters(emitters, self.bundle.pixel_size)

    def configure_optimizers(self) -> Any:
        settings = self.settings.optimizer
        optimizer = build_optimizer(
            self.network, self.network.head.out, settings, self.objective.parameters()
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: (
                self.rate_factor * learning_rate_factor(step, self.total_steps, settings.warmup_steps)
            ),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Log the gradients' norms, before the clip."""
        if self._is_logged_step():
            self.gradient_norms = group_norms(self.network)
            total = math.hypot(*self.gradient_norms.values())
            named = {f"train/gradient_norm/{group}": norm for group, norm in self.gradient_norms.items()}
            rate = optimizer.param_groups[0]["lr"]
            self.log_dict({**named, "train/gradient_norm/total": total, "train/learning_rate": rate})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[KEY] = {
            **self.bundle.state(),
            "thresholds": vars(self.thresholds),
            "total_steps": self.total_steps,
            "skipped_steps": self.skipped_steps,
            "rate_factor": self.rate_factor,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.total_steps = checkpoint[KEY]["total_steps"]
        self.skipped_steps = checkpoint[KEY]["skipped_steps"]
        self.rate_factor = checkpoint[KEY].get("rate_factor", 1.0)  # there is none in older checkpoints
        self.thresholds = Thresholds.from_state(checkpoint[KEY]["thresholds"])
