"""What a run logs, read back from its files; and logs that fail, which no training ends for."""

import errno
import json
import logging
import os
import re
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest
import yaml
from test_training import SETTINGS, bundle
from wandb_file import config, files, media, numbers, records

from emitter.core.channels import CHANNELS
from emitter.core.errors import SettingsError
from emitter.metrics.figures import scores
from emitter.metrics.protocol import protocol_named
from emitter.metrics.scores import EmitterMetrics
from emitter.simulation.simulator import Simulator
from emitter.training import loggers
from emitter.training.checkpoints import last_state
from emitter.training.data import EmitterData
from emitter.training.fit import Job, TrainerSettings, fit
from emitter.training.loggers import LoggerSettings, wandb_mode
from emitter.training.module import EmitterModule
from emitter.training.settings import BudgetSettings, TrainingSettings, ValidationSettings

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs" / "logging.md"
STEPS = 3
KEY = "a" * 40
SCALES, GROUPS = ("scale0", "scale1", "scale2"), ("stem", "scale0", "scale1", "scale2", "phi", "head")
NAMES = {"channel": CHANNELS, "scale": SCALES, "group": GROUPS, "kind": ("nan", "inf")}


def without_wandb(home: Path) -> dict[str, str]:
    """An environment in which W&B knows no key, wherever the tests run."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    return {**bare, "HOME": str(home), "NETRC": str(home / "netrc"), "OMP_NUM_THREADS": "1"}


def small_fit(folder: Path, logger: LoggerSettings, settings: TrainingSettings = SETTINGS) -> None:
    made = bundle()
    data = EmitterData(Simulator(made.simulation, made.psf, made.camera), 1, 4, 4)
    job = Job("test", folder, BudgetSettings(steps=STEPS), TrainerSettings("cpu"), logger)
    fit(EmitterModule(made, settings), data, job)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> Path:
    """A small run with every logger and every scale trained, of frames that the diagnosis has something to say of."""
    folder = tmp_path_factory.mktemp("run")
    overrides = (
        "logger=all",
        "logger.artifact=true",
        "logger.group=several",
        "fast_dev_run=true",
        "trainer=cpu",
        "scale_warmup=coarse_first",
        "model.phi=true",
        "camera.baseline_adu=65530",
        f"run_dir={folder}",
    )
    command = [sys.executable, str(REPOSITORY / "train.py"), *overrides]
    home = tmp_path_factory.mktemp("home")
    done = subprocess.run(
        command, env=without_wandb(home), timeout=500, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def of_csv(folder: Path) -> list[tuple[int, str, float]]:
    log = pd.read_csv(folder / "metrics.csv").melt("step").dropna()
    return [(int(step), name, value) for step, name, value in log.itertuples(index=False)]


def test_every_setting_is_in_the_wandb_run(run_dir):
    settings = config(run_dir)
    assert settings == yaml.safe_load((run_dir / "config.yaml").read_text())
    training = settings["training"]
    assert training["loss"]["kind"] == "ppxyzb" and training["seed"] == 1
    assert set(training["channel_weights"]) >= {"photons", "x", "y", "z", "background"}
    assert settings["camera"]["baseline_adu"] == 65530
    (run,) = records(run_dir, "run")
    assert (run["display_name"], run["project"], run["run_group"]) == ("quickstart", "emitter", "several")
    assert [record.get("exit_code", 0) for record in records(run_dir, "exit")] == [0]


def test_every_number_of_the_csv_is_in_the_wandb_run_at_its_step(run_dir):
    assert sorted(numbers(run_dir)) == sorted(of_csv(run_dir))
    assert {step for step, name, _ in numbers(run_dir) if name == "health/inputs_nan"} == set(range(5))


def documented(title: str) -> dict[str, bool]:
    """Of a table in docs/logging.md: name → whether it is in every run."""
    section = DOCS.read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([^`]+)` \|.*\|([^|]*)\|$", section, re.MULTILINE)
    return {name: not only.strip() for name, only in rows}


def spelled_out(name: str) -> set[str]:
    """A documented name with every value of its placeholders."""
    found = re.search(r"\{(\w+)\}", name)
    if found is None or found[1] not in NAMES:
        return {name}
    return {one for value in NAMES[found[1]] for one in spelled_out(name.replace(found[0], value, 1))}


def test_what_is_logged_is_what_is_documented(run_dir):
    table = documented("Numbers")
    in_every_run = {one for name, always in table.items() if always for one in spelled_out(name)}
    in_some = {one for name, always in table.items() if not always for one in spelled_out(name)}
    logged = {name for _, name, _ in numbers(run_dir)}
    assert in_every_run - logged == set()
    advice = {name for name in logged - in_every_run - in_some if re.fullmatch(r"diagnosis/data_\w+", name)}
    assert logged - in_every_run - in_some - advice == set() and advice and "diagnosis/{advice}" in in_some
    scored = set(scores(EmitterMetrics(protocol_named("plain")).totals()))
    named = {name.removeprefix("val/") for name in in_every_run | in_some if name.startswith("val/")}
    assert {name for name in named if not name.startswith("threshold_")} == scored | {"efficiency"}
    others = set(documented("Settings, pictures, words, weights")) - {"config", "model-ID"}
    assert set(media(run_dir)) == others


def test_pictures_sentences_and_the_best_checkpoint_are_in_the_wandb_run(run_dir):
    assert media(run_dir) == {
        "data_check": (0, "images/separated"),
        "reconstruction": (5, "images/separated"),
        "diagnosis/advice": (0, "table-file"),
    }
    (table,) = run_dir.glob("wandb/*run-*/files/media/table/diagnosis/*.json")
    assert "saturated" in table.read_text()
    (artifact,) = (one for one in records(run_dir, "artifact") if one["type"] == "model")
    assert "best" in artifact["aliases"]
    (content,) = artifact["manifest"]["contents"]
    assert content["local_path"] == str(run_dir / "checkpoints" / "best.ckpt")


def test_tensorboard_has_the_same(run_dir):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = event_accumulator.EventAccumulator(str(run_dir / "tensorboard"), {"scalars": 0}).Reload()
    found = [(e.step, name, e.value) for name in events.Tags()["scalars"] for e in events.Scalars(name)]
    expected = sorted(of_csv(run_dir))
    assert [one[:2] for one in sorted(found)] == [one[:2] for one in expected]
    assert [one[2] for one in sorted(found)] == pytest.approx([one[2] for one in expected], rel=1e-6)
    assert set(events.Tags()["images"]) == {"data_check", "reconstruction"}
    texts = {
        name: events.Tensors(name)[-1].tensor_proto.string_val[0].decode()
        for name in events.Tags()["tensors"]
    }
    assert "saturated" in texts["diagnosis/advice/text_summary"]
    assert "pixel_size_nm" in texts["config/text_summary"]


def test_a_run_keeps_its_wandb_id_over_its_lives_and_shares_it_with_no_other(tmp_path):
    for folder, run_id in (("one", None), ("two", "of-the-cluster"), ("one", None)):
        small_fit(tmp_path / folder, LoggerSettings("offline", run_id=run_id))
    ids = {f: [run["run_id"] for run in records(tmp_path / f, "run")] for f in ("one", "two")}
    assert len(ids["one"]) == 2 and len(set(ids["one"])) == 1
    assert ids["two"] == ["of-the-cluster"]
    counted = [step for step, name, _ in numbers(tmp_path / "two") if name == "health/inputs_nan"]
    assert counted == list(range(STEPS))


def full_disk(*args: object, **kwargs: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def broken(*args: object, **kwargs: object) -> None:
    raise RuntimeError("a bug")


@pytest.mark.parametrize(
    ("logger", "method", "failing"),
    [
        ("CsvLog", "log_metrics", full_disk),
        ("CsvLog", "save", broken),
        ("WandbLogger", "log_metrics", full_disk),
    ],
)
def test_a_logger_that_fails_is_left_out_and_the_training_goes_on(
    tmp_path, monkeypatch, caplog, logger, method, failing
):
    monkeypatch.setattr(getattr(loggers, logger), method, failing)
    with caplog.at_level(logging.WARNING):
        small_fit(tmp_path, LoggerSettings("offline"))
    assert sum("left out" in record.getMessage() for record in caplog.records) == 1
    assert last_state(tmp_path)[1]["global_step"] == STEPS
    assert (tmp_path / "checkpoints" / "best.ckpt").is_file()
    if logger == "CsvLog":
        assert {step for step, name, _ in numbers(tmp_path) if name == "health/inputs_nan"} == set(
            range(STEPS)
        )
    else:
        assert len(pd.read_csv(tmp_path / "metrics.csv")["health/inputs_nan"].dropna()) == STEPS


def test_pictures_that_cannot_be_written_are_told_and_end_nothing(tmp_path, monkeypatch, caplog):
    for name in ("plot_data_check", "plot_reconstruction"):
        monkeypatch.setattr(f"emitter.training.run_diagnosis.{name}", full_disk)
    monkeypatch.setattr("emitter.training.report.plot_training", full_disk)
    with caplog.at_level(logging.WARNING):
        small_fit(tmp_path, LoggerSettings("off"), replace(SETTINGS, validation=ValidationSettings(4, 1)))
    told = {record.getMessage().partition(" cannot be written")[0] for record in caplog.records}
    pictures = {tmp_path / "report" / f"{name}.png" for name in ("data_check", "reconstruction", "curve")}
    assert {str(path) for path in pictures} <= told
    left = {path.name for path in (tmp_path / "report").iterdir()}
    assert left == {"data_check.txt", "diagnosis.md", "report.html"}
    assert last_state(tmp_path)[1]["global_step"] == STEPS


def online_run(folder: str) -> None:
    """In a process of its own: W&B takes its server from the environment once."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    loggers.START_SECONDS = loggers.FINISH_SECONDS = 3.0
    small_fit(Path(folder), LoggerSettings("auto"))


