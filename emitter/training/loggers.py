"""Where a run is logged: a CSV file always, and W&B and TensorBoard as asked.

No log is worth a training: a logger that fails (a full disk, a server that is gone) is warned about once and left out
for the rest of the run. What a run logs, and when, is listed in docs/logging.md.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

import pytorch_lightning as pl
import wandb
import yaml
from matplotlib.image import imread
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.logger import rank_zero_experiment

from emitter.core.errors import require
from emitter.training.log_files import LOG, CsvLog
from emitter.training.module import MONITOR, EmitterModule

log = logging.getLogger(__name__)

START_SECONDS = 20.0  # after which a W&B server that does not answer counts as out of reach
FINISH_SECONDS = 120.0  # for the rest of the upload at a run's end; what is left stays in the run's folder
_KEYS = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")
_FORMER_HOST = (
    "api.wandb.ai"  # where `wandb login` put the key before the server moved; W&B still takes it from there
)


@dataclass(frozen=True)
class LoggerSettings:
    """Where a run is logged beside its CSV file.

    ``wandb``: off; offline (no account, no network); online; auto is online with a key and offline without, unless
    WANDB_MODE says otherwise. ``run_id``: of the W&B run, where it shall be a certain one; else one is made and kept in
    the run's folder, so that a resumed run goes on as the same. ``group``: of W&B runs. ``artifact``: the best
    checkpoint becomes a W&B artifact at the end of the run.
    """

    MODES: ClassVar[tuple[str, ...]] = ("auto", "off", "offline", "online")

    wandb: Literal["auto", "off", "offline", "online"] = "auto"
    tensorboard: bool = False
    project: str = "emitter"
    group: str | None = None
    run_id: str | None = None
    artifact: bool = False

    def __post_init__(self) -> None:
        known = ", ".join(self.MODES)
        require(self.wandb in self.MODES, f"logger.wandb is '{self.wandb}': choose one of {known}")
        require(
            not self.tensorboard or find_spec("tensorboard") is not None,
            "logger.tensorboard is true and TensorBoard is not installed: pip install tensorboard",
        )
        require(
            self.run_id is None or re.fullmatch(r"[\w.-]{1,64}", self.run_id) is not None,
            f"logger.run_id is '{self.run_id}': give up to 64 letters, digits, dots, dashes and underscores",
        )


def run_loggers(settings: LoggerSettings, name: str, run_dir: Path) -> list[Logger]:
    """A run's loggers; nothing is started before the training begins, and then on rank 0 only."""
    loggers: list[Logger] = [RunCSV(run_dir / LOG)]
    disabled = settings.wandb == "auto" and os.environ.get("WANDB_MODE") == "disabled"
    if settings.wandb != "off" and not disabled:
        loggers.append(RunWandb(settings, name, run_dir))
    if settings.tensorboard:
        loggers.append(RunTensorBoard(run_dir, name="tensorboard", version="", default_hp_metric=False))
    return loggers


class RunLogger(Logger):
    """One of Lightning's loggers that is left out once it has failed, and that takes more than numbers.

    All of it happens on rank 0. A logger that has no place for a picture, a table or a file does nothing with it.
    """

    _failed = False

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """What Lightning calls the open log; None when it cannot be opened."""
        return self._endure(self._opened)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._endure(super().log_metrics, metrics, step)  # type: ignore[safe-super]

    def save(self) -> None:
        self._endure(super().save)

    def finalize(self, status: str) -> None:
        self._endure(super().finalize, status)

    def log_config(self, config: Mapping[str, Any]) -> None:
        """The run's settings, plain containers only."""
        self._endure(self._config, config)

    def log_picture(self, key: str, path: Path, step: int) -> None:
        """A PNG file."""
        self._endure(self._picture, key, path, step)

    def log_sentences(
        self, key: str, columns: Sequence[str], rows: Sequence[Sequence[object]], step: int
    ) -> None:
        """A table of text."""
        self._endure(self._sentences, key, columns, [[str(cell) for cell in row] for row in rows], step)

    def log_checkpoint(self, path: Path, score: float) -> None:
        """The best checkpoint of a run that is complete, and its validation efficiency."""
        self._endure(self._checkpoint, path, score)

    def _endure(self, act: Callable[..., Any], *args: Any) -> Any:
        return None if self._failed else self._attempt(act, *args)

    def _attempt(self, act: Callable[..., Any], *args: Any) -> Any:
        try:
            return act(*args)
        except Exception as error:  # whatever it is: a training of days does not end for its log
            if not self._failed:
                cause = error.__cause__ or error  # TensorBoard's logger gives a full disk another name
                log.warning(
                    "%s failed (%s: %s) and is left out for the rest of this run",
                    type(self).__name__.removeprefix("Run"),
                    type(cause).__name__,
                    cause,
                    exc_info=not isinstance(cause, (OSError, wandb.Error)),
                )
            self._failed = True
            return None

    def _opened(self) -> Any:
        return super().experiment  # type: ignore[misc]

    def _config(self, config: Mapping[str, Any]) -> None: ...

    def _picture(self, key: str, path: Path, step: int) -> None: ...

    def _sentences(self, key: str, columns: Sequence[str], rows: list[list[str]], step: int) -> None: ...

    def _checkpoint(self, path: Path, score: float) -> None: ...


class RunCSV(RunLogger, CsvLog):
    """``metrics.csv``. The settings stand beside it in ``config.yaml``."""

    def begin(self, n_rows: int) -> None:
        self._endure(super().begin, n_rows)

    def _opened(self) -> None:
        """Nothing is open between two writes."""


