"""Running the trainer: loggers, checkpoints, callbacks, precision, and how a run ends."""

from __future__ import annotations

import logging
import os
import signal
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.strategies import DDPStrategy, Strategy

from emitter.core.errors import EmitterError, require
from emitter.core.precision import has_fast_bfloat16
from emitter.training.batch_size import FittingBatch, memory_error_in_words
from emitter.training.budget import Budget
from emitter.training.checkpoints import FOLDER, LAST, AtomicCheckpointIO, LastCheckpoint
from emitter.training.data import EmitterData
from emitter.training.interrupt import Interruption
from emitter.training.log_files import SavedLogs
from emitter.training.loggers import LoggerSettings, RunRecord, run_loggers
from emitter.training.lost_process import lost_process_in_words
from emitter.training.module import MONITOR, EmitterModule
from emitter.training.progress import RunProgress
from emitter.training.recovery import Recovery
from emitter.training.report import RunTimes, draw_report
from emitter.training.run_diagnosis import RunDiagnosis
from emitter.training.settings import BudgetSettings, TrainingSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainerSettings:
    """The machine: Lightning's accelerator, devices, strategy and nodes. ``timeout_minutes``: after which a rank that
    waits for another, in vain, ends the run."""

    accelerator: str = "auto"
    devices: int | str = 1
    strategy: str = "auto"
    num_nodes: int = 1
    timeout_minutes: float = 30.0

    def __post_init__(self) -> None:
        require(
            self.timeout_minutes > 0,
            f"trainer.timeout_minutes is {self.timeout_minutes}: give how long ranks wait for each other",
        )
        require(
            self.accelerator not in ("gpu", "cuda") or torch.cuda.is_available(),
            f"trainer.accelerator is '{self.accelerator}' and there is no GPU: give trainer=cpu or trainer=auto",
        )
        require(self.num_nodes >= 1, f"trainer.num_nodes is {self.num_nodes}: give 1 or more")


@dataclass(frozen=True)
class Job:
    """One run: its name, its folder, how long, on what, logged where; a movie that the simulation is held against; its
    settings in plain containers, for the loggers; what else is to be called as it goes on."""

    name: str
    run_dir: Path
    budget: BudgetSettings
    machine: TrainerSettings
    logger: LoggerSettings
    movie: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    callbacks: tuple[pl.Callback, ...] = ()


def fit(module: EmitterModule, data: EmitterData, job: Job, resume: Path | None = None) -> float:
    """Train to the end of the budget into the job's folder; the best validation efficiency.

    Raises:
        KeyboardInterrupt: after Ctrl-C, with ``checkpoints/last.ckpt`` written; SystemExit(143) after SIGTERM.
    """
    _quieten()
    interruption = Interruption()
    recovery = Recovery(module.settings.recovery)
    best = ModelCheckpoint(
        job.run_dir / FOLDER,
        filename="best",
        monitor=MONITOR,
        mode="max",
        enable_version_counter=False,
    )
    diagnosis = RunDiagnosis(data.simulator, module, job.run_dir, job.movie)
    trainer = _trainer(module.settings, job, [interruption, diagnosis, recovery, *job.callbacks, best])
    try:
        with memory_error_in_words(module), lost_process_in_words(job.run_dir):
            trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        # the second Ctrl-C; Lightning has set the next ones to be ignored
        signal.signal(signal.SIGINT, signal.default_int_handler)
        log.info(
            "ended at once; go on from the last checkpoint, if there is one, with resume=%s", job.run_dir
        )
        raise KeyboardInterrupt from None
    if interruption.signal is not None:
        log.info(
            "interrupted at step %d, which is kept in %s; go on with resume=%s",
            trainer.global_step,
            job.run_dir / FOLDER / LAST,
            job.run_dir,
        )
        if interruption.signal == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt
    if trainer.is_global_zero:
        draw_report(job.run_dir)
    if recovery.failure is not None:
        raise EmitterError(f"{recovery.failure}; the last good state is in '{job.run_dir / FOLDER / LAST}'")
    return float(best.best_model_score) if best.best_model_score is not None else float("nan")


def _trainer(settings: TrainingSettings, job: Job, callbacks: list[pl.Callback]) -> pl.Trainer:
    """Lightning's trainer for a job.

    Raises:
        EmitterError: when the machine has not what the settings ask for.
    """
    machine = job.machine
    try:
        return pl.Trainer(
            accelerator=machine.accelerator,
            devices=machine.devices,
            strategy=_strategy(machine),
            num_nodes=machine.num_nodes,
            precision=_precision(settings.precision, machine),
            max_steps=-1,
            max_epochs=-1,
            val_check_interval=1_000_000_000,  # the budget says when
            check_val_every_n_epoch=None,
            num_sanity_val_steps=-1,
            gradient_clip_val=settings.optimizer.clip_norm,
            accumulate_grad_batches=settings.accumulate_batches,
            log_every_n_steps=settings.log_every_steps,
            use_distributed_sampler=False,
            plugins=AtomicCheckpointIO(),
            logger=run_loggers(job.logger, job.name, job.run_dir),
            callbacks=[
                FittingBatch(),
                Budget(job.budget, settings.validation),
                RunProgress(),
                RunTimes(),
                RunRecord(job.config),
                SavedLogs(),
                *callbacks,
                LastCheckpoint(job.run_dir / FOLDER, settings.checkpoint_every_steps),
            ],
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=job.run_dir,
        )
    except (MisconfigurationException, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise EmitterError(
            f"the trainer settings do not fit this machine ({reason}): change trainer.…"
        ) from error


def _strategy(machine: TrainerSettings) -> str | Strategy:
    """Lightning's strategy, by its name; DDP's with our timeout."""
    timeout = timedelta(minutes=machine.timeout_minutes)
    if machine.strategy == "ddp":
        return DDPStrategy(start_method="popen", timeout=timeout)
    if machine.strategy == "ddp_fork":
        return DDPStrategy(start_method="fork", timeout=timeout)
    return machine.strategy


def _precision(wanted: str, machine: TrainerSettings) -> Literal["bf16-mixed", "32-true"]:
    """The precision of the settings; auto: float32 on a CPU, where longer trainings in bfloat16 came out worse
    (docs/training.md), and bfloat16 on a GPU that has it in hardware."""
    if wanted != "auto":
        return wanted  # type: ignore[return-value]
    on_gpu = machine.accelerator in ("gpu", "cuda", "auto") and torch.cuda.is_available()
    return "bf16-mixed" if on_gpu and has_fast_bfloat16("cuda") else "32-true"


def _quieten() -> None:
    """Lightning's and W&B's remarks on what is meant to be so here."""
    os.environ.setdefault("WANDB_SILENT", "true")
    for chatter in ("pytorch_lightning.utilities.rank_zero", "pytorch_lightning.accelerators.cuda"):
        logging.getLogger(chatter).setLevel(logging.WARNING)
    for pattern in (
        ".*does not have many workers.*",
        ".*persistent_workers=True.*",  # they are to end with the run
        ".*IterableDataset.*__len__.*",
        ".*Checkpoint directory.*exists.*",
        ".*treespec.*is deprecated.*",
        ".*sync_dist=True.*",  # what is logged is reduced by us, or rank 0's own
    ):
        warnings.filterwarnings("ignore", pattern)