def run_against(server: str, folder: Path) -> str:
    """A run with a key and a server; what it said."""
    environment = {**without_wandb(folder), "WANDB_BASE_URL": server, "WANDB_API_KEY": KEY}
    command = [sys.executable, "-c", "import sys, test_loggers; test_loggers.online_run(sys.argv[1])", folder]
    done = subprocess.run(
        command,
        cwd=Path(__file__).parent,
        env=environment,
        timeout=300,  # far more than it needs: that it ends at all is what is tested
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    counted = [step for step, name, _ in numbers(folder) if name == "health/inputs_nan"]
    assert counted == list(range(STEPS))
    return done.stderr


def test_with_a_key_and_no_network_a_run_is_logged_offline_after_one_warning(tmp_path):
    said = run_against("http://127.0.0.1:9", tmp_path)  # where nothing listens
    assert said.count("W&B cannot be reached") == 1 and "wandb sync" in said
    assert files(tmp_path)[-1].parent.name.startswith("offline-run-")


class FallsSilent(BaseHTTPRequestHandler):
    """A W&B server that lets a run begin and then never answers: no change of the run, no upload."""

    ended = threading.Event()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        asked = json.loads(body) if self.path == "/graphql" else {"query": "mutation"}
        if "mutation" in asked["query"] and "UpsertBucket" not in asked["query"]:
            self.ended.wait()
        name = asked.get("variables", {}).get("name")
        project = {"id": "p", "name": "emitter", "entity": {"id": "e", "name": "me"}}
        bucket = {"id": "b", "name": name, "displayName": "test", "config": "{}", "historyLineCount": 0}
        answer = {"data": {"upsertBucket": {"inserted": True, "bucket": {**bucket, "project": project}}}}
        with suppress(OSError):  # the client may be gone by now
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *args: object) -> None:
        pass