class RunTensorBoard(RunLogger, TensorBoardLogger):
    """Event files in ``tensorboard/``."""

    def _config(self, config: Mapping[str, Any]) -> None:
        self.hparams = dict(config)
        self.experiment.add_text("config", f"<pre>{yaml.safe_dump(self.hparams, sort_keys=False)}</pre>", 0)

    def _picture(self, key: str, path: Path, step: int) -> None:
        self.experiment.add_image(key, imread(path)[..., :3], step, dataformats="HWC")

    def _sentences(self, key: str, columns: Sequence[str], rows: list[list[str]], step: int) -> None:
        lines = ["| " + " | ".join(cells) + " |" for cells in (columns, ["---"] * len(columns), *rows)]
        self.experiment.add_text(key, "\n".join(lines), step)


class RunWandb(RunLogger, WandbLogger):
    """The W&B run, in ``wandb/``. Online where that is wanted and possible; offline otherwise, without a wait.

    Nothing is logged with W&B's own step, which may only rise: every row carries ``trainer/global_step`` instead.
    """

    def __init__(self, settings: LoggerSettings, name: str, run_dir: Path) -> None:
        limits = wandb.Settings(init_timeout=START_SECONDS, finish_timeout=FINISH_SECONDS)
        super().__init__(name, run_dir, project=settings.project, group=settings.group, settings=limits)
        del self._wandb_init["anonymous"]  # W&B warns of it whatever it is
        self.settings = settings
        self._id_file = run_dir / "wandb" / "run_id.txt"

    def finalize(self, status: str) -> None:
        """End the run here: the next fit of this process is a run of its own."""
        super().finalize(status)
        if self._experiment is not None:
            self._attempt(self._experiment.finish, 0 if status == "success" else 1)
        if self._failed:
            _end_service()

    def _opened(self) -> Any:
        if self._experiment is not None:
            return self._experiment
        wandb.finish()  # of a fit before this one that did not come to its end
        self._wandb_init |= {"id": self._stable_id(), "mode": wandb_mode(self.settings.wandb)}
        if self._wandb_init["mode"] == "online":
            try:
                return super()._opened()
            except (wandb.Error, OSError) as error:
                log.warning("W&B cannot be reached (%s): %s", _first_line(error), self._how_to_upload)
                _end_service()  # it holds the id of the run that did not begin
                self._wandb_init["mode"] = "offline"
        elif self.settings.wandb == "online":
            log.warning("W&B has no key (wandb login makes one known): %s", self._how_to_upload)
        return super()._opened()

    @property
    def _how_to_upload(self) -> str:
        return f"this run is logged offline; upload it later with 'wandb sync {self._id_file.parent}/offline-run-*'"

    def _stable_id(self) -> str:
        """The id of the settings, or that of the run's earlier lives, or a new one."""
        kept = self._id_file.read_text().strip() if self._id_file.is_file() else ""
        run_id = self.settings.run_id or kept or secrets.token_hex(4)
        self._id_file.parent.mkdir(parents=True, exist_ok=True)
        self._id_file.write_text(f"{run_id}\n")
        return run_id

    def _config(self, config: Mapping[str, Any]) -> None:
        self.experiment.config.update(dict(config), allow_val_change=True)

    def _picture(self, key: str, path: Path, step: int) -> None:
        self.log_image(key, [str(path)], step)

    def _sentences(self, key: str, columns: Sequence[str], rows: list[list[str]], step: int) -> None:
        self.log_metrics({key: wandb.Table(columns=list(columns), data=rows)}, step)

    def _checkpoint(self, path: Path, score: float) -> None:
        if self.settings.artifact:
            artifact = wandb.Artifact(f"model-{self.experiment.id}", "model", metadata={MONITOR: score})
            artifact.add_file(
                str(path), policy="immutable", skip_cache=True
            )  # from its place, without a copy
            self.experiment.log_artifact(artifact, aliases=["best"])


def wandb_mode(wanted: str) -> Literal["online", "offline"]:
    """What ``logger.wandb`` comes to here: a setting goes before WANDB_MODE, and without a key all is offline."""
    if wanted == "auto":
        wanted = os.environ.get("WANDB_MODE", "online")
    return "offline" if wanted in ("offline", "dryrun") or not _has_key() else "online"


def _has_key() -> bool:
    """Whether W&B would find a key by itself: in the environment or where ``wandb login`` puts it."""
    if any(os.environ.get(name) for name in _KEYS):
        return True
    hosts = {urlsplit(wandb.setup().settings.base_url).netloc}
    if "WANDB_BASE_URL" not in os.environ:
        hosts.add(_FORMER_HOST)
    try:
        return bool(hosts & set(netrc(os.environ.get("NETRC", Path.home() / ".netrc")).hosts))
    except (OSError, NetrcParseError):
        return False


def _end_service() -> None:
    """End W&B's own process, which the runs of this one share: the next begins with a new one."""
    with suppress(Exception, SystemExit):
        wandb.teardown()


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def loggers_of(trainer: pl.Trainer) -> Iterator[RunLogger]:
    """Those of a run's loggers that take more than numbers."""
    return (logger for logger in trainer.loggers if isinstance(logger, RunLogger))


class RunRecord(pl.Callback):
    """Hands the loggers a run's settings at its start and its best checkpoint at its end."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            for logger in loggers_of(trainer):
                logger.log_config(self.config)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, EmitterModule)
        best = trainer.checkpoint_callback
        complete = trainer.global_step == pl_module.total_steps
        if not (trainer.is_global_zero and complete and isinstance(best, ModelCheckpoint)):
            return
        if best.best_model_score is not None:
            for logger in loggers_of(trainer):
                logger.log_checkpoint(Path(best.best_model_path), float(best.best_model_score))
