"""Train a network: PSF + camera + priors → a run's folder with checkpoints, metrics and the W&B run."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch

from emitter.core.decoding import Thresholds
from emitter.core.errors import EmitterError
from emitter.inference.bundle import Bundle
from emitter.models.backbone import count_macs_per_pixel, count_parameters
from emitter.models.network import EmitterNetwork
from emitter.models.settings import UNetSettings, VarSettings
from emitter.psf import build
from emitter.psf.gaussian import AstigmaticSettings, GaussianSettings
from emitter.psf.spline import SplineSettings
from emitter.simulation.camera import Camera, CameraSettings
from emitter.simulation.settings import SimulationSettings
from emitter.simulation.simulator import Simulator
from emitter.training.data import EmitterData
from emitter.training.fit import Job, LoggerSettings, TrainerSettings, fit
from emitter.training.module import EmitterModule
from emitter.training.settings import BudgetSettings, TrainingSettings, input_scaling_for, scaling_for

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What conf/train.yaml says; its comments explain every key."""

    name: str
    run_dir: Path
    psf: GaussianSettings | AstigmaticSettings | SplineSettings
    camera: CameraSettings
    simulation: SimulationSettings
    model: VarSettings | UNetSettings
    training: TrainingSettings
    budget: BudgetSettings
    trainer: TrainerSettings
    logger: LoggerSettings
    resume: str | None = None


def new_bundle(settings: Settings) -> Bundle:
    """An untrained network for this microscope."""
    camera = Camera.build(settings.camera)
    simulation = settings.simulation
    torch.manual_seed(settings.training.seed)
    network = EmitterNetwork(settings.model, simulation.n_frames, input_scaling_for(simulation))
    return Bundle(
        network=network,
        scaling=scaling_for(simulation),
        thresholds=Thresholds(),
        psf=build(settings.psf, camera.pixel_size),
        camera=camera,
        simulation=simulation,
    )


def run(settings: Settings) -> float:
    """Train, say where the results are, and return the best validation efficiency (what a sweep maximises)."""
    run_dir = settings.run_dir
    bundle = new_bundle(settings)
    training = settings.training
    simulator = Simulator(settings.simulation, bundle.psf, bundle.camera)
    data = EmitterData(simulator, training.seed, training.batch_size, training.validation.samples)
    network = bundle.network
    log.info(
        "%s: %.2f M parameters, %.3f M multiply-adds per pixel",
        settings.name,
        count_parameters(network) / 1e6,
        count_macs_per_pixel(network, network.n_frames) / 1e6,
    )
    job = Job(settings.name, run_dir, settings.budget, settings.trainer, settings.logger)
    resume = None if settings.resume is None else last_checkpoint(Path(settings.resume))
    result = fit(EmitterModule(bundle, training), data, job, resume)
    log.info("best validation efficiency %.3f; results in %s", result, run_dir)
    return result


def last_checkpoint(run: Path) -> Path:
    """Where a run stopped.

    Raises:
        EmitterError: when the folder holds no such checkpoint.
    """
    path = run if run.is_file() else run / "checkpoints" / "last.ckpt"
    if not path.is_file():
        raise EmitterError(
            f"'{run}' holds no checkpoints/last.ckpt: give resume= the folder of an interrupted run"
        )
    return path