def test_a_server_that_falls_silent_does_not_hold_up_the_end_of_a_run(tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), FallsSilent)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        said = run_against(f"http://127.0.0.1:{server.server_port}", tmp_path)
    finally:
        FallsSilent.ended.set()
        server.shutdown()
    assert "cannot be reached" not in said
    assert [path.parent.name[:4] for path in files(tmp_path)] == [
        "run-"
    ]  # online, and all of it on the disk too


@pytest.mark.parametrize(
    ("wanted", "environment", "netrc", "mode"),
    [
        ("auto", {}, "", "offline"),
        ("auto", {"WANDB_API_KEY": KEY}, "", "online"),
        ("auto", {}, f"machine api.wandb.ai login user password {KEY}\n", "online"),
        ("auto", {}, f"machine elsewhere.org login user password {KEY}\n", "offline"),
        ("auto", {"WANDB_API_KEY": KEY, "WANDB_MODE": "offline"}, "", "offline"),
        ("auto", {"WANDB_MODE": "online"}, "", "offline"),  # there is no key
        ("offline", {"WANDB_API_KEY": KEY, "WANDB_MODE": "online"}, "", "offline"),
        ("online", {"WANDB_API_KEY": KEY, "WANDB_MODE": "offline"}, "", "online"),
        ("online", {}, "", "offline"),
    ],
)
def test_online_is_with_a_key_and_where_nothing_says_otherwise(
    tmp_path, monkeypatch, wanted, environment, netrc, mode
):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "netrc").write_text(netrc)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert wandb_mode(wanted) == mode


def test_wandb_that_is_disabled_in_the_environment_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    names = [type(one).__name__ for one in loggers.run_loggers(LoggerSettings("auto"), "test", tmp_path)]
    assert names == ["RunCSV"]


def test_wrong_settings_are_named(monkeypatch):
    with pytest.raises(SettingsError, match=r"logger\.wandb is 'on'"):
        LoggerSettings("on")
    with pytest.raises(SettingsError, match=r"logger\.run_id is 'a/b'"):
        LoggerSettings(run_id="a/b")
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="pip install tensorboard"):
        LoggerSettings(tensorboard=True)
