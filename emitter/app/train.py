"""Train a network: PSF + camera + priors → a run's folder with checkpoints, metrics and the W&B run."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import torch

from emitter.app.given import given_here, warn_of_unused_flux
from emitter.app.launch import conf_dir
from emitter.app.preemption import requeued_when_warned
from emitter.app.ranks import is_first, other_ranks_train
from emitter.app.resume import BEST, Life, in_sweep, new, resumed
from emitter.app.schema import to_plain
from emitter.app.train_settings import CONFIG, Settings, save_settings
from emitter.app.warm_start import warm_started
from emitter.core.decoding import Thresholds
from emitter.inference.bundle import Bundle, load_bundle, read_checkpoint, store_correction
from emitter.inference.uncertainty import Correction
from emitter.inference.uncertainty_fit import fit_correction
from emitter.io.files import prepare_output
from emitter.io.movies import open_movie
from emitter.models.backbone import count_macs_per_pixel, count_parameters
from emitter.models.network import EmitterNetwork
from emitter.psf import build
from emitter.simulation.camera import Camera
from emitter.simulation.simulator import Simulator
from emitter.training.checkpoints import FOLDER, LAST
from emitter.training.data import EmitterData
from emitter.training.fit import Job, fit
from emitter.training.module import NOTHING_FOUND, EmitterModule
from emitter.training.pruning import Pruning
from emitter.training.settings import (
    BudgetSettings,
    ValidationSettings,
    input_scaling_for,
    scaling_for,
)

log = logging.getLogger(__name__)


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
    life = _life(settings)
    if life.result is not None:
        log.info("done before: %s; in %s", _worded(life.result), life.settings.run_dir)
        return life.result
    settings = life.settings
    if settings.movie is not None:  # a wrong name is told before anything is written
        with open_movie(settings.movie):
            pass
    prepare_output(settings.run_dir / CONFIG)
    if is_first():
        warn_of_unused_flux(settings.simulation.flux, given_here(conf_dir()))
        save_settings(settings)
    try:
        with requeued_when_warned(), other_ranks_train(settings.run_dir, life.checkpoint):
            return train(settings, life.checkpoint)
    except (KeyboardInterrupt, SystemExit):
        if settings.sweep.folder is not None:
            log.info("the sweep goes on with the same command and hydra.sweep.dir=%s", settings.sweep.folder)
        raise


def _life(settings: Settings) -> Life:
    """A new run, or an earlier one that goes on."""
    if settings.resume is not None:
        return resumed(settings, Path(settings.resume).expanduser(), given_here(conf_dir()))
    if settings.sweep.folder is not None:
        logger = replace(settings.logger, group=settings.logger.group or settings.sweep.folder.name)
        name = f"{settings.name}_{settings.run_dir.name}"
        return in_sweep(replace(settings, name=name, logger=logger))
    return new(settings)


def train(settings: Settings, checkpoint: Path | None) -> float:
    """What every rank does: train in the run's folder, from a checkpoint on where there is one."""
    bundle = new_bundle(settings)
    training = settings.training
    simulator = Simulator(settings.simulation, bundle.psf, bundle.camera)
    data = EmitterData(
        simulator,
        training.seed,
        training.batch_size,
        training.validation.samples,
        training.workers,
        training.predicted_frames,
    )
    network = bundle.network
    log.info(
        "%s: %.2f M parameters, %.3f M multiply-adds per pixel",
        settings.name,
        count_parameters(network) / 1e6,
        count_macs_per_pixel(network, network.n_frames) / 1e6,
    )
    job = Job(
        settings.name,
        settings.run_dir,
        settings.budget,
        settings.trainer,
        settings.logger,
        settings.movie,
        to_plain(settings),
        _pruning(settings),
    )
    result = max(NOTHING_FOUND, fit(EmitterModule(bundle, training), data, job, checkpoint))  # never NaN
    if is_first() and result > NOTHING_FOUND:
        calibrate(settings.run_dir)
    log.info("%s; results in %s", _worded(result), settings.run_dir)
    return result


def calibrate(run_dir: Path) -> None:
    """Tell the checkpoints of a finished run how sure their localizations are."""
    of_step: dict[int, Correction | None] = {}
    for name in (BEST, LAST):
        path = run_dir / FOLDER / name
        if not path.is_file():
            continue
        step = read_checkpoint(path)["global_step"]
        if step not in of_step:  # the last is the best more often than not
            bundle = load_bundle(path)
            bundle.network.to("cuda" if torch.cuda.is_available() else "cpu")
            of_step[step] = fit_correction(bundle)
        if (correction := of_step[step]) is not None:
            store_correction(path, correction)


def _worded(efficiency: float) -> str:
    if efficiency > NOTHING_FOUND:
        return f"best validation efficiency {efficiency:.3f}"
    return "no emitter found yet: train longer"


def _pruning(settings: Settings) -> tuple[Pruning, ...]:
    """What may end a run of a sweep before its time."""
    sweep = settings.sweep
    if sweep.folder is None or sweep.prune.after_runs is None:
        return ()
    return (Pruning(sweep.prune, sweep.folder, settings.run_dir),)


def in_seconds(settings: Settings) -> Settings:
    """The same with a few steps of everything: logs, epochs, a validation, pictures, checkpoints."""
    batch_size = settings.training.batch_size
    training = replace(
        settings.training,
        batch_size=4 if batch_size == "auto" else min(batch_size, 4),
        log_every_steps=1,
        epoch_steps=2,
        validation=ValidationSettings(samples=4, times=1),
        # locked until an epoch that this run does not reach, a scale would never be seen at work
        scale_warmup=replace(settings.training.scale_warmup, active_from_epoch=()),
    )
    return replace(settings, training=training, budget=BudgetSettings(steps=5))
