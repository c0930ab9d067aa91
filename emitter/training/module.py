"""The LightningModule: one training step, the validation, what a checkpoint holds.

Shape suffixes: B images, 6 channels, H rows, W columns.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from emitter.core.channels import CHANNELS
from emitter.core.decoding import Thresholds, decode
from emitter.core.emitters import Emitters
from emitter.core.encoding import encode
from emitter.core.table import EmitterTable
from emitter.inference.bundle import KEY, Bundle
from emitter.losses.ppxyzb import ppxyzb
from emitter.losses.scale_warmup import scale_weights
from emitter.metrics.protocol import protocol_named
from emitter.metrics.scores import EmitterMetrics
from emitter.simulation.simulator import Sample
from emitter.training.optimizer import build_optimizer
from emitter.training.schedule import learning_rate_factor
from emitter.training.settings import TrainingSettings

MONITOR = "val/efficiency"
NOTHING_FOUND = -10.0
LOG_EVERY_STEPS = 20
_CANDIDATES = [
    Thresholds(mass, neighbour)
    for mass, neighbour in itertools.product((0.3, 0.4, 0.5, 0.6, 0.7), (0.6, 0.8))
]


class EmitterModule(pl.LightningModule):
    """Trains the network of a bundle. Its thresholds are tuned for efficiency at every validation."""

    def __init__(self, bundle: Bundle, settings: TrainingSettings) -> None:
        super().__init__()
        self.network = bundle.network
        self.bundle = bundle
        self.settings = settings
        self.thresholds = bundle.thresholds
        self.total_steps: int | None = None
        self.channel_weights: Tensor
        weights_6 = torch.tensor(settings.channel_weights.per_channel())
        self.register_buffer("channel_weights", weights_6, persistent=False)
        plain = replace(protocol_named("plain"), axial=bundle.is_3d)
        self.candidates = nn.ModuleList(EmitterMetrics(plain) for _ in _CANDIDATES)

    def forward(self, frames_BTHW: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.network(frames_BTHW)
        return maps

    def training_step(self, sample: Sample, batch_idx: int) -> Tensor:
        settings = self.settings
        maps = self(sample.photons_BTHW)
        weights = scale_weights(settings.scale_warmup, self.global_step, len(maps))
        log = self._is_logged_step()
        total = maps[-1].new_zeros(())
        for k, (maps_k, cell, weight) in enumerate(zip(maps, self.network.cells_px, weights, strict=True)):
            targets = encode(
                sample.emitters, sample.background_BHW, self.bundle.scaling, cell, settings.loss.region_cells
            )
            with torch.autocast(self.device.type, enabled=False):
                parts_6 = ppxyzb(maps_k, targets, settings.loss).mean(dim=0)
                total = total + weight * (parts_6 * self.channel_weights).sum()
            if log:
                self._log_scale(k, parts_6.detach(), weight, targets.n_lost)
        if log:
            # named here: Lightning's own count is one off after some resumes
            self.log_dict({"step": float(self.global_step), "train/loss": total.detach()})
        return total

    def _is_logged_step(self) -> bool:
        """Lightning writes what was logged in every LOG_EVERY_STEPS-th step."""
        return (self.global_step + 1) % LOG_EVERY_STEPS == 0

    def _log_scale(self, scale: int, parts_6: Tensor, weight: float, n_lost: int) -> None:
        parts = {f"train/scale{scale}/{name}": parts_6[i] for i, name in enumerate(CHANNELS)}
        self.log_dict(
            {**parts, f"train/scale{scale}/weight": weight, f"train/scale{scale}/lost": float(n_lost)}
        )

    def on_validation_epoch_start(self) -> None:
        for metrics in self._metrics():
            metrics.reset()

    def validation_step(self, sample: Sample, batch_idx: int) -> None:
        maps_B6HW = self(sample.photons_BTHW)[-1]
        truth = self._table(sample.emitters)
        for thresholds, metrics in zip(_CANDIDATES, self._metrics(), strict=True):
            found = decode(maps_B6HW, self.bundle.scaling, thresholds, self.network.cells_px[-1])
            metrics.update(self._table(found), truth)

    def on_validation_epoch_end(self) -> None:
        scores = [metrics.compute() for metrics in self._metrics()]
        best = max(range(len(scores)), key=lambda i: self.efficiency(scores[i]))
        self.thresholds = _CANDIDATES[best]
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
        optimizer = build_optimizer(self.network, self.network.head.out, settings)
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, self.total_steps, settings.warmup_steps)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if self._is_logged_step():
            norms = torch.stack([p.grad.norm() for p in self.network.parameters() if p.grad is not None])
            self.log_dict(
                {"train/gradient_norm": norms.norm(), "train/learning_rate": optimizer.param_groups[0]["lr"]}
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[KEY] = {
            **self.bundle.state(),
            "thresholds": vars(self.thresholds),
            "total_steps": self.total_steps,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.total_steps = checkpoint[KEY]["total_steps"]
        self.thresholds = Thresholds(**checkpoint[KEY]["thresholds"])
