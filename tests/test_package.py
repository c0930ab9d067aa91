"""The built wheel, installed into an environment of its own, runs the programs from any folder."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PROGRAMS = ("calibrate", "train", "localize", "evaluate", "simulate", "export", "diagnose", "convert")

pytestmark = pytest.mark.slow


def succeed(*command: str | Path, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder)
    succeed(*build, cwd=REPOSITORY)
    (path,) = folder.glob("emitter-*.whl")
    return path


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``bin`` of an environment with the wheel's emitter; everything else is the testing environment's."""
    folder = tmp_path_factory.mktemp("environment")
    succeed(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    target = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    # A folder in a .pth file joins sys.path, but its own .pth files (the editable emitter) are not read.
    (target / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    succeed(
        sys.executable,
        "-m",
        "uv",
        "pip",
        "install",
        "--offline",
        "--no-deps",
        "--python",
        python,
        wheel,
        cwd=folder,
    )
    return folder / "bin"


def run(program: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a console script with neither the checkout nor the user's variables in sight."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HYDRA"))
    }
    return subprocess.run(
        [program, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_wheel_holds_the_configuration_and_nothing_foreign(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    conf = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "conf").rglob("*.yaml")}
    assert conf and {f"emitter/{name}" for name in conf} <= set(names)
    assert {name.split("/")[0] for name in names} == {"emitter", "emitter-0.1.0.dist-info"}


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_of_an_installed_program(installed: Path, tmp_path: Path, program: str) -> None:
    done = run(installed / f"emitter-{program}", "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{program}.py" in done.stdout or f"emitter-{program}" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_mistake_in_an_installed_program(installed: Path, tmp_path: Path) -> None:
    done = run(installed / "emitter-train", "budget.minuts=3", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: unknown setting 'budget.minuts', did you mean 'budget.minutes'?\n"
    assert list(tmp_path.iterdir()) == []


def test_installed_simulate_writes_a_movie(installed: Path, tmp_path: Path) -> None:
    done = run(installed / "emitter-simulate", "n_frames=3", "output=movie.tif", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["movie.tif", "movie_truth.csv"]
