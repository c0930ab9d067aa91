"""Programs end as a user expects: exit code, one sentence, no litter. A toy program stands for the six."""

from __future__ import annotations

import logging
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from emitter.app import launch as launch_module
from emitter.app import programs
from emitter.app.config_errors import unknown_setting
from emitter.core.errors import EmitterError, require

CONFIGURATION = {
    "toy.yaml": """
defaults:
  - psf: gaussian
  - in_place
  - override hydra/job_logging: plain
  - override hydra/hydra_logging: plain
  - _self_
name: toy
movie: null
budget:
  minutes: 10
  steps: null
weights: [1, 2]
""",
    "psf/gaussian.yaml": "kind: gaussian\nsigma_px: 1.3\n",
    "psf/spline.yaml": "kind: spline\nfile: ???\n",
}


@dataclass(frozen=True)
class Gaussian:
    kind: Literal["gaussian"]
    sigma_px: float

    def __post_init__(self) -> None:
        require(self.sigma_px > 0, f"sigma_px is {self.sigma_px}: give a positive number")


@dataclass(frozen=True)
class Spline:
    kind: Literal["spline"]
    file: Path


@dataclass(frozen=True)
class Budget:
    minutes: float | None
    steps: int | None


@dataclass(frozen=True)
class Settings:
    name: str
    movie: str | None
    budget: Budget
    weights: tuple[float, float]
    psf: Gaussian


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """``toy.run("psf=spline", …)`` runs it and returns the exit code; ``toy.received`` are its settings."""
    conf = tmp_path / "conf"
    for name, text in CONFIGURATION.items():
        (conf / name).parent.mkdir(parents=True, exist_ok=True)
        (conf / name).write_text(text)
    shipped = launch_module.conf_dir()
    (conf / "in_place.yaml").write_text((shipped / "in_place.yaml").read_text())
    for group in ("job_logging", "hydra_logging"):
        (conf / "hydra" / group).mkdir(parents=True)
        (conf / "hydra" / group / "plain.yaml").write_text(
            (shipped / "hydra" / group / "plain.yaml").read_text()
        )
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(launch_module, "conf_dir", lambda: conf)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # launch sets it: monkeypatch takes it back
    root_handlers = list(logging.getLogger().handlers)
    space = types.SimpleNamespace(received=[], action=lambda settings: None, here=here)

    def run_program(settings: Settings) -> Any:
        space.received.append(settings)
        return space.action(settings)

    module = types.ModuleType("emitter.app.toy")
    vars(module).update(Settings=Settings, run=run_program)
    monkeypatch.setitem(sys.modules, "emitter.app.toy", module)

    def run(*arguments: str) -> int:
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", ["toy.py", *arguments])
        try:
            launch_module.launch("toy")
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0

    space.run = run
    yield space
    logging.getLogger().handlers[:] = root_handlers


def only_sentence(capsys: pytest.CaptureFixture[str]) -> str:
    """What stood on stderr: exactly one line that begins with ``error: ``."""
    written = capsys.readouterr().err
    assert written.startswith("error: ") and written.count("\n") == 1, written
    return written[len("error: ") :].rstrip("\n")


def test_settings_arrive_typed_and_nothing_else_is_written(toy) -> None:
    assert toy.run("budget.minutes=3", "movie=frames/*.tif", "weights=[3,4.5]") == 0
    (settings,) = toy.received
    assert settings == Settings(
        "toy", "frames/*.tif", Budget(3.0, None), (3.0, 4.5), Gaussian("gaussian", 1.3)
    )
    assert isinstance(settings.budget.minutes, float)
    assert list(toy.here.iterdir()) == []


def test_program_runs_where_the_user_stands(toy) -> None:
    toy.action = lambda settings: Path("result.txt").write_text("done")
    assert toy.run() == 0
    assert (toy.here / "result.txt").read_text() == "done"


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("budget.minuts=3", ["unknown setting 'budget.minuts'", "did you mean 'budget.minutes'?"]),
        ("minutes=3", ["unknown setting 'minutes'", "did you mean 'budget.minutes'?"]),
        ("psf.sigma=3", ["unknown setting 'psf.sigma'", "did you mean 'psf.sigma_px'?"]),
        ("moive=a.tif", ["unknown setting 'moive'", "did you mean 'movie'?"]),
        ("psff=spline", ["unknown setting 'psff'", "did you mean 'psf'?"]),
        ("+budget.minuts=3", ["unknown setting 'budget.minuts'", "did you mean 'budget.minutes'?"]),
        ("zzz=3", ["unknown setting 'zzz'", "--help"]),
        ("psf=splin", ["unknown option 'psf=splin'", "did you mean 'psf=spline'?"]),
        ("psf=zzz", ["unknown option 'psf=zzz'", "psf=gaussian, psf=spline"]),
        ("psf=spline", ["'psf.file'", "missing"]),
        ("psf=null", ["'psf=null' is no option", "gaussian, spline"]),
        ("movie=frame(1).tif", ["movie=frame(1).tif", "quote"]),
        ("movie.tif", ["'movie.tif' is not a setting", "name=value"]),
        ("movie=a,b", ["movie=a,b"]),
        ("psf.sigma_px=-1", ["psf: sigma_px is -1", "give a positive number"]),
        ("psf.sigma_px=wide", ["psf.sigma_px is 'wide'", "give a number"]),
        ("budget.steps=1.5", ["budget.steps is 1.5", "give a whole number or null"]),
        ("weights=[1]", ["weights is [1]", "a list of 2"]),
        ("movie=${nothing}", ["'movie'", "nothing"]),
    ],
)
def test_wrong_settings_end_with_one_sentence(toy, capsys, argument: str, words: list[str]) -> None:
    assert toy.run(argument) == 2
    message = only_sentence(capsys)
    assert all(word in message for word in words), message
    assert toy.received == []
    assert list(toy.here.iterdir()) == []


