"""A sweep to its end: one table and one figure, and a run that fails costs no other."""

from __future__ import annotations

import io
import logging
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pandas as pd
import pytest
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import RunMode
from omegaconf import OmegaConf

from emitter.app.resume import RefusedError
from emitter.app.sweep import Sweep, compare_into, main, markdown, readable
from emitter.core.errors import EmitterError
from emitter.training.comparison import FAILED

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    "budget.steps=3",
    "training.batch_size=2",
    "simulation.frame_size_px=[16,16]",
    "training.validation.samples=2",
    "training.validation.times=1",
    "logger.wandb=off",
    "trainer=cpu",
]


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Two weightings at two learning rates, the first of which is none."""
    folder = tmp_path_factory.mktemp("sweep")
    sweep = ["training.optimizer.learning_rate=-1,0.001", "channel_weights=balanced,detection_focused"]
    command = [sys.executable, str(ROOT / "train.py"), "-m", *TINY, *sweep, f"hydra.sweep.dir={folder}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return folder, subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)


def test_a_sweep_ends_with_its_table_and_its_figure(swept) -> None:
    folder, ended = swept
    table = pd.read_csv(folder / "sweep.csv")
    assert list(table["run"]) == [0, 1, 2, 3], ended.stderr
    assert list(table["status"]) == ["failed", "failed", "finished", "finished"]
    assert list(table["channel_weights"]) == ["balanced", "detection_focused"] * 2
    assert list(table["training.optimizer.learning_rate"]) == [-1, -1, 0.001, 0.001]
    assert list(table["steps"].dropna()) == [3, 3] and (table["cpu_seconds"].dropna() > 0).all()
    assert not any(column.startswith("training.channel_weights") for column in table)
    assert "| channel_weights |" in (folder / "sweep.md").read_text()
    assert (folder / "sweep.png").stat().st_size > 10_000
    assert "detection_focused" in ended.stdout and str(folder / "sweep.csv") in ended.stdout


def test_failed_runs_are_named_at_the_end(swept) -> None:
    folder, ended = swept
    assert ended.returncode == 2
    *_, one, other = ended.stderr.splitlines()
    assert one.startswith("error: run 0 (") and "balanced" in one and "learning_rate is -1" in one
    assert other.startswith("error: run 1 (") and "detection_focused" in other
    assert "Traceback" not in ended.stderr
    assert "learning_rate is -1" in (folder / "0" / "error.txt").read_text()


def test_a_sweep_goes_on_where_it_was_stopped(swept) -> None:
    """Run 2 stays; of run 3 the folder was lost."""
    folder, before = swept
    table, kept = (folder / "sweep.csv").read_text(), (folder / "2" / "checkpoints" / "last.ckpt").stat()
    shutil.rmtree(folder / "3")
    ended = subprocess.run(before.args, capture_output=True, text=True, cwd=folder)
    assert "done before" in ended.stdout and ended.stderr == before.stderr
    assert (folder / "2" / "checkpoints" / "last.ckpt").stat().st_mtime_ns == kept.st_mtime_ns
    again = pd.read_csv(folder / "sweep.csv").drop(columns="cpu_seconds")
    pd.testing.assert_frame_equal(again, pd.read_csv(io.StringIO(table)).drop(columns="cpu_seconds"))


def test_the_same_of_finished_runs(swept, tmp_path, monkeypatch) -> None:
    folder, _ = swept
    arguments = [folder / "3", folder, "--output", tmp_path / "new"]
    monkeypatch.setattr(sys, "argv", ["sweep", *map(str, arguments)])
    main()
    table = pd.read_csv(tmp_path / "new" / "sweep.csv")
    assert list(table["run"]) == [3, 0, 1, 2]  # each once, in the order given


def test_a_folder_without_runs_is_one_sentence(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["sweep", str(tmp_path)])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().err.startswith("error: ")
    assert list(tmp_path.iterdir()) == []


def job(folder: Path, mode: RunMode = RunMode.MULTIRUN):
    folder.mkdir(parents=True, exist_ok=True)
    hydra = {
        "mode": mode,
        "runtime": {"output_dir": str(folder)},
        "sweep": {"dir": str(folder.parent)},
        "job": {"num": 0},
        "overrides": {"task": ["rate=1"]},
    }
    return OmegaConf.create({"rate": 1, "twice": "${rate}", "hydra": hydra})


def failure(error: Exception) -> JobReturn:
    result = JobReturn(status=JobStatus.FAILED)
    result.return_value = error
    return result


def test_a_bug_in_one_run_does_not_end_the_sweep_and_keeps_its_traceback(tmp_path, capsys) -> None:
    config, sweep = job(tmp_path / "0"), Sweep()
    sweep.on_job_start(config)
    try:
        raise ZeroDivisionError("a bug")
    except ZeroDivisionError as error:
        result = failure(error)
    sweep.on_job_end(config, result)
    assert result.status is JobStatus.COMPLETED and result.return_value == FAILED
    assert (tmp_path / "0" / "error.txt").read_text() == "ZeroDivisionError: a bug\n"
    assert "Traceback" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        sweep.on_multirun_end(config)
    assert ended.value.code == 2
    assert OmegaConf.load(tmp_path / "0" / "config.yaml") == {"rate": 1, "twice": 1}


def test_a_refused_run_has_not_failed(tmp_path, capsys) -> None:
    """Elsewhere than in the sweep's own process Hydra brings the refusal there."""
    for launcher, ends in (("hydra._internal.core_plugins.basic_launcher", True), ("joblib_launcher", False)):
        config, result = job(tmp_path / "0"), failure(RefusedError("of another sweep"))
        config.hydra.launcher = {"_target_": launcher}
        with pytest.raises(SystemExit, match="2") if ends else nullcontext():
            Sweep().on_job_end(config, result)
        assert result.status is JobStatus.FAILED and list((tmp_path / "0").iterdir()) == []
    assert capsys.readouterr().err == "error: of another sweep\n"


