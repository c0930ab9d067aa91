"""``make`` on a machine that lacks something says so in one sentence, and begins again the next time."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from itertools import chain
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")

# Stand-ins for a machine's Python: what they answer to the questions that the Makefile asks.
OLD = "exit 1"
WITHOUT_ENSUREPIP = 'case "$*" in *ensurepip*) exit 1;; *) exit 0;; esac'
BREAKS_HALF_WAY = 'case "$*" in *"-m venv"*) mkdir -p .venv/bin; exit 1;; *) exit 0;; esac'


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(REPOSITORY / name, tmp_path)
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def stand_in(folder: Path, script: str) -> str:
    path = folder / "python-stand-in"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return f"PYTHON={path}"


@pytest.mark.parametrize(
    ("script", "sentence"),
    [(OLD, "no Python 3.11 or newer found: install one"), (WITHOUT_ENSUREPIP, "install its venv package")],
)
def test_unfit_python_is_named_and_nothing_is_made(clone: Path, script: str, sentence: str) -> None:
    done = make(clone, "test", stand_in(clone, script))
    assert done.returncode == 2
    assert sentence in done.stderr
    assert not (clone / ".venv").exists()


def test_no_python_at_all(clone: Path) -> None:
    done = make(clone, "train", "PYTHON=")
    assert done.returncode == 2 and "no Python 3.11 or newer found" in done.stderr


def test_failure_half_way_leaves_no_stamp(clone: Path) -> None:
    assert make(clone, "env", stand_in(clone, BREAKS_HALF_WAY)).returncode == 2
    assert (clone / ".venv").exists() and not (clone / ".venv" / ".ready").exists()


def test_set_up_is_done_once_until_a_pin_changes(clone: Path) -> None:
    (clone / ".venv").mkdir()
    (clone / ".venv" / ".ready").touch()
    assert make(clone, "--question", "env").returncode == 0
    for name in ("constraints.txt", "pyproject.toml"):
        os.utime(clone / ".venv" / ".ready", (1, 1))
        os.utime(clone / name, (2, 2))
        assert make(clone, "--question", "env").returncode == 1, name


def test_help_lists_every_target(clone: Path) -> None:
    text = (clone / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert targets is not None
    listed = re.findall(r"^  make (\w+) +\S", make(clone, "help").stdout, re.MULTILINE)
    assert sorted(listed) == sorted(targets[1].split())


def test_every_dependency_is_pinned() -> None:
    """constraints.txt pins every distribution that pyproject.toml names."""
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE))
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    del extras["picasso"]  # for an environment of its own: it wants an older pandas
    wanted = [*project["dependencies"], *chain(*extras.values())]
    names = {re.split("[<>=~[]", name)[0].lower() for name in wanted}
    assert names - {"emitter"} <= set(pins)  # an extra may name others of its own
    assert all("+" not in version for version in pins.values())