def test_error_of_the_program_is_one_sentence(toy, capsys) -> None:
    def fail(settings: Settings) -> None:
        raise EmitterError("movie 'a.tif' is not there:\n give a file")

    toy.action = fail
    assert toy.run() == 2
    assert only_sentence(capsys) == "movie 'a.tif' is not there: give a file"


def test_traceback_on_request(toy, capsys, monkeypatch) -> None:
    monkeypatch.setenv("EMITTER_TRACEBACK", "1")
    assert toy.run("psf.sigma_px=-1") == 2
    written = capsys.readouterr().err
    assert "Traceback" in written and "__post_init__" in written
    assert written.splitlines()[-1].startswith("error: psf: sigma_px is -1")


def test_unwritable_place_is_named(toy, capsys) -> None:
    toy.action = lambda settings: Path("no/folder.txt").write_text("")
    assert toy.run() == 2
    assert "'no/folder.txt'" in only_sentence(capsys)


def test_bug_keeps_its_traceback(toy) -> None:
    def fail(settings: Settings) -> None:
        raise ZeroDivisionError("a bug")

    toy.action = fail
    with pytest.raises(ZeroDivisionError):
        toy.run()


def test_interruption(toy, capsys) -> None:
    def interrupt(settings: Settings) -> None:
        raise KeyboardInterrupt

    toy.action = interrupt
    assert toy.run() == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_multirun_runs_the_other_jobs_when_one_fails(toy, capsys) -> None:
    assert toy.run("-m", "psf.sigma_px=1,-1,2") == 2
    assert [settings.psf.sigma_px for settings in toy.received] == [1.0, 2.0]
    assert "error: psf: sigma_px is -1" in capsys.readouterr().err


def test_log_lines_are_plain(toy, capsys) -> None:
    toy.action = lambda settings: logging.getLogger("emitter.toy").info("6 beads used")
    assert toy.run() == 0
    assert "6 beads used\n" in capsys.readouterr().out


def test_nearest_of_a_short_typo() -> None:
    known = ["budget", "budget.minutes", "budget.steps", "camera.em_gain"]
    assert unknown_setting("minuts", known) == "unknown setting 'minuts', did you mean 'budget.minutes'?"
    free = ["simulation", "budget", "budget.minutes"]
    assert unknown_setting("simulation.mean", free).endswith("write +simulation.mean=…")
    assert "write +" not in unknown_setting("budget.mean", free)
    assert unknown_setting("camera.em_gian", known).endswith("did you mean 'camera.em_gain'?")


def test_every_program_has_its_entry(monkeypatch) -> None:
    launched: list[str] = []
    monkeypatch.setattr(programs, "launch", launched.append)
    names = [
        "calibrate",
        "train",
        "localize",
        "evaluate",
        "simulate",
        "export",
        "diagnose",
        "convert",
        "filter",
        "render",
        "link",
        "resolution",
        "drift",
    ]
    for name in names:
        getattr(programs, name)()
    assert launched == names


@pytest.mark.parametrize("value", ["a < 1 and b > 2", "(a + 1) % 2 == 0 or c in [1, 2]", "a, b", "a: 'b'"])
def test_free_text_reaches_the_settings_as_it_is_typed(value: str) -> None:
    parser = OverridesParser.create()
    assert parser.parse_override(launch_module.as_text(f"where={value}")).value() == value
    assert launch_module.as_text(f"name={value}") == f"name={value}"


def test_help_lists_a_programs_settings_with_their_comments() -> None:
    text = launch_module.commented_settings("drift")
    assert text.startswith("localizations: ???") and "hydra:" not in text
    assert "max_drift_nm: 1000       # farther shifts in x and y are not looked for" in text


def test_help_lists_the_groups_that_a_program_takes() -> None:
    diagnose = launch_module.choices("diagnose").splitlines()
    assert diagnose == [
        "camera: emccd, ideal, scmos",
        "psf: astigmatic, astigmatic_picasso, gaussian, spline",
    ]
    assert "experiment: challenge_as, ladder_2d, " in launch_module.choices("simulate")
    assert {line.partition(":")[0] for line in launch_module.choices("train").splitlines()} >= {
        "loss",
        "sweeper",
    }