def test_what_an_earlier_life_began_with_stays(tmp_path) -> None:
    config = job(tmp_path / "0")
    (tmp_path / "0" / "checkpoints").mkdir()
    (tmp_path / "0" / "checkpoints" / "last.ckpt").write_text("")
    (tmp_path / "0" / "config.yaml").write_text("rate: 2\n")
    Sweep().on_job_start(config)
    assert (tmp_path / "0" / "config.yaml").read_text() == "rate: 2\n"
    assert not (tmp_path / "0" / "overrides.yaml").exists()


def test_settings_that_cannot_be_resolved_are_kept_as_they_stand(tmp_path) -> None:
    config = job(tmp_path / "0")
    config.twice = "${nothing}"
    Sweep().on_job_start(config)
    assert "${nothing}" in (tmp_path / "0" / "config.yaml").read_text()


def test_a_single_run_is_left_alone(tmp_path) -> None:
    config = job(tmp_path / "0", RunMode.RUN)
    result = failure(EmitterError("no"))
    Sweep().on_job_start(config)
    Sweep().on_job_end(config, result)
    assert result.status is JobStatus.FAILED and list((tmp_path / "0").iterdir()) == []


@pytest.mark.parametrize("rank", ["LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"])
def test_only_the_first_rank_writes(tmp_path, monkeypatch, rank) -> None:
    monkeypatch.setenv(rank, "1")
    config, result = job(tmp_path / "0"), failure(EmitterError("no"))
    sweep = Sweep()
    sweep.on_job_start(config)
    sweep.on_job_end(config, result)
    sweep.on_multirun_end(config)
    assert result.status is JobStatus.COMPLETED  # goes on with the first
    assert [path.name for path in tmp_path.rglob("*")] == ["0"]


def test_an_output_that_cannot_be_written_is_named(swept, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmitterError, match="file"):
        compare_into(tmp_path / "file", [swept[0]])


def test_the_table_on_the_terminal(swept, caplog, tmp_path) -> None:
    with caplog.at_level(logging.INFO):
        compare_into(tmp_path, [swept[0]])
    assert caplog.text.count("balanced") >= 2 and "compared 4 runs" in caplog.text


def test_figures_as_text() -> None:
    table = pd.DataFrame(
        {
            "run": ["0"],
            "jaccard": [0.12345],
            "rmse_lateral_nm": [21.37],
            "cpu_seconds": [719.6],
            "error": [""],
        }
    ).assign(rmse_axial_nm=float("nan"), steps=pd.array([4000], dtype="Int64"))
    text = readable(table)
    assert text.iloc[0].to_dict() == {
        "run": "0",
        "jaccard": "0.123",
        "rmse_lateral_nm": "21.4",
        "cpu_seconds": "720",
        "rmse_axial_nm": "–",
        "steps": "4000",
    }
    assert markdown(pd.DataFrame({"a": ["x|y"], "b": ["1"]})) == "| a | b |\n| --- | --- |\n| x\\|y | 1 |"
