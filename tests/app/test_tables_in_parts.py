"""filter.py and render.py go through a table part by part: what they make is what the whole table at once gives."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from emitter.analysis.filtering import filtered
from emitter.app import drawn_rows, render
from emitter.app import filter as filter_program
from emitter.core.errors import EmitterError
from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize
from emitter.io import csv_tables
from emitter.io import parquet as our_parquet
from emitter.io import parts as table_parts
from emitter.io.acquisition import Acquisition
from emitter.io.parts import Parts
from emitter.io.tables import read_parts, read_table, write_table
from emitter.plots.superres import SuperResImage

ENDINGS = (".csv", ".parquet", ".hdf5", ".h5", ".smlm")


@pytest.fixture
def rows() -> EmitterTable:
    rng = np.random.default_rng(4)
    return EmitterTable.of(
        np.sort(rng.integers(0, 90, 700)),
        x_nm=rng.uniform(100, 3000, 700),
        y_nm=rng.uniform(100, 2000, 700),
        z_nm=rng.normal(0, 150, 700),
        photons=rng.uniform(100, 3000, 700),
        precision_x_nm=rng.uniform(5, 20, 700),
        precision_y_nm=rng.uniform(5, 20, 700),
    )


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_tables, "_PART_BYTES", 1 << 12)
    for module in (table_parts, our_parquet):
        monkeypatch.setattr(module, "BLOCK_ROWS", 50)
    monkeypatch.setattr(drawn_rows, "_BLOCK", 64)


def written(folder: Path, rows: EmitterTable, ending: str) -> Path:
    path = folder / f"locs{ending}"
    write_table(path, rows, acquisition=Acquisition(PixelSize.of(100.0), (30, 40), 90))
    return path


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_rows_that_are_kept_are_those_of_the_whole_table(
    tmp_path: Path, rows: EmitterTable, ending: str
) -> None:
    locs = written(tmp_path, rows, ending)
    if ending != ".smlm":  # which is read at once
        assert len(list(read_parts(locs)[0])) > 5
    where, output = "precision_x_nm < 15 and photons > 500", tmp_path / "kept.parquet"
    told = filter_program.run(filter_program.Settings(localizations=locs, output=output, where=where))
    expected, kept = filtered(read_table(locs), where), read_table(output)
    assert told == {"output": output, "n_emitters": len(expected)} and 0 < len(expected) < 700
    assert kept.columns().keys() == expected.columns().keys()
    for name, column in expected.columns().items():
        np.testing.assert_array_equal(kept.columns()[name], column)


def test_a_filter_that_leaves_nothing_says_which_column_holds_nothing(
    tmp_path: Path, rows: EmitterTable, caplog: pytest.LogCaptureFixture
) -> None:
    locs = written(tmp_path, rows.with_columns(z_nm=np.full(700, np.nan)), ".csv")
    filter_program.run(
        filter_program.Settings(
            localizations=locs, output=tmp_path / "a.csv", where="z_nm < 0 and photons > 0"
        )
    )
    assert "no row is left: z_nm holds no values" in caplog.text
    assert len(read_table(tmp_path / "a.csv")) == 0


def test_a_row_that_is_wrong_far_down_leaves_no_file(tmp_path: Path, rows: EmitterTable) -> None:
    locs = written(tmp_path, rows, ".csv")
    locs.write_text(locs.read_text() + locs.read_text().splitlines()[-1].replace(",", ",x", 1) + "\n")
    settings = filter_program.Settings(localizations=locs, output=tmp_path / "a.csv", where="photons > 5")
    for program, wrong in ((filter_program, settings), (render, drawn(locs, "a.png"))):
        with pytest.raises(EmitterError, match="row 701 of"):
            program.run(wrong)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == [locs]


@pytest.mark.parametrize("program", ["filter", "render"])
def test_a_table_without_rows_is_told(tmp_path: Path, program: str) -> None:
    locs = written(tmp_path, EmitterTable.empty(), ".csv")
    with pytest.raises(EmitterError, match="has no rows"):
        if program == "render":
            render.run(drawn(locs, "a.png"))
        else:
            output = tmp_path / "a.csv"
            filter_program.run(filter_program.Settings(localizations=locs, output=output, where="x_nm > 0"))
    assert list(tmp_path.iterdir()) == [locs]


def drawn(locs: Path, name: str, **more) -> render.Settings:
    return render.Settings(localizations=locs, output=locs.parent / name, **more)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("style", ["histogram", "gaussian"])
def test_images_are_those_of_the_whole_table(
    tmp_path: Path, rows: EmitterTable, ending: str, style: Literal["histogram", "gaussian"]
) -> None:
    locs = written(tmp_path, rows, ending)
    region = (200.0, 300.0, 1700.0, 1500.0)
    table = read_table(locs)
    x_in, y_in = (table.x_nm >= 200) & (table.x_nm < 1700), (table.y_nm >= 300) & (table.y_nm < 1500)
    inside = table.select(x_in & y_in)
    z_nm = np.percentile(inside.z_nm, (0.5, 99.5)) / 10
    colours_nm = (np.floor(z_nm[0]) * 10, np.ceil(z_nm[1]) * 10)
    whole = SuperResImage((1500, 1200), 10, colours_nm, style, region[:2])
    for start in range(0, len(inside), 64):
        whole.add(inside.select(slice(start, start + 64)))
    whole.save(tmp_path / "whole.png")
    counts = render.run(drawn(locs, "parts.png", style=style, region_nm=region))
    np.testing.assert_array_equal(counts, whole.counts())
    assert (tmp_path / "parts.png").read_bytes() == (tmp_path / "whole.png").read_bytes()
    stack = render.run(drawn(locs, "stack.tif", style=style, region_nm=region, z_step_nm=100))
    # Gaussians end at 4 standard deviations or later, by what is drawn with them
    np.testing.assert_allclose(stack.sum(axis=0), counts, rtol=1e-5, atol=1e-4)


def test_rows_are_drawn_in_the_same_blocks_however_the_table_is_parted(rows: EmitterTable) -> None:
    cuts = [0, 3, 3, 130, 131, 400, 700]
    parts = Parts.of(*(rows.select(slice(*ends)) for ends in zip(cuts[:-1], cuts[1:], strict=True)))
    whole, apart = (drawn_rows.DrawnRows(of, None, 12.0) for of in (Parts.of(rows), parts))
    assert [len(block) for block in apart.blocks()] == [len(block) for block in whole.blocks()]
    for one, other in zip(whole.blocks(), apart.blocks(), strict=True):
        np.testing.assert_array_equal(one.x_nm, other.x_nm)
        assert set(other.precision_x_nm) == {12.0}
    assert whole.seen().bounds(10) == apart.seen().bounds(10)
    assert whole.seen().z_range_nm() == apart.seen().z_range_nm()
