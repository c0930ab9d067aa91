"""A training on several processes: in each the same run, in a sweep too, and nothing left behind for the next."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from lightning_fabric.strategies.launchers.subprocess_script import _basic_subprocess_cmd
from tiny import same_weights, train

from emitter.app.ranks import is_first, main, other_ranks_train


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
    expected = [sys.executable, "-m", "emitter.app.ranks", str(tmp_path)]
    assert command == [*expected, *([str(checkpoint)] if checkpoint else [])]
    assert (sys.argv, sys.modules["__main__"].__spec__) == before
    assert HydraConfig.instance().cfg == "of this job"
    assert "LOCAL_RANK" not in os.environ and os.environ["MASTER_PORT"] == "4711"


def test_a_rank_leaves_errors_to_the_first(tmp_path, monkeypatch) -> None:
    """An exit code other than 0 makes Lightning kill the first rank, and the sweep with it."""
    monkeypatch.setattr("emitter.app.train_settings.saved_settings", lambda folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # a bug is another matter
        main([str(tmp_path)])
    monkeypatch.setattr("emitter.app.train_settings.saved_settings", lambda folder: None)
    monkeypatch.setattr("emitter.app.train.train", lambda settings, checkpoint: sys.exit(143))
    main([str(tmp_path)])


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"])
def test_the_first_rank_is_known_by_every_scheduler(monkeypatch, name) -> None:
    assert is_first()
    monkeypatch.setenv(name, "1")
    assert not is_first()
