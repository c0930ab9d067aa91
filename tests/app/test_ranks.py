"""A training on several processes: in each the same run, in a sweep too, and nothing left behind for the next."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from lightning_fabric.strategies.launchers import subprocess_script
from lightning_fabric.strategies.launchers.subprocess_script import _basic_subprocess_cmd
from tiny import ROOT, TINY, same_weights, train

from emitter.app.other_rank import main
from emitter.app.ranks import is_first, other_ranks_train
from emitter.core.errors import EmitterError
from emitter.training import rank_watch


def test_every_rank_of_a_sweep_trains_the_run_of_the_first(tmp_path) -> None:
    """Ranks of different learning rates would share gradients, and end with weights of neither run."""
    ranks = ["trainer=ddp_cpu", "trainer.timeout_minutes=1"]
    rates = "training.optimizer.muon_learning_rate"
    swept = train(tmp_path, "-m", *ranks, f"{rates}=0.005,0.05", f"hydra.sweep.dir={tmp_path}/sweep")
    assert swept.returncode == 0, swept.stderr
    assert sorted(path.name for path in (tmp_path / "sweep").iterdir() if path.is_dir()) == ["0", "1"]
    plain = train(tmp_path, *ranks, f"{rates}=0.05", f"hydra.run.dir={tmp_path}/plain")
    assert plain.returncode == 0, plain.stderr
    assert same_weights(tmp_path / "sweep" / "1", tmp_path / "plain")
    assert not same_weights(tmp_path / "sweep" / "0", tmp_path / "plain")
    assert plain.stdout.count("results in") == 1  # told by the first rank alone


@pytest.mark.parametrize("checkpoint", [None, Path("last.ckpt")])
def test_lightning_starts_the_other_ranks_with_the_run(tmp_path, monkeypatch, checkpoint) -> None:
    monkeypatch.setattr(HydraConfig.instance(), "cfg", "of this job")
    monkeypatch.setenv("MASTER_PORT", "4711")  # of a cluster
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    before = sys.argv, sys.modules["__main__"].__spec__
    with pytest.raises(ZeroDivisionError), other_ranks_train(tmp_path, checkpoint):
        assert not HydraConfig.initialized()  # Lightning takes Hydra's arguments else
        command = _basic_subprocess_cmd()
        os.environ.update(LOCAL_RANK="0", MASTER_PORT="1234")
        raise ZeroDivisionError
    expected = [sys.executable, "-m", "emitter.app.other_rank", str(tmp_path)]
    assert command == [*expected, *([str(checkpoint)] if checkpoint else [])]
    assert (sys.argv, sys.modules["__main__"].__spec__) == before
    assert HydraConfig.instance().cfg == "of this job"
    assert "LOCAL_RANK" not in os.environ and os.environ["MASTER_PORT"] == "4711"


def other_rank_of(folder: Path) -> int:
    """The process id of the rank that Lightning has started for the run in a folder."""
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f"emitter.app.other_rank\0{folder}\0" in line.read_text():
                return int(line.parent.name)
        except OSError:  # has ended since
            continue
    raise AssertionError(f"no process trains in {folder}")


def test_a_rank_that_is_killed_costs_the_sweep_no_other_run(tmp_path) -> None:
    ranks = ["trainer=ddp_cpu", "trainer.timeout_minutes=1", "training.checkpoint_every_steps=2"]
    sweep = ["budget.steps=400,3", f"hydra.sweep.dir={tmp_path}"]
    command = [sys.executable, str(ROOT / "train.py"), "-m", *TINY, *ranks, *sweep]
    sweeping = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "0" / "checkpoints" / "last.ckpt").exists():
        assert sweeping.poll() is None
        time.sleep(0.05)
    os.kill(other_rank_of(tmp_path / "0"), signal.SIGKILL)
    told = sweeping.communicate()[1].splitlines()
    assert sweeping.returncode == 2
    assert told[-1].startswith("error: run 0 (") and "another process of this run does not answer" in told[-1]
    assert list(pd.read_csv(tmp_path / "sweep.csv")["status"]) == ["failed", "finished"]
    last = torch.load(tmp_path / "0" / "checkpoints" / "last.ckpt", weights_only=True)
    assert 0 < last["global_step"] < 400  # and can go on


@pytest.fixture
def killed(monkeypatch) -> list[tuple[int, int]]:
    """What would have been killed, and how."""
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(subprocess_script.os, "kill", lambda *call: calls.append(call))
    return calls


def lost(tmp_path: Path) -> subprocess.Popen[bytes]:
    """A process that does not end well, which Lightning looks after."""
    child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])
    subprocess_script._launch_process_observer([child])
    child.wait()
    return child


def test_the_first_rank_may_end_by_itself_when_another_is_lost(tmp_path, killed) -> None:
    with rank_watch.ended_with_the_first(tmp_path):
        lost(tmp_path)
        time.sleep(1.5)  # it is seen
    time.sleep(0.1)
    assert not killed


def test_a_first_rank_that_waits_in_vain_is_killed(tmp_path, monkeypatch, killed, capsys) -> None:
    monkeypatch.setattr(rank_watch, "PATIENCE_SECONDS", 0.1)
    with rank_watch.ended_with_the_first(tmp_path):
        lost(tmp_path)
        time.sleep(2)
    assert killed == [(os.getpid(), signal.SIGKILL)]
    assert f"resume={tmp_path}\n" in capsys.readouterr().err


def test_no_rank_is_left_behind(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(rank_watch, "_END_SECONDS", 0.1)
    with rank_watch.ended_with_the_first(tmp_path):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        subprocess_script._launch_process_observer([child])
    assert child.wait(5) == -signal.SIGKILL


def test_a_rank_tells_its_error_with_its_number(tmp_path, monkeypatch, capsys) -> None:
    def failed(settings, checkpoint):
        raise EmitterError("psf.h5 is\nnot there")

    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr("emitter.app.other_rank.saved_settings", lambda folder: None)
    monkeypatch.setattr("emitter.app.other_rank.train", failed)
    main([str(tmp_path)])
    assert capsys.readouterr().err == "error: rank 3: psf.h5 is not there\n"


def test_a_rank_leaves_its_end_to_the_first(tmp_path, monkeypatch) -> None:
    """An exit code other than 0 would have the first rank killed."""
    monkeypatch.setattr("emitter.app.other_rank.saved_settings", lambda folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # a bug is another matter
        main([str(tmp_path)])
    monkeypatch.setattr("emitter.app.other_rank.saved_settings", lambda folder: None)
    monkeypatch.setattr("emitter.app.other_rank.train", lambda settings, checkpoint: sys.exit(143))
    main([str(tmp_path)])


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"])
def test_the_first_rank_is_known_by_every_scheduler(monkeypatch, name) -> None:
    assert is_first()
    monkeypatch.setenv(name, "1")
    assert not is_first()
