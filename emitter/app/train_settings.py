"""What conf/train.yaml says, checked; and how a run's folder keeps it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from emitter.app.schema import build, to_plain
from emitter.io.files import replacing
from emitter.losses.ppxyzb import PPXYZBSettings
from emitter.models.settings import UNetSettings, VarSettings
from emitter.psf.gaussian import AstigmaticSettings, GaussianSettings
from emitter.psf.spline import SplineSettings
from emitter.simulation.camera import CameraSettings
from emitter.simulation.settings import SimulationSettings
from emitter.training.comparison import CONFIG
from emitter.training.fit import TrainerSettings
from emitter.training.loggers import LoggerSettings
from emitter.training.pruning import PruningSettings
from emitter.training.settings import BudgetSettings, TrainingSettings


@dataclass(frozen=True)
class SweepSettings:
    """For the runs of a sweep. ``folder``: of the sweep, None outside of one. ``retry_failed``: whether a run that
    failed is tried once more when the sweep is continued."""

    folder: Path | None = None
    retry_failed: bool = True
    prune: PruningSettings = field(default_factory=PruningSettings)


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
    sweep: SweepSettings = field(default_factory=SweepSettings)
    resume: str | None = None
    init_from: str | None = None
    movie: str | None = None
    fast_dev_run: bool = False


def save_settings(settings: Settings) -> None:
    """``config.yaml`` in the run's folder."""
    with replacing(settings.run_dir / CONFIG) as path:
        OmegaConf.save(OmegaConf.create(to_plain(settings)), path)


def saved_settings(run_dir: Path) -> Settings:
    """The settings that a run began with.

    Raises:
        SettingsError: when they are of another version of this program.
    """
    plain = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(run_dir / CONFIG)))
    loss = plain.get("training", {}).get("loss", {})
    if loss.get("kind") == PPXYZBSettings.kind:
        loss.setdefault("quality_px", None)  # a run of before goes on with the probability that it was taught
    return build(Settings, plain)
