"""The programs after localization, as a user runs them: from file to file, and the sentences on wrong input."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from emitter.app import filter as filter_program
from emitter.core.errors import EmitterError
from emitter.core.table import EmitterTable
from emitter.io.tables import read_table, write_table

REPOSITORY = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def locs(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    table = EmitterTable.of(
        np.sort(rng.integers(0, 50, 400)),
        x_nm=rng.uniform(0, 3000, 400),
        y_nm=rng.uniform(0, 2000, 400),
        z_nm=rng.uniform(-300, 300, 400),
        photons=rng.uniform(100, 3000, 400),
        precision_x_nm=rng.uniform(5, 20, 400),
        precision_y_nm=rng.uniform(5, 20, 400),
    )
    write_table(tmp_path / "locs.csv", table)
    return tmp_path / "locs.csv"


def test_filter_takes_an_expression_as_it_is_typed(locs: Path) -> None:
    where = "where=precision_x_nm < 15 and photons > 500"
    command = [sys.executable, str(REPOSITORY / "filter.py"), f"localizations={locs}", "output=kept.csv"]
    done = subprocess.run([*command, where], cwd=locs.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "wrote kept.csv" in done.stdout
    kept, table = read_table(locs.parent / "kept.csv"), read_table(locs)
    assert table.precision_x_nm is not None
    assert len(kept) == np.sum((table.precision_x_nm < 15) & (table.photons > 500)) > 0


def test_a_wrong_expression_leaves_no_file(locs: Path) -> None:
    settings = filter_program.Settings(localizations=locs, output=locs.parent / "kept.csv", where="phot > 1")
    with pytest.raises(EmitterError, match="there are frame, x_nm"):
        filter_program.run(settings)
    assert [path.name for path in locs.parent.iterdir()] == ["locs.csv"]
