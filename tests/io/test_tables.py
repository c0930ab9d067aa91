"""Tables: round trips, real files, and locan as an independent reader."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from emitter.core.errors import EmitterError
from emitter.core.table import PRECISION_COLUMNS, EmitterTable
from emitter.core.units import PixelSize
from emitter.io import csv_tables
from emitter.io.acquisition import Acquisition
from emitter.io.tables import read_parts, read_table, write_parts, write_table
from emitter.io.thunderstorm import TableWriter, write_rows


@st.composite
def tables(draw: st.DrawFn) -> EmitterTable:
    n = draw(st.integers(0, 12))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    columns = {
        "x_nm": rng.normal(0, 1e4, n),
        "y_nm": rng.normal(0, 1e4, n),
        "photons": rng.exponential(3e3, n),
    }
    if draw(st.booleans()):
        columns["z_nm"] = rng.normal(0, 300, n)
    if draw(st.booleans()):
        columns["precision_x_nm"] = rng.exponential(10, n)
    return EmitterTable.of(rng.integers(0, 99, n), probability=rng.uniform(0, 1, n), **columns)


def equal(a: EmitterTable, b: EmitterTable, atol: float = 0.0) -> None:
    assert a.columns().keys() == b.columns().keys()
    for name, column in a.columns().items():
        np.testing.assert_allclose(b.columns()[name], column, rtol=1e-14 if atol == 0 else 0, atol=atol)


@given(table=tables())
def test_own_csv_round_trip_is_exact(tmp_path: Path, table: EmitterTable) -> None:
    write_table(tmp_path / "table.csv", table)
    equal(table, read_table(tmp_path / "table.csv"))


@given(table=tables(), cut=st.integers(0, 12))
def test_thunderstorm_round_trip(tmp_path: Path, table: EmitterTable, cut: int) -> None:
    table = table.with_columns(background=np.full(len(table), 12.5), z_nm=np.nan_to_num(table.z_nm))
    path = tmp_path / "locs.csv"
    with TableWriter(path, with_z=True) as writer:
        writer.write(table.select(np.arange(len(table)) < cut))
        writer.write(table.select(np.arange(len(table)) >= cut))
    known = {k: v for k, v in table.columns().items() if not k.startswith("precision")}
    equal(EmitterTable(**known), read_table(path), atol=5.1e-5)
    assert not writer.partial_path.exists()


def _write(path: Path, with_z: bool, n: int = 3) -> EmitterTable:
    table = EmitterTable.of(
        np.arange(n) * 2,
        x_nm=np.arange(n) + 0.5,
        y_nm=np.arange(n) + 1.5,
        z_nm=np.arange(n) - 1.0,
        photons=np.full(n, 900.0),
        background=np.full(n, 20.0),
        probability=np.full(n, 0.75),
    )
    with TableWriter(path, with_z=with_z) as writer:
        writer.write(table)
    return table


def test_thunderstorm_header_is_exact(tmp_path: Path) -> None:
    _write(tmp_path / "3d.csv", with_z=True)
    _write(tmp_path / "2d.csv", with_z=False)
    first_line = (tmp_path / "3d.csv").read_text().splitlines()
    assert first_line[0] == (
        '"id","frame","x [nm]","y [nm]","z [nm]","intensity [photon]","offset [photon]","probability"'
    )
    assert first_line[1].split(",")[:3] == ["1", "1", "0.5000"]  # ids and frames from 1
    assert '"z [nm]"' not in (tmp_path / "2d.csv").read_text()
    assert np.isnan(read_table(tmp_path / "2d.csv").z_nm).all()


@given(
    st.lists(
        st.floats(-1e10, 1e10) | st.sampled_from([np.nan, np.inf, -np.inf, 0.00005, 0.5, 1e9]),
        min_size=1,
        max_size=30,
    )
)
def test_cells_are_formatted_as_python_does(values: list[float]) -> None:
    column, written = np.array(values).round(4), io.BytesIO()
    write_rows(written, {"id": np.arange(len(values)), "value": column})
    expected = [f"{i},{value + 0.0:.4f}\n".replace("nan", "NaN") for i, value in enumerate(column)]
    assert written.getvalue().decode() == "".join(expected)


def test_blocks_and_a_whole_table_are_written_alike(tmp_path: Path) -> None:
    n, rng = 40, np.random.default_rng(1)
    names = ("x_nm", "y_nm", "z_nm", "photons", "background", "probability", *PRECISION_COLUMNS)
    columns = {name: rng.exponential(100, n).round(4) for name in names}
    columns["precision_z_nm"][3] = np.nan
    table = EmitterTable.of(rng.integers(0, 9, n), **columns)
    with TableWriter(tmp_path / "blocks.csv", with_z=True, with_precision=True) as writer:
        for rows in (slice(0, 7), slice(7, 7), slice(7, n)):
            writer.write(table.select(rows))
    write_table(tmp_path / "whole.csv", table, "thunderstorm")
    assert (tmp_path / "blocks.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.parametrize("n", [0, 3])
@pytest.mark.parametrize("with_z", [False, True])
def test_locan_reads_what_we_write(tmp_path: Path, with_z: bool, n: int) -> None:
    locan = pytest.importorskip("locan", reason="locan is not installed: pip install locan")
    table = _write(tmp_path / "locs.csv", with_z, n)
    data = locan.load_thunderstorm_file(tmp_path / "locs.csv").data
    assert len(data) == n
    if n:
        np.testing.assert_allclose(data["position_x"], table.x_nm)
        np.testing.assert_allclose(data["intensity"], table.photons)
        np.testing.assert_array_equal(data["frame"], table.frame + 1)
        assert ("position_z" in data) == with_z
        np.testing.assert_allclose(data["probability"], 0.75)


@pytest.mark.parametrize(
    "name", ["locan_tables/Thunderstorm_dstorm_data.csv", "pyme_import_tests/ThunderSTORM_TS3D.csv"]
)
def test_we_read_what_locan_reads(data_dir: Path, name: str) -> None:
    locan = pytest.importorskip("locan", reason="locan is not installed: pip install locan")
    expected = locan.load_thunderstorm_file(data_dir / name).data
    table = read_table(data_dir / name)
    np.testing.assert_allclose(table.x_nm, expected["position_x"], rtol=1e-5)  # locan reads in float32
    np.testing.assert_allclose(table.photons, expected["intensity"], rtol=1e-5)
    np.testing.assert_array_equal(table.frame, expected["frame"] - 1)
    if "position_z" in expected:
        np.testing.assert_allclose(table.z_nm, expected["position_z"], rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(table.precision_z_nm, expected["uncertainty_z"], rtol=1e-5)
    assert table.precision_x_nm is not None


def test_challenge_truth(data_dir: Path) -> None:
    table = read_table(data_dir / "c16_mt0n1ld_as" / "activations_LD_frames_01-32.csv")
    assert len(table) == 48
    assert (table.frame[0], table.x_nm[0], table.y_nm[0], table.z_nm[0], table.photons[0]) == (
        5,
        1295.390,
        6068.141,
        572.108,
        1687.736,
    )
    assert (table.frame.min(), table.frame.max()) == (0, 31)
    assert np.isnan(table.background).all()


def test_dense_2d_truth(data_dir: Path) -> None:
    table = read_table(data_dir / "bthd2013" / "positions_demo1.csv")
    assert len(table) == 4956
    assert np.unique(table.frame).tolist() == list(range(20))
    assert np.isnan(table.z_nm).all()
    assert (table.background == 50).all()


def test_insight3_needs_a_pixel_size_and_whole_records(data_dir: Path, tmp_path: Path) -> None:
    path = data_dir / "storm_analysis" / "test_300x200_olist.bin"
    table = read_table(path, PixelSize(160, 80))
    assert (len(table), table.frame.min(), table.frame.max()) == (1000, 0, 9)
    assert table.x_nm.max() < 300 * 160
    assert table.y_nm.max() < 200 * 80
    with pytest.raises(EmitterError, match="pixel_size_nm"):
        read_table(path)
    (tmp_path / "cut.bin").write_bytes(path.read_bytes()[:3000])
    with pytest.raises(EmitterError, match="truncated"):
        read_table(tmp_path / "cut.bin", PixelSize.of(160))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["empty"]),
        (b"frame,a,b\n1,2,3\n", ["columns frame, a, b", "x_nm", "xnano", "x [nm]"]),
        (b"\x89PNG\r\n\x1a\n\0\0\0", ["not a table of text"]),
        (b"\x89HDF\r\n\x1a\n\0\0\0", ["cannot be read"]),
        (b"MATLAB 5.0 MAT-file\0\0", ["before 7.3"]),
        (b"PAR1\0\0\0", ["cannot be read"]),
        (b"M425\0\0", ["pixel_size_nm"]),
        (b"frame,x_nm,y_nm\n0,1.5,two\n", ["row 1", "'two'", "y_nm"]),
        (b"frame,x_nm,y_nm\n0,1.5,2\n1,,2\n", ["row 2", "no number", "x_nm"]),
        (b"frame,x_nm,y_nm\n0,1,2\n0.5,1,2\n", ["row 2", "frame 0.5"]),
        (b"frame,xnano,ynano\n0,1,2\n", ["frame 0", "from 1"]),
        (b"frame,x_nm,y_nm\n1,1,5,2,5\n2,2,5,3,5\n", ["row 1", "5 cells", "header 3", "decimal"]),
        (b"frame,x_nm,y_nm\n1,1,5\n2,2,3,5\n", ["row 2", "4 cells", "decimal"]),
        (b"frame,x_nm,y_nm\n1,1,5,,2\n", ["row 1", "5 cells"]),
        (b"frame,x_nm,y_nm,z_nm,photons\n1,1,5,2,9\n2,1,10,2", ["row 2", "4 cells", "header 5", "cut off"]),
        (b'frame,x_nm,y_nm,label\n1,1,5,"a,b"\n2,1\n3,1,5,a\n', ["row 2", "2 cells", "header 4", "cut off"]),
        (b'label,frame,x_nm,y_nm\n"a,b",2,1\n', ["row 1", "3 cells", "header 4", "cut off"]),
        (b"frame;x_nm;y_nm\n1;1,5;2,5\n", ["row 1", "'1,5'", "decimal point"]),
        (b"frame,x_nm,y_nm,frame\n1,1,2,1\n", ["'frame' twice"]),
        (b"frame,x_nm,y_nm\n0,1,2\n1e30,1,2\n", ["row 2", "frame 1e+30", "2147483647"]),
        (b"frame,x_nm,y_nm\n2147483648,1,2\n", ["row 1", "2147483647"]),
    ],
)
def test_wrong_tables_are_refused_in_one_sentence(tmp_path: Path, content: bytes, words: list[str]) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(EmitterError) as caught:
        read_table(path)
    assert "table.csv" in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("surplus", [[], [""], ["", " "]], ids=len)
def test_separators_and_blank_cells_beyond_the_header(
    tmp_path: Path, separator: str, surplus: list[str]
) -> None:
    rows = [
        ["frame", "x_nm", "y_nm", "z_nm"],
        ["3", "1.5", "2.5", "", *surplus],
        ["2147483647", "3.5", "4.5", "7"],
        ["4", "5.5", "6.5", ""],
    ]
    (tmp_path / "table.csv").write_text("\n".join(separator.join(row) for row in rows) + "\n")
    table = read_table(tmp_path / "table.csv")
    assert table.frame.tolist() == [3, 2**31 - 1, 4]
    assert table.x_nm.tolist() == [1.5, 3.5, 5.5]
    np.testing.assert_array_equal(table.z_nm, [np.nan, 7, np.nan])


@given(
    table=tables(),
    separator=st.sampled_from([",", ";", "\t"]),
    quote=st.sampled_from(["", '"', '""']),
    blank=st.sampled_from(["", " "]),
    surplus=st.sampled_from(["", "one", "all"]),
)
def test_a_csv_however_it_is_written(
    tmp_path: Path, table: EmitterTable, separator: str, quote: str, blank: str, surplus: str
) -> None:
    """Even rows go through one reader and uneven ones through another: both find what was written."""
    columns = table.columns()
    header = separator.join(f"{quote}{name}{quote}" for name in columns)
    rows = []
    for i in range(len(table)):
        cells = ["" if np.isnan(column[i]) else f"{blank}{float(column[i])!r}" for column in columns.values()]
        rows.append(separator.join(cells) + (separator if surplus == "all" or (surplus and i == 1) else ""))
    (tmp_path / "table.csv").write_text("\n".join([header, *rows]) + "\n")
    equal(table, read_table(tmp_path / "table.csv"), atol=1e-9)


def test_columns_without_a_name_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(",frame,x_nm,y_nm,,\n7,0,1,2,,\n8,1,3,4,,9\n9,2,5,6\n")
    table = read_table(tmp_path / "table.csv")
    assert (table.frame.tolist(), table.x_nm.tolist(), table.y_nm.tolist()) == (
        [0, 1, 2],
        [1, 3, 5],
        [2, 4, 6],
    )


@pytest.mark.parametrize("surplus", ["", ","])
def test_columns_that_are_not_ours_may_hold_words(tmp_path: Path, surplus: str) -> None:
    (tmp_path / "table.csv").write_text(f"label,frame,x_nm,y_nm\nactin,0,1,2{surplus}\ntubulin,1,3,4\n")
    table = read_table(tmp_path / "table.csv")
    assert (table.frame.tolist(), table.x_nm.tolist(), table.y_nm.tolist()) == ([0, 1], [1, 3], [2, 4])


@pytest.mark.parametrize("ending", [".hdf5", ".h5", ".smlm"])
def test_a_column_that_a_format_has_no_place_for_is_told(
    tmp_path: Path, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    linked = EmitterTable.of([0, 3], x_nm=[100.0, 200.0], y_nm=[100.0, 300.0], n_frames=[2, 5])
    write_table(tmp_path / f"a{ending}", linked, None, Acquisition(PixelSize.of(100.0), (9, 9), 4))
    assert "no place for the column n_frames" in caplog.text


def test_thunderstorm_keeps_how_many_frames_were_merged(tmp_path: Path) -> None:
    linked = EmitterTable.of([0, 3], x_nm=[100.0, 200.0], y_nm=[100.0, 300.0], n_frames=[2, 5])
    write_table(tmp_path / "a.csv", linked, "thunderstorm")
    assert '"detections"' in (tmp_path / "a.csv").read_text()
    assert read_table(tmp_path / "a.csv").columns()["n_frames"].tolist() == [2, 5]


def test_numbers_that_are_none_of_a_table_are_told(tmp_path: Path) -> None:
    table = EmitterTable.of([0], x_nm=[1e36], y_nm=[0.0])
    with pytest.raises(EmitterError, match="beyond 1e33"):
        write_table(tmp_path / "a.csv", table, "thunderstorm")
    assert not list(tmp_path.iterdir())


def test_a_column_that_is_there_twice_is_told(tmp_path: Path) -> None:
    columns = [pa.array([0]), pa.array([1.0]), pa.array([2.0]), pa.array([3.0])]
    parquet.write_table(pa.table(columns, names=["frame", "x_nm", "x_nm", "y_nm"]), tmp_path / "a.parquet")
    with pytest.raises(EmitterError, match="cannot be read"):
        read_table(tmp_path / "a.parquet")


def test_a_table_that_vanishes_while_it_is_read_is_told_as_such(tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", EmitterTable.of([0], x_nm=[1.0], y_nm=[0.0]))
    parts, _ = read_parts(tmp_path / "a.csv")
    (tmp_path / "a.csv").unlink()
    with pytest.raises(EmitterError, match=r"table .*a.csv cannot be read"):
        write_parts(tmp_path / "b.parquet", parts)


def test_missing_table(tmp_path: Path) -> None:
    with pytest.raises(EmitterError, match=r"nope\.csv does not exist"):
        read_table(tmp_path / "nope.csv")
    with pytest.raises(EmitterError, match="is a folder: give the name of a file in it"):
        read_table(tmp_path)


@pytest.mark.parametrize("kept", [0.3, 0.99])
def test_a_smlm_file_that_is_cut_off_is_told_as_damaged(tmp_path: Path, kept: float) -> None:
    write_table(tmp_path / "a.smlm", EmitterTable.of(range(500), x_nm=range(500), y_nm=range(500)))
    whole = (tmp_path / "a.smlm").read_bytes()
    (tmp_path / "a.smlm").write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(EmitterError, match=r"a\.smlm cannot be read \(.*copy or write it again"):
        read_table(tmp_path / "a.smlm")


def test_an_empty_truth_is_a_table(tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text("Ground-truth,frame,xnano,ynano,znano,intensity \n")
    assert len(read_table(tmp_path / "truth.csv")) == 0


def test_an_interrupted_writer_keeps_what_it_has_under_another_name(tmp_path: Path) -> None:
    path = tmp_path / "locs.csv"
    path.write_text("the result of an earlier run")
    with pytest.raises(KeyboardInterrupt), TableWriter(path, with_z=True) as writer:
        writer.write(
            EmitterTable.of([4], x_nm=[1.0], y_nm=[2.0], z_nm=[3.0], photons=[4.0], background=[5.0])
        )
        raise KeyboardInterrupt
    assert path.read_text() == "the result of an earlier run"
    assert read_table(writer.partial_path).frame.tolist() == [4]
    with pytest.raises(RuntimeError), TableWriter(tmp_path / "nothing.csv", with_z=True):
        raise RuntimeError
    assert sorted(p.name for p in tmp_path.iterdir()) == ["locs.csv", "locs.csv.partial"]


@pytest.mark.parametrize("with_precision", [False, True])
@pytest.mark.parametrize("with_z", [False, True])
def test_parts_of_a_written_table_are_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_z: bool, with_precision: bool
) -> None:
    random = np.random.default_rng(0)
    names = ("x_nm", "y_nm", "z_nm", "photons", "background", "probability")
    columns = {name: random.normal(1000, 300, 5000) for name in (*names, *PRECISION_COLUMNS)}
    columns["photons"][7] = np.nan
    table = EmitterTable.of(np.sort(random.integers(0, 500, 5000)), **columns)
    with TableWriter(tmp_path / "locs.csv", with_z, with_precision) as writer:
        writer.write(table)
    monkeypatch.setattr(csv_tables, "_PART_BYTES", 1 << 16)
    parts = list(read_parts(tmp_path / "locs.csv")[0])
    assert len(parts) > 3
    equal(EmitterTable.concatenate(parts), read_table(tmp_path / "locs.csv"), atol=0)
    with TableWriter(tmp_path / "none.csv", with_z, with_precision):
        pass
    assert sum(len(part) for part in read_parts(tmp_path / "none.csv")[0]) == 0
