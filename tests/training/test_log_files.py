"""The CSV log against what was logged, over lives, kills and new columns."""

import csv
import errno
import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emitter.training.log_files import CsvLog

ROWS = st.lists(
    st.dictionaries(st.sampled_from("abcd"), st.floats(allow_nan=False, allow_infinity=False), min_size=1),
    min_size=1,
)


def logged(log: CsvLog, rows: list[dict[str, float]], saves: list[int], first: int = 0) -> None:
    for i, row in enumerate(rows, first):
        log.log_metrics(row, step=i)
        if i in saves:
            log.save()


def same(path, rows: list[dict[str, float]]) -> None:
    table = pd.read_csv(path)
    assert len(table) == len(rows) and table["step"].tolist() == list(range(len(rows)))
    for i, row in enumerate(rows):
        found = {name: value for name, value in table.loc[i].drop("step").items() if not math.isnan(value)}
        assert found == pytest.approx(row, rel=1e-12, abs=1e-300)


@given(ROWS, st.lists(st.integers(0, 20)), ROWS, st.data())
def test_a_later_life_goes_on_after_the_rows_of_its_checkpoint(tmp_path_factory, rows, saves, later, data):
    path = tmp_path_factory.mktemp("log") / "metrics.csv"
    first = CsvLog(path)
    first.begin(0)
    logged(first, rows, saves)
    first.save()
    same(path, rows)
    kept = data.draw(st.integers(0, len(rows)))
    second = CsvLog(path)
    second.begin(kept)
    assert second.n_rows == kept
    logged(second, later, saves, first=kept)
    assert second.n_rows == kept + len(later)
    second.save()
    same(path, rows[:kept] + later)


def test_half_a_row_at_the_end_is_left_out(tmp_path):
    path = tmp_path / "metrics.csv"
    log = CsvLog(path)
    logged(log, [{"a": 1.5}, {"a": 2.5}], [1])
    path.write_text(path.read_text() + "17,3.2")  # killed while writing 3.25
    log = CsvLog(path)
    log.begin(3)
    assert log.n_rows == 2
    same(path, [{"a": 1.5}, {"a": 2.5}])


def test_a_new_run_in_an_old_folder_begins_anew(tmp_path):
    path = tmp_path / "metrics.csv"
    logged(CsvLog(path), [{"a": 1.0}], [0])
    log = CsvLog(path)
    log.begin(0)
    logged(log, [{"b": 2.0}], [0])
    same(path, [{"b": 2.0}])


def test_a_full_disk_cuts_no_row(tmp_path, monkeypatch):
    log = CsvLog(tmp_path / "metrics.csv")
    log.log_metrics({"a": 1.0}, 0)
    log.save()
    whole = log.path.read_text()

    class Full(csv.DictWriter):
        def writerows(self, rows):
            self.writer.writerow(["1", "2"])
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("emitter.training.log_files.csv.DictWriter", Full)
    log.log_metrics({"a": 2.0}, 1)
    with pytest.raises(OSError, match="No space"):
        log.save()
    assert log.path.read_text() == whole
