"""A run whose folder is named on the command line (``run_dir``, ``resume``) leaves no empty one of Hydra's behind."""

from __future__ import annotations

from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write


class OneFolder(Callback):
    """Hydra calls it (``hydra.callbacks`` in conf/train.yaml) before it makes the folder ``hydra.run.dir``."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """The folder that is there anyway takes the place of Hydra's, where that is not the run's."""
        if config.resume is not None or not OmegaConf.is_interpolation(config, "run_dir"):
            with read_write(config):
                config.hydra.run.dir = "."
