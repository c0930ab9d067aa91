"""Outputs are whole or absent, and checked before the work."""

from __future__ import annotations

from pathlib import Path

import pytest

from emitter.core.errors import EmitterError
from emitter.io.files import open_alone, prepare_output, replacing


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
