"""Picasso itself reads what we write. Needs the extra ``picasso``, which the development environment is without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emitter.core.table import PRECISION_COLUMNS, EmitterTable
from emitter.core.units import PixelSize
from emitter.io.acquisition import Acquisition
from emitter.io.tables import read_table, read_table_of, write_table

picasso_io = pytest.importorskip(
    "picasso.io", reason="Picasso is not installed: pip install emitter[picasso]"
)

MOVIE = Acquisition(PixelSize.of(110), (200, 300), 1000)
UNIT = 110 if hasattr(picasso_io, "LOCS_FORMAT_VERSION") else 1  # Picasso 1 has nm in place of pixels


def some_table(n: int = 500) -> EmitterTable:
    """Partly outside the frame, partly unknown."""
    rng = np.random.default_rng(1)
    columns = {name: rng.exponential(20, n) for name in ("z_nm", "photons", "background", *PRECISION_COLUMNS)}
    for column in columns.values():
        column[rng.uniform(size=n) < 0.1] = np.nan
    x_nm, y_nm = rng.uniform(-300, 33_300, n), rng.uniform(-300, 22_300, n)
    return EmitterTable.of(rng.integers(0, 1000, n), x_nm=x_nm, y_nm=y_nm, **columns)


def test_picasso_keeps_every_row_and_value(tmp_path: Path) -> None:
    table = some_table()
    write_table(tmp_path / "locs.hdf5", table, acquisition=MOVIE)
    locs, information = picasso_io.load_locs(str(tmp_path / "locs.hdf5"))
    inside = (np.abs(table.x_nm / 110 - 150.5) < 150) & (np.abs(table.y_nm / 110 - 100.5) < 100)
    expected = table.select(inside)
    assert 0 < len(expected) < len(table)
    assert len(locs) == len(expected)
    assert (information[0]["Width"], information[0]["Height"], information[0]["Frames"]) == (
        300,
        200,
        1000,
    )
    np.testing.assert_array_equal(locs["frame"], expected.frame)
    np.testing.assert_allclose(locs["x"] / UNIT, expected.x_nm / 110 - 0.5, atol=4e-5)
    np.testing.assert_allclose(locs["y"] / UNIT, expected.y_nm / 110 - 0.5, atol=4e-5)
    for theirs, ours in (
        ("z", expected.z_nm),
        ("lpz", expected.precision_z_nm),
        ("photons", expected.photons),
        ("bg", expected.background),
        ("lpx", expected.precision_x_nm / 110 * UNIT),
    ):
        known = np.isfinite(ours)
        np.testing.assert_allclose(locs[theirs][known], ours[known], rtol=1e-6)


def test_the_frames_last_pixels_are_kept(tmp_path: Path) -> None:
    """Picasso's pixel centres are integers: it counts [0, Width), half a pixel short and half a pixel over."""
    x_nm = np.array([54.9, 55.0, 300 * 110 - 0.1, 300 * 110 + 54.9, 300 * 110 + 55.1])
    write_table(
        tmp_path / "locs.hdf5", EmitterTable.of([0] * 5, x_nm=x_nm, y_nm=[500.0] * 5), acquisition=MOVIE
    )
    locs, _ = picasso_io.load_locs(str(tmp_path / "locs.hdf5"))
    np.testing.assert_allclose(locs["x"] / UNIT, x_nm[1:4] / 110 - 0.5, atol=1e-4)


def test_an_empty_table(tmp_path: Path) -> None:
    write_table(tmp_path / "locs.hdf5", EmitterTable.empty(), acquisition=MOVIE)
    locs, _ = picasso_io.load_locs(str(tmp_path / "locs.hdf5"))
    assert len(locs) == 0


def test_we_read_what_picasso_writes(tmp_path: Path) -> None:
    write_table(tmp_path / "ours.hdf5", some_table(), acquisition=MOVIE)
    locs, information = picasso_io.load_locs(str(tmp_path / "ours.hdf5"))
    picasso_io.save_locs(str(tmp_path / "theirs.hdf5"), locs, information)
    ours, (theirs, acquisition) = read_table(tmp_path / "ours.hdf5"), read_table_of(tmp_path / "theirs.hdf5")
    assert acquisition == MOVIE
    assert theirs.columns().keys() == ours.columns().keys()
    for name, column in ours.columns().items():
        np.testing.assert_allclose(theirs.columns()[name], column, rtol=1e-6, atol=4e-3, err_msg=name)
