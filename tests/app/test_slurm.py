"""Jobs of a cluster that is one machine: in the queue, warned, in the queue again, and to the uninterrupted end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fake_slurm
import pandas as pd
import pytest
import submitit
from hydra import compose, initialize_config_dir
from hydra.core.utils import JobStatus
from omegaconf import OmegaConf
from tiny import ROOT, TINY, same_weights, train

from emitter.app.launch import conf_dir
from emitter.app.preemption import WARNING, requeued_when_warned
from emitter.app.slurm import _PatientSlurm, _result
from emitter.core.errors import EmitterError
from emitter.training.comparison import FAILED


@pytest.fixture
def cluster(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("PATH", f"{fake_slurm.install(tmp_path / 'slurm')}:{os.environ['PATH']}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path / "slurm"


def test_a_job_that_is_warned_goes_on_in_its_folder_to_the_uninterrupted_end(cluster, tmp_path) -> None:
    """Two jobs of the same settings; one is warned, as before a preemption or its time limit."""
    length = ["budget.steps=60", "training.checkpoint_every_steps=2", "logger.wandb=offline"]
    command = [sys.executable, str(ROOT / "train.py"), *TINY, *length, "launcher=slurm_cpu"]
    submitting = subprocess.Popen([*command, "name=warned,other", f"hydra.sweep.dir={tmp_path}"])
    while not (tmp_path / "0" / "checkpoints" / "last.ckpt").exists():
        assert submitting.poll() is None
        time.sleep(0.02)
    os.kill(int((cluster / "pids" / "4200_0").read_text()), signal.SIGUSR2)
    assert submitting.wait() == 0
    assert (cluster / "requeued").read_text() == "4200_0\n"
    assert same_weights(tmp_path / "0", tmp_path / "1")
    table = pd.read_csv(tmp_path / "sweep.csv")
    assert list(table["run"]) == [0, 1] and list(table["status"]) == ["finished"] * 2
    assert table["best_efficiency"].isna().all() or table["best_efficiency"].nunique() == 1
    output = (tmp_path / "jobs" / "4200_0" / "4200_0_0_log.out").read_text()
    assert "interrupted at step" in output and output.count("results in") == 1
    lives = [path.name.rpartition("-")[2] for path in (tmp_path / "0" / "wandb").glob("offline-run-*")]
    assert len(lives) == 2 and len(set(lives)) == 1  # ids of the W&B run
    assert "#SBATCH --signal=USR2@120" in (cluster / "flags").read_text()


def test_a_job_of_two_tasks_that_is_warned_goes_back_into_the_queue_once(cluster, tmp_path) -> None:
    """SLURM warns every task of a job; the tasks are the ranks of one training."""
    job = [
        "launcher=slurm_cpu",
        "trainer=ddp_cpu",
        "trainer.timeout_minutes=1",
        f"hydra.sweep.dir={tmp_path}",
    ]
    length = ["budget.steps=60", "training.checkpoint_every_steps=2"]
    submitting = subprocess.Popen([sys.executable, str(ROOT / "train.py"), *TINY, *job, *length])
    while not (tmp_path / "0" / "checkpoints" / "last.ckpt").exists():
        assert submitting.poll() is None
        time.sleep(0.02)
    (pids,) = (cluster / "pids").iterdir()
    for task in pids.read_text().split():
        os.kill(int(task), signal.SIGUSR2)
    assert submitting.wait() == 0
    assert (cluster / "requeued").read_text() == f"{pids.name}\n"
    assert list(pd.read_csv(tmp_path / "sweep.csv")["status"]) == ["finished"]
    steps = pd.read_csv(tmp_path / "0" / "metrics.csv")["health/masked_images"].dropna()
    assert len(steps) == 60  # each once, over both lives
    output = (tmp_path / "jobs" / pids.name / f"{pids.name}_0_log.out").read_text()
    assert "interrupted at step" in output and output.count("results in") == 1


def launcher(*overrides: str) -> Any:
    """The launcher of a configuration, as Hydra makes it."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("train", overrides=list(overrides), return_hydra_config=True)
    plain = OmegaConf.to_container(config.hydra.launcher, resolve=True)
    plain.pop("_target_")
    return _PatientSlurm(**plain)


def test_what_is_asked_of_the_cluster(cluster, tmp_path) -> None:
    """The whole way to sbatch's flags: one task a device, on every node."""

    def flags(*overrides: str) -> set[str]:
        executor = launcher(f"hydra.sweep.dir={tmp_path}", *overrides)._executor()._executor
        text = executor._make_submission_file_text("command", "id")
        return {line.removeprefix("#SBATCH --") for line in text.splitlines() if "#SBATCH" in line}

    one = flags("launcher=slurm", "trainer.devices=3", "hydra.launcher.partition=gpus")
    assert {"nodes=1", "ntasks-per-node=3", "gpus-per-node=3", "partition=gpus", "job-name=quickstart"} <= one
    assert {"nodes=2", "ntasks-per-node=4", "gpus-per-node=4"} <= flags("launcher=slurm_nodes")
    assert not any(flag.startswith("gpus") for flag in flags("launcher=slurm_cpu"))


def test_a_machine_without_slurm_is_one_sentence(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmitterError, match=r"needs SLURM's sbatch and srun.*login node"):
        launcher("launcher=slurm", f"hydra.sweep.dir={tmp_path}")._executor()


def test_jobs_as_on_a_cluster_and_one_that_fails(tmp_path) -> None:
    ended = train(tmp_path, "launcher=slurm_local", "training.seed=1,-1", f"hydra.sweep.dir={tmp_path}")
    assert ended.returncode == 2 and "training.seed is -1" in ended.stderr.splitlines()[-1]
    assert list(pd.read_csv(tmp_path / "sweep.csv")["status"]) == ["finished", "failed"]


def test_a_job_that_was_killed_has_failed_and_says_where_to_look(tmp_path) -> None:
    job = submitit.LocalExecutor(tmp_path / "jobs").submit(os._exit, 9)
    job._results_timeout_s = 0  # how long a result may take to show on a shared disk
    result = _result(job, tmp_path / "3")
    assert result.status is JobStatus.COMPLETED and result.return_value == FAILED
    assert f"job {job.job_id} ended without a result" in (tmp_path / "3" / "error.txt").read_text()


@pytest.fixture
def requeued():
    """What submitit's handler of the warning is called with."""
    calls: list[int] = []
    before = {number: signal.getsignal(number) for number in (WARNING, signal.SIGTERM)}
    signal.signal(WARNING, lambda number, frame: calls.append(number))
    yield calls
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_warning_during_the_training_waits_for_its_end(requeued) -> None:
    with pytest.raises(SystemExit), requeued_when_warned():
        stopped = []
        signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))  # as the training does
        signal.raise_signal(WARNING)
        assert stopped and not requeued
        raise SystemExit(143)
    assert requeued == [WARNING]


def test_a_warning_before_the_training_is_passed_on(requeued) -> None:
    with requeued_when_warned():
        signal.raise_signal(WARNING)
        assert requeued == [WARNING]


def test_an_end_without_a_warning_requeues_nothing(requeued) -> None:
    with pytest.raises(SystemExit), requeued_when_warned():
        raise SystemExit(143)
    assert not requeued
