"""How a network is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from emitter.core.channels import Scaling
from emitter.core.errors import require
from emitter.losses.base import LossSettings
from emitter.losses.channel_weights import ChannelWeights
from emitter.losses.detection.base import DetectionSettings
from emitter.losses.detection.bce import BCESettings
from emitter.losses.ppxyzb import PPXYZBSettings
from emitter.losses.reconstruction import ReconstructionSettings
from emitter.losses.scale_warmup import ScaleWarmupSettings
from emitter.losses.weighting.base import WeightingSettings
from emitter.losses.weighting.log_normalized import LogNormalizedSettings
from emitter.models.network import InputScaling
from emitter.simulation.settings import SimulationSettings


@dataclass(frozen=True)
class OptimizerSettings:
    """Muon with AdamW for biases and the like, or AdamW for all (``algorithm``); a linear warm-up and a cosine to
    zero at the end of the budget; the gradient's norm clipped.

    ``learning_rate`` is AdamW's, ``muon_learning_rate`` Muon's: every step changes a layer by about that in all
    directions.
    """

    ALGORITHMS: ClassVar[tuple[str, ...]] = ("muon", "adamw")

    algorithm: Literal["muon", "adamw"] = "muon"
    learning_rate: float = 4e-3
    muon_learning_rate: float = 0.02
    weight_decay: float = 0.01
    warmup_steps: int = 50
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        known = ", ".join(self.ALGORITHMS)
        require(
            self.algorithm in self.ALGORITHMS,
            f"optimizer.algorithm is {self.algorithm}: choose one of {known}",
        )
        for name in ("learning_rate", "muon_learning_rate"):
            value = getattr(self, name)
            require(0 < value < 1, f"optimizer.{name} is {value}: give a number between 0 and 1, e.g. 2e-3")
        require(self.weight_decay >= 0, f"optimizer.weight_decay is {self.weight_decay}: give 0 or more")
        require(self.warmup_steps >= 0, f"optimizer.warmup_steps is {self.warmup_steps}: give 0 or more")
        require(self.clip_norm > 0, f"optimizer.clip_norm is {self.clip_norm}: give a gradient norm above 0")


@dataclass(frozen=True)
class BudgetSettings:
    """How long to train: at most one of minutes (of the clock), cpu_seconds (of all threads) and steps; none of them
    means ``default_cpu_seconds``."""

    minutes: float | None = None
    cpu_seconds: float | None = None
    steps: int | None = None
    default_cpu_seconds: float = 720.0

    def __post_init__(self) -> None:
        limits = {"minutes": self.minutes, "cpu_seconds": self.cpu_seconds, "steps": self.steps}
        given = [name for name, value in limits.items() if value is not None]
        require(len(given) <= 1, f"the budget has {' and '.join(given)}: give only one of them")
        for name, value in {**limits, "default_cpu_seconds": self.default_cpu_seconds}.items():
            require(value is None or 0 < value < math.inf, f"budget.{name} is {value}: give a number above 0")


@dataclass(frozen=True)
class RecoverySettings:
    """After ``skips`` steps in a row without a finite gradient, back to good weights; after ``restarts`` of them the
    end."""

    skips: int = 5
    restarts: int = 3

    def __post_init__(self) -> None:
        require(self.skips >= 1, f"recovery.skips is {self.skips}: give 1 or more steps in a row")
        require(self.restarts >= 0, f"recovery.restarts is {self.restarts}: give 0 or more")


@dataclass(frozen=True)
class ValidationSettings:
    """A fixed simulated set of ``samples``, scored ``times`` times, evenly over the run. ``pictures``: whether frames
    and what the network makes of them are drawn each time, and the simulated data at the start."""

    samples: int = 256
    times: int = 10
    pictures: bool = True

    def __post_init__(self) -> None:
        require(self.samples >= 1, f"validation.samples is {self.samples}: give 1 or more")
        require(self.times >= 1, f"validation.times is {self.times}: give 1 or more")


@dataclass(frozen=True)
class TrainingSettings:
    """Everything about training that is not the network, the microscope or the machine.

    ``batch_size``: samples of a batch on every rank; auto: what fits into memory (``batch_size.py``).
    ``predicted_frames``: consecutive frames of a sample that are predicted. ``workers``:
    processes of every rank that simulate the samples; with 0 the training device does. ``epoch_steps``: the stream of
    samples has no end; so many steps count as an epoch where something happens every epoch (adaptive weights, the
    search for plateaus). Losses, norms and weights are logged every ``log_every_steps`` steps, counts of non-finite
    numbers at every step.
    """

    PRECISIONS: ClassVar[tuple[str, ...]] = ("auto", "bf16-mixed", "32-true")

    seed: int = 1
    batch_size: int | Literal["auto"] = 16
    predicted_frames: int = 1
    workers: int = 0
    epoch_steps: int = 50
    log_every_steps: int = 20
    precision: Literal["auto", "bf16-mixed", "32-true"] = "auto"
    loss: LossSettings = field(default_factory=PPXYZBSettings)
    detection: DetectionSettings = field(default_factory=BCESettings)
    reconstruction: ReconstructionSettings = field(default_factory=ReconstructionSettings)
    channel_weights: ChannelWeights = field(default_factory=ChannelWeights)
    weighting: WeightingSettings = field(default_factory=LogNormalizedSettings)
    scale_warmup: ScaleWarmupSettings = field(default_factory=ScaleWarmupSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    validation: ValidationSettings = field(default_factory=ValidationSettings)
    recovery: RecoverySettings = field(default_factory=RecoverySettings)
    accumulate_batches: int = 1
    checkpoint_every_steps: int = 500

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**63, f"training.seed is {self.seed}: give a number from 0 to 2^63 - 1")
        require(
            self.batch_size == "auto" or self.batch_size >= 1,
            f"batch_size is {self.batch_size}: give 1 or more, or auto",
        )
        require(
            self.predicted_frames >= 1,
            f"predicted_frames is {self.predicted_frames}: give 1 or more frames of a sample",
        )
        require(
            self.workers >= 0,
            f"workers is {self.workers}: give the number of processes that simulate, or 0 for the training device",
        )
        require(self.epoch_steps >= 1, f"epoch_steps is {self.epoch_steps}: give 1 or more steps")
        require(
            self.accumulate_batches >= 1,
            f"accumulate_batches is {self.accumulate_batches}: give 1 or more batches for a step",
        )
        require(
            self.checkpoint_every_steps >= 1,
            f"checkpoint_every_steps is {self.checkpoint_every_steps}: give 1 or more",
        )
        require(self.log_every_steps >= 1, f"log_every_steps is {self.log_every_steps}: give 1 or more steps")
        require(
            not self.loss.own_detection or self.detection == BCESettings(),
            f"loss={self.loss.kind} detects in its own way and detection is set: leave detection=bce as it is",
        )
        require(
            not self.loss.own_detection or self.weighting.takes_negative_parts,
            f"weighting={self.weighting.kind} needs losses above 0 and those of loss={self.loss.kind} are likelihoods: "
            "choose weighting=static, rate, gradient_norm or log_normalized",
        )
        require(
            self.reconstruction.error == "none" or not self.teaches_quality,
            f"reconstruction={self.reconstruction.error} renders every emitter by its probability and the loss teaches "
            "the quality of its place: add training.loss.quality_px=null",
        )

    @property
    def teaches_quality(self) -> bool:
        """Whether the probability is that of an emitter that lies where the maps say."""
        quality_px = self.loss.quality_px if isinstance(self.loss, PPXYZBSettings) else None
        return quality_px is not None and self.detection.takes_quality

    @property
    def samples_per_batch(self) -> int:
        """The size of a batch. An auto one is known once a run has begun."""
        assert self.batch_size != "auto"
        return self.batch_size


def scaling_for(simulation: SimulationSettings) -> Scaling:
    """Channel scales that make the targets of these priors of order one.

    At the quick start's priors a unit is 1,000 photons, half a cell, 300 nm and 22 photons of background.
    """
    depth_nm = max(abs(z) for z in simulation.z_range_nm)
    return Scaling(
        photons=simulation.flux.typical / 3,
        offset_cells=0.5,
        z_nm=0.6 * depth_nm if depth_nm > 0 else 100.0,
        background=max(0.22 * simulation.background[1], 0.1),
    )


def input_scaling_for(simulation: SimulationSettings) -> InputScaling:
    """Frames enter with the mean background at 0 and a typical emitter's peak at about 3."""
    return InputScaling(offset=sum(simulation.background) / 2, scale=max(simulation.flux.typical / 30, 1.0))
