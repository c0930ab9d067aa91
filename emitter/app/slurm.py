"""Hydra's launcher of SLURM jobs, but waiting for all of them: one that is killed costs the sweep no other's result."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import submitit
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_submitit_launcher import submitit_launcher
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
from submitit.core.utils import FailedJobError, UncompletedJobError

from emitter.core.errors import EmitterError
from emitter.training.comparison import ERROR, FAILED

log = logging.getLogger(__name__)

_OF_THE_EXECUTOR = ("submitit_folder", "max_num_timeout")  # not of its jobs


class _Patient(submitit_launcher.BaseSubmititLauncher):
    """Submits the jobs of a sweep as the plugin does, and takes what does not come back as failed."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """The jobs' results, once all have ended.

        Raises:
            EmitterError: when the jobs cannot be submitted.
        """
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        numbers = [initial_job_idx + i for i in range(len(job_overrides))]
        state = Singleton.get_state()
        tasks = [
            (list(overrides), "hydra.sweep.dir", number, str(number), state)
            for number, overrides in zip(numbers, job_overrides, strict=True)
        ]
        try:
            jobs = self._executor().map_array(self, *zip(*tasks, strict=True))
        except FailedJobError as error:
            raise EmitterError(f"the jobs were not taken into the queue: {error}") from error
        for number, job, overrides in zip(numbers, jobs, job_overrides, strict=True):
            log.info("run %d is job %s: %s", number, job.job_id, " ".join(overrides))
        log.info("waiting for them; without this program they go on too. Their output is in %s", folder)
        return [_result(job, folder / str(number)) for number, job in zip(numbers, jobs, strict=True)]

    def _executor(self) -> submitit.AutoExecutor:
        cluster = self._EXECUTOR
        if cluster == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
            raise EmitterError(
                "launcher=slurm needs SLURM's sbatch and srun, and this machine has none: start it on the cluster's "
                "login node, or try it with launcher=slurm_local"
            )
        once = {
            f"{cluster}_{name}": self.params[name] for name in _OF_THE_EXECUTOR[1:] if name in self.params
        }
        executor = submitit.AutoExecutor(self.params["submitit_folder"], cluster, **once)
        shared = {field.name for field in fields(BaseQueueConf)}
        settings = {
            name if name in shared else f"{cluster}_{name}": value
            for name, value in self.params.items()
            if name not in _OF_THE_EXECUTOR
        }
        executor.update_parameters(**settings)
        return executor


def _result(job: submitit.Job[Any], run_dir: Path) -> JobReturn:
    """What a job returned on its first rank. Where nothing came back it has failed, and why stands in its folder."""
    try:
        result: JobReturn = job.results()[0]
        return result
    except (UncompletedJobError, FailedJobError):
        output = job.paths.stderr if job.paths.stderr.is_file() else job.paths.stdout
        message = f"job {job.job_id} ended without a result ({job.state}): its last words are in '{output}'"
        log.error("run %s failed: %s", run_dir.name, message)
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / ERROR).write_text(message + "\n")
        failed = JobReturn(status=JobStatus.COMPLETED)
        failed.return_value = FAILED
        return failed


class _PatientLocal(_Patient, submitit_launcher.LocalLauncher):
    """``launcher=slurm_local``."""


class _PatientSlurm(_Patient, submitit_launcher.SlurmLauncher):
    """``launcher=slurm``."""


def use_patient_launchers() -> None:
    """In the place of the plugin's own, by their names: Hydra takes launchers from its plugins' package only."""
    known = Plugins.instance().class_name_to_class
    for ours in (_PatientLocal, _PatientSlurm):
        plugin = ours.__bases__[1]
        known[f"{plugin.__module__}.{plugin.__name__}"] = ours
