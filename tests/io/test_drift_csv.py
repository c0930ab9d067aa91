"""A drift as csv: round trips, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emitter.core.errors import EmitterError
from emitter.io.drift_csv import read_drift, write_drift


@pytest.mark.parametrize("axes", [("x_nm", "y_nm"), ("x_nm", "y_nm", "z_nm")])
def test_what_is_written_is_read(tmp_path: Path, axes: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    drift = {axis: rng.normal(0, 100, 30) for axis in axes}
    write_drift(tmp_path / "drift.csv", 7, drift)
    first, read = read_drift(tmp_path / "drift.csv")
    assert first == 7 and tuple(read) == axes
    for axis in axes:
        np.testing.assert_allclose(read[axis], drift[axis], atol=6e-4)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "frame,drift_x_nm\n0,1\n",
        "frame,drift_x_nm,drift_y_nm\n",
        "frame,drift_x_nm,drift_y_nm\n0,1,2\n0,1,2\n",
        "frame,drift_x_nm,drift_y_nm\n0,1,far\n",
        "frame,drift_x_nm,drift_y_nm\n0,1,\n",
    ],
)
def test_what_is_no_drift_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "drift.csv").write_text(text)
    with pytest.raises(EmitterError, match=r"drift.csv is no drift: give a csv with the columns frame"):
        read_drift(tmp_path / "drift.csv")


def test_a_stray_frame_is_told(tmp_path: Path) -> None:
    (tmp_path / "drift.csv").write_text("frame,drift_x_nm,drift_y_nm\n0,1,2\n2000000000,1,2\n")
    with pytest.raises(EmitterError, match=r"drift.csv spans the frames 0 to 2000000000, more than"):
        read_drift(tmp_path / "drift.csv")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EmitterError, match=r"other.csv does not exist: check the path"):
        read_drift(tmp_path / "other.csv")
