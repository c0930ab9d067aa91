"""Outputs are whole or absent, and checked before the work."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from emitter.core.errors import EmitterError
from emitter.io.files import open_alone, prepare_output, replacing, writing


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(ValueError, match="half way"), replacing(path) as temporary:
        temporary.write_text("half")
        raise ValueError("half way")
    assert path.read_text() == "old"
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_output_folder_is_made_and_checked(tmp_path: Path) -> None:
    path = prepare_output(tmp_path / "a" / "b" / "locs.csv")
    assert list(path.parent.iterdir()) == []
    with pytest.raises(EmitterError, match="is a folder"):
        prepare_output(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(EmitterError, match=r"cannot be written .*output="):
        prepare_output(tmp_path / "file" / "locs.csv")


def test_two_do_not_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "table.csv.partial"
    with open_alone(path) as file:
        file.write(b"row\n")
        file.flush()
        with pytest.raises(EmitterError, match=r"being written by another program: .*output="):
            open_alone(path)
    with open_alone(path) as file:
        assert file.read() == b"row\n"


_WRITER = """
import sys, time
from pathlib import Path
from emitter.io.files import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print("half", flush=True)
    time.sleep(60)
"""


@contextmanager
def half_way(path: Path) -> Iterator[subprocess.Popen]:
    """Another process in the middle of writing the path."""
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, path], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "half\n"
        yield process
        process.kill()


def test_what_a_killed_writer_left_is_removed_and_a_living_ones_is_not(tmp_path: Path) -> None:
    path = tmp_path / "table [1].csv"
    with half_way(path) as living:
        with half_way(path) as killed:
            os.kill(killed.pid, signal.SIGKILL)
        assert killed.returncode == -signal.SIGKILL
        left = {
            pid: tmp_path / f".{path.name}.{platform.node()}.{pid}.tmp" for pid in (killed.pid, living.pid)
        }
        elsewhere = tmp_path / f".{path.name}.another-computer.{killed.pid}.tmp"
        others = [tmp_path / f".more {left[killed.pid].name[1:]}", tmp_path / f".{path.name}.mine.tmp"]
        for file in (elsewhere, *others):
            file.write_text("not of this path, or not of this computer")
        assert set(tmp_path.iterdir()) == {*left.values(), elsewhere, *others}
        with replacing(path) as temporary:
            temporary.write_text("new")
        assert set(tmp_path.iterdir()) == {path, left[living.pid], elsewhere, *others}
    assert path.read_text() == "new"


def test_a_disk_that_is_full_is_said_with_the_files_name(tmp_path: Path) -> None:
    """numpy's error when a disk is full has no number."""
    with (
        pytest.raises(EmitterError, match=r"a\.tif cannot be written \(9 requested.*make room on its disk"),
        writing(tmp_path / "a.tif") as temporary,
    ):
        temporary.write_text("part")
        raise OSError("9 requested and 4 written")
    assert not list(tmp_path.iterdir())
