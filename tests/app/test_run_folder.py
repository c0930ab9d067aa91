"""A run leaves one folder: its own."""

from __future__ import annotations

import pytest
from tiny import train


@pytest.mark.parametrize("folder", ["run_dir=mine", "hydra.run.dir=mine"])
def test_a_named_folder_is_the_only_one(tmp_path, folder) -> None:
    ended = train(tmp_path, folder, "budget.steps=1")
    assert ended.returncode == 0, ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert (tmp_path / "mine" / "config.yaml").is_file()


@pytest.mark.parametrize("wrong", ["resume=none", "run_dir=file/run"])
def test_a_folder_that_cannot_be_is_not_made(tmp_path, wrong) -> None:
    (tmp_path / "file").write_text("")
    ended = train(tmp_path, wrong)
    assert ended.returncode == 2 and ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
