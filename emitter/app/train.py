"""Train a network: PSF + camera + priors → a run's folder with checkpoints, metrics and the W&B run."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from omegaconf import OmegaConf

from emitter.app.schema import build as build_settings
from emitter.app.schema import to_plain
from emitter.app.warm_start import warm_started
from emitter.core.decoding import Thresholds
from emitter.core.errors import EmitterError
from emitter.inference.bundle import KEY, Bundle
from emitter.io.files import prepare_output
from emitter.io.movies import open_movie
from emitter.models.backbone import count_macs_per_pixel, count_parameters
from emitter.models.network import EmitterNetwork
from emitter.models.settings import UNetSettings, VarSettings
from emitter.psf import build
from emitter.psf.gaussian import AstigmaticSettings, GaussianSettings
from emitter.psf.spline import SplineSettings
from emitter.simulation.camera import Camera, CameraSettings
from emitter.simulation.settings import SimulationSettings
from emitter.simulation.simulator import Simulator
from emitter.training.checkpoints import last_state
from emitter.training.data import EmitterData
from emitter.training.fit import Job, LoggerSettings, TrainerSettings, fit
from emitter.training.module import NOTHING_FOUND, EmitterModule
from emitter.training.settings import (
    BudgetSettings,
    TrainingSettings,
    ValidationSettings,
    input_scaling_for,
    scaling_for,
)

log = logging.getLogger(__name__)

CONFIG = "config.yaml"


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
    init_from: str | None = None
    movie: str | None = None
    fast_dev_run: bool = False


def new_bundle(settings: Settings) -> Bundle:
    """A network for this microscope: untrained, or with the weights of ``init_from``."""
    camera = Camera.build(settings.camera)
    simulation = settings.simulation
    torch.manual_seed(settings.training.seed)
    n_maps = settings.training.loss.build(settings.training.detection).n_maps
    network = EmitterNetwork(settings.model, simulation.n_frames, input_scaling_for(simulation), n_maps)
    bundle = Bundle(
        network=network,
        scaling=scaling_for(simulation),
        thresholds=Thresholds(),
        psf=build(settings.psf, camera.pixel_size),
        camera=camera,
        simulation=simulation,
    )
    if settings.init_from is None:
        return bundle
    return warm_started(bundle, Path(settings.init_from).expanduser())


def run(settings: Settings) -> float:
    """Train, say where the results are, and return the best validation efficiency (what a sweep maximises)."""
    if settings.fast_dev_run:
        settings = in_seconds(settings)
    resume = None
    if settings.resume is not None:
        settings, resume = resumed(settings, Path(settings.resume).expanduser())
    run_dir = settings.run_dir
    if settings.movie is not None:  # a wrong name is told before anything is written
        with open_movie(settings.movie):
            pass
    OmegaConf.save(OmegaConf.create(to_plain(settings)), prepare_output(run_dir / CONFIG))
    bundle = new_bundle(settings)
    training = settings.training
    simulator = Simulator(settings.simulation, bundle.psf, bundle.camera)
    data = EmitterData(
        simulator, training.seed, training.batch_size, training.validation.samples, training.workers
    )
    network = bundle.network
    log.info(
        "%s: %.2f M parameters, %.3f M multiply-adds per pixel",
        settings.name,
        count_parameters(network) / 1e6,
        count_macs_per_pixel(network, network.n_frames) / 1e6,
    )
    job = Job(settings.name, run_dir, settings.budget, settings.trainer, settings.logger, settings.movie)
    result = fit(EmitterModule(bundle, training), data, job, resume)
    found = (
        f"best validation efficiency {result:.3f}"
        if result > NOTHING_FOUND
        else "no emitter found yet: train longer"
    )
    log.info("%s; results in %s", found, run_dir)
    return result


def in_seconds(settings: Settings) -> Settings:
    """The same with a few steps of everything: logs, epochs, a validation, pictures, checkpoints."""
    batch_size = settings.training.batch_size
    training = replace(
        settings.training,
        batch_size=4 if batch_size == "auto" else min(batch_size, 4),
        log_every_steps=1,
        epoch_steps=2,
        validation=ValidationSettings(samples=4, times=1),
    )
    return replace(settings, training=training, budget=BudgetSettings(steps=5))


def resumed(settings: Settings, run_dir: Path) -> tuple[Settings, Path]:
    """The settings that a run began with, but for the machine and the logger, and the checkpoint where it stopped.

    Raises:
        EmitterError: when the folder is none of a run that can go on.
    """
    if not run_dir.is_dir():
        raise EmitterError(
            f"resume is '{run_dir}' and there is no such folder: give the folder of an interrupted run"
        )
    if not (run_dir / CONFIG).is_file():
        raise EmitterError(f"'{run_dir}' holds no {CONFIG}: give resume= the folder of an interrupted run")
    checkpoint, state = last_state(run_dir)
    if state["global_step"] == state[KEY].get("total_steps"):
        raise EmitterError(
            f"the run in '{run_dir}' is complete ({state['global_step']} steps): begin a new one"
        )
    began = build_settings(Settings, OmegaConf.to_container(OmegaConf.load(run_dir / CONFIG)))  # type: ignore[arg-type]
    # what a warm start took from its checkpoint stands in this run's own by now
    init_from = None if began.init_from is None else str(checkpoint)
    again = replace(
        began, run_dir=run_dir, init_from=init_from, trainer=settings.trainer, logger=settings.logger
    )
    return again, checkpoint
