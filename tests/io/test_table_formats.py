"""Every format of tables: round trips, locan and hand-made files as independent witnesses, the real files."""

from __future__ import annotations

import json
import logging
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from emitter.core.errors import EmitterError, SettingsError
from emitter.core.table import PRECISION_COLUMNS, EmitterTable
from emitter.core.units import PixelSize
from emitter.io.acquisition import Acquisition
from emitter.io.tables import FORMATS, format_of, read_table, read_table_of, write_table

PIXEL = PixelSize.of(110.0)
FRAME_PX = (200, 300)
MOVIE = Acquisition(PIXEL, FRAME_PX, 1000)
# largest error of a value, absolute (nm) and relative: single precision of pixels, or the digits of the text
TOLERANCE = {
    "emitter": (0, 1e-15),
    "parquet": (0, 0),
    "thunderstorm": (5.1e-5, 0),
    "picasso": (2e-3, 3e-7),
    "decode": (2e-3, 3e-7),
    "smlm": (2e-3, 3e-7),
}


@st.composite
def tables(draw: st.DrawFn) -> EmitterTable:
    """Within the frame; any of the other columns may be there, wholly known or partly."""
    n = draw(st.integers(0, 12))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    columns = {
        "x_nm": rng.uniform(0.5, FRAME_PX[1], n) * PIXEL.x_nm,
        "y_nm": rng.uniform(0.5, FRAME_PX[0], n) * PIXEL.y_nm,
    }
    optional = {"z_nm": rng.normal(0, 300, n), "background": rng.exponential(50, n)}
    optional |= {name: rng.exponential(10, n) for name in ("photons", *PRECISION_COLUMNS)}
    for name, column in optional.items():
        if draw(st.booleans()):
            columns[name] = column
    if {"precision_x_nm", "precision_y_nm"} & columns.keys():
        columns |= {name: optional[name] for name in ("precision_x_nm", "precision_y_nm")}
    return EmitterTable.of(rng.integers(0, 999, n), probability=rng.uniform(0, 1, n), **columns)


def equal(expected: EmitterTable, found: EmitterTable, atol: float, rtol: float) -> None:
    """The same where something is known; a column of which nothing is known may be there or not."""
    assert len(expected) == len(found)
    unknown = np.full(len(expected), np.nan)
    np.testing.assert_array_equal(found.frame, expected.frame)
    for name in expected.columns().keys() | found.columns().keys():
        columns = [table.columns().get(name, unknown) for table in (found, expected)]
        np.testing.assert_allclose(*columns, atol=atol, rtol=rtol, err_msg=name)


def some_table(n: int = 40) -> EmitterTable:
    rng = np.random.default_rng(0)
    columns = {
        "x_nm": rng.uniform(0.5, FRAME_PX[1], n) * PIXEL.x_nm,
        "y_nm": rng.uniform(0.5, FRAME_PX[0], n) * PIXEL.y_nm,
        "z_nm": rng.normal(0, 300, n),
        "photons": rng.exponential(3e3, n) + 1,
        "background": rng.exponential(50, n),
        "probability": rng.uniform(0, 1, n),
    }
    precisions = {name: rng.uniform(1, 20, n) for name in PRECISION_COLUMNS}
    return EmitterTable.of(np.sort(rng.integers(0, 999, n)), **columns, **precisions)


@pytest.mark.parametrize("name", FORMATS)
@given(table=tables())
def test_round_trip(tmp_path: Path, name: str, table: EmitterTable) -> None:
    path = tmp_path / f"table{FORMATS[name].suffix}"
    write_table(path, table, name, MOVIE)
    found, acquisition = read_table_of(path)
    equal(table, found, *TOLERANCE[name])
    if name in ("picasso", "decode"):
        assert acquisition.pixel_size == PIXEL
    assert {one.suffix for one in tmp_path.iterdir()} <= {FORMATS[name].suffix, ".yaml"}


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"picasso"}))
def test_single_unknown_values_stay_unknown(tmp_path: Path, name: str) -> None:
    table = some_table()
    hole = {
        column: np.where(np.arange(40) == 3, np.nan, table.columns()[column])
        for column in ("z_nm", "photons")
    }
    path = tmp_path / f"table{FORMATS[name].suffix}"
    write_table(path, table.with_columns(**hole), name, MOVIE)
    equal(table.with_columns(**hole), read_table(path), *TOLERANCE[name])


def test_anisotropic_pixels(tmp_path: Path) -> None:
    size = PixelSize(117, 127)
    write_table(tmp_path / "table.h5", some_table(), acquisition=Acquisition(size))
    found, acquisition = read_table_of(tmp_path / "table.h5")
    assert acquisition.pixel_size == size
    equal(some_table(), found, *TOLERANCE["decode"])
    with pytest.raises(EmitterError, match="square pixels"):
        write_table(tmp_path / "table.hdf5", some_table(), acquisition=Acquisition(size))


# --- what locan finds in ours; it converts neither origins nor frames


def locan_columns(load: str, path: Path) -> pd.DataFrame:
    locan = pytest.importorskip("locan", reason="locan is not installed: pip install locan")
    return getattr(locan, load)(path).data


def test_locan_reads_our_thunderstorm_csv(tmp_path: Path) -> None:
    table = some_table()
    write_table(tmp_path / "table.csv", table, "thunderstorm")
    data = locan_columns("load_thunderstorm_file", tmp_path / "table.csv")
    np.testing.assert_array_equal(data["frame"], table.frame + 1)
    for theirs, ours in (
        ("position_x", table.x_nm),
        ("position_z", table.z_nm),
        ("intensity", table.photons),
    ):
        np.testing.assert_allclose(data[theirs], ours, atol=1e-4, rtol=1e-6)
    np.testing.assert_allclose(data["local_background"], table.background, atol=1e-4, rtol=1e-6)
    np.testing.assert_allclose(data["uncertainty_z"], table.precision_z_nm, atol=1e-4, rtol=1e-6)
    np.testing.assert_allclose(data["probability"], table.probability, atol=1e-4)


def test_locan_reads_our_smlm(tmp_path: Path) -> None:
    table = some_table()
    write_table(tmp_path / "table.smlm", table)
    data = locan_columns("load_SMLM_file", tmp_path / "table.smlm")
    np.testing.assert_array_equal(data["frame"], table.frame + 1)
    for theirs, ours in (
        ("position_x", table.x_nm),
        ("position_y", table.y_nm),
        ("position_z", table.z_nm),
        ("intensity", table.photons),
        ("local_background", table.background),
        ("probability", table.probability),
        ("x_precision", table.precision_x_nm),
    ):
        np.testing.assert_allclose(data[theirs], ours, rtol=1e-6)


def test_locan_reads_our_decode(tmp_path: Path) -> None:
    table = some_table()
    write_table(tmp_path / "table.h5", table, acquisition=MOVIE)
    data = locan_columns("load_decode_file", tmp_path / "table.h5")
    np.testing.assert_array_equal(data["frame"], table.frame)
    np.testing.assert_allclose(
        data["position_x"], table.y_nm / 110 - 0.5, rtol=1e-5, atol=1e-5
    )  # its x: the rows
    np.testing.assert_allclose(data["position_y"], table.x_nm / 110 - 0.5, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(data["position_z"], table.z_nm, rtol=1e-5)
    np.testing.assert_allclose(data["y_sig"], table.precision_x_nm / 110, rtol=1e-5)
    np.testing.assert_allclose(data["local_background"], table.background, rtol=1e-5)
    write_table(tmp_path / "empty.h5", EmitterTable.empty(), acquisition=MOVIE)
    assert len(locan_columns("load_decode_file", tmp_path / "empty.h5")) == 0


# --- what we find in real files, against locan


def test_real_smlm(data_dir: Path) -> None:
    path = data_dir / "locan_tables" / "SMLM_dstorm_data.smlm"
    expected, table = locan_columns("load_SMLM_file", path), read_table(path)
    np.testing.assert_array_equal(table.frame, expected["frame"])  # it has a frame 0
    np.testing.assert_allclose(table.x_nm, expected["position_x"])
    np.testing.assert_allclose(table.y_nm, expected["position_y"])
    np.testing.assert_allclose(table.photons, expected["intensity"])
    np.testing.assert_allclose(table.background, expected["local_background"])


def test_real_decode(data_dir: Path) -> None:
    path = data_dir / "locan_tables" / "decode_dstorm_data.h5"
    expected = locan_columns("load_decode_file", path)
    table, acquisition = read_table_of(path)
    assert acquisition.pixel_size == PixelSize(117, 127)  # the file says (rows, columns)
    np.testing.assert_array_equal(table.frame, expected["frame"])
    np.testing.assert_allclose(table.x_nm, (expected["position_y"] + 0.5) * 117, rtol=1e-5)
    np.testing.assert_allclose(table.y_nm, (expected["position_x"] + 0.5) * 127, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(table.precision_y_nm, expected["x_sig"] * 127, rtol=1e-5)
    np.testing.assert_allclose(table.photons, expected["intensity"], rtol=1e-6)
    assert len(read_table(path.with_name("decode_dstorm_data_empty.h5"))) == 0


def test_real_smap(data_dir: Path) -> None:
    path = data_dir / "locan_tables" / "smap_dstorm_data.mat"
    expected = locan_columns("load_SMAP_file", path)
    table, acquisition = read_table_of(path)
    assert acquisition.pixel_size == PixelSize.of(104)
    np.testing.assert_array_equal(table.frame, expected["frame"] - 1)
    np.testing.assert_allclose(table.x_nm / 104, expected["xpix"] - 0.5, rtol=1e-5)
    np.testing.assert_allclose(table.y_nm / 104, expected["ypix"] - 0.5, rtol=1e-5)
    np.testing.assert_allclose(table.precision_x_nm, expected["uncertainty_x"], rtol=1e-5)
    np.testing.assert_allclose(table.z_nm, expected["position_z"], rtol=1e-5)
    shifted = read_table(
        path, PixelSize.of(204)
    )  # the positions are in nm: only the half pixel depends on it
    np.testing.assert_allclose(table.x_nm - shifted.x_nm, 50)


def test_real_picasso(data_dir: Path) -> None:
    path = data_dir / "picasso" / "testdata_locs.hdf5"
    table, acquisition = read_table_of(path)
    assert acquisition == Acquisition(PixelSize.of(130), (32, 32), 1000)
    with h5py.File(path) as file:
        locs = file["locs"][()]
    np.testing.assert_allclose(table.x_nm / 130 - 0.5, locs["x"], rtol=1e-6)
    np.testing.assert_allclose(table.precision_y_nm / 130, locs["lpy"], rtol=1e-6)
    np.testing.assert_array_equal(table.frame, locs["frame"])
    assert np.isnan(table.z_nm).all()
    np.testing.assert_allclose(read_table(path, PixelSize.of(160)).x_nm, table.x_nm / 130 * 160)


# --- Picasso keeps every row


def kept_by_picasso(locs: np.ndarray, information: dict) -> np.ndarray:
    """The rule of picasso.lib.ensure_sanity, in its words: finite, within the frame, not negative."""
    kept = np.ones(len(locs), bool)
    for name in locs.dtype.names:
        kept &= np.isfinite(locs[name])
    kept &= (locs["x"] < information["Width"]) & (locs["y"] < information["Height"])
    for name in ("x", "y", "lpx", "lpy", "lpz", "photons"):
        if name in locs.dtype.names:
            kept &= locs[name] >= 0
    return kept


@given(seed=st.integers(0, 1000), known=st.booleans())
def test_picasso_keeps_what_is_written(tmp_path: Path, seed: int, known: bool) -> None:
    rng = np.random.default_rng(seed)
    n = 30
    bad = np.array([np.nan, np.inf, -1.0, 1e300, 5.0])

    def column() -> np.ndarray:
        return np.where(rng.uniform(size=n) < 0.5, rng.choice(bad, n), rng.exponential(50, n))

    names = ("z_nm", "photons", "background", "probability", *PRECISION_COLUMNS)
    columns = {name: column() for name in names if known or name == "probability"}
    x_nm, y_nm = rng.uniform(-500, 40_000, (2, n))
    x_nm[0], x_nm[1], y_nm[2], y_nm[3] = np.nan, 300 * 110 + 54.9999999, 54.9999999, 55.0
    table = EmitterTable.of(rng.integers(0, 999, n), x_nm=x_nm, y_nm=y_nm, **columns)
    write_table(tmp_path / "table.hdf5", table, acquisition=MOVIE)
    with h5py.File(tmp_path / "table.hdf5") as file:
        locs = file["locs"][()]
    information = yaml.safe_load((tmp_path / "table.yaml").read_text())
    assert all(information[name] for name in ("Width", "Height", "Frames", "Pixelsize"))
    assert kept_by_picasso(locs, information).all()
    x_px, y_px = np.float32(x_nm / 110 - 0.5), np.float32(y_nm / 110 - 0.5)
    assert len(locs) == np.count_nonzero((x_px >= 0) & (x_px < 300) & (y_px >= 0) & (y_px < 200))


def test_picasso_says_what_was_filled_and_left_out(tmp_path: Path, caplog) -> None:
    table = EmitterTable.of([0, 0, 7], x_nm=[20, 500, 900], y_nm=[300, 300, 300], photons=[400, 400, np.nan])
    with caplog.at_level(logging.WARNING):
        write_table(tmp_path / "table.hdf5", table, acquisition=Acquisition(PixelSize.of(100)))
    said = " ".join(caplog.messages)
    assert "3 × 9 pixels and 8 frames" in said
    assert "1 of 3 emitters left out" in said
    assert "photons of 1 with the column's median" in said and "lpx of 2 with 1 pixel / √photons" in said
    with h5py.File(tmp_path / "table.hdf5") as file:
        locs = file["locs"][()]
    np.testing.assert_allclose(locs["lpx"], 0.05)
    assert read_table(tmp_path / "table.hdf5").precision_x_nm is None  # it was assumed, not known


def test_photons_below_0_are_0_for_picasso(tmp_path: Path, caplog) -> None:
    """What is known to be dim must not become as bright as the others."""
    photons = [-225.0, 1500.0, np.nan, 2500.0, -3.0, 800.0, 3000.0]
    table = EmitterTable.of(np.arange(7), x_nm=np.full(7, 500.0), y_nm=np.full(7, 500.0), photons=photons)
    with caplog.at_level(logging.WARNING):
        write_table(tmp_path / "table.hdf5", table, acquisition=MOVIE)
    with h5py.File(tmp_path / "table.hdf5") as file:
        np.testing.assert_array_equal(file["locs"]["photons"], [0, 1500, 1150, 2500, 0, 800, 3000])
    said = " ".join(caplog.messages)
    assert "photons of 2 below 0 written as 0" in said and "photons of 1 with the column's median" in said


def test_picasso_does_not_take_another_files_yaml(tmp_path: Path) -> None:
    (tmp_path / "movie.yaml").write_text("Width: 32\n")
    with pytest.raises(EmitterError, match=r"movie\.yaml is there already"):
        write_table(tmp_path / "movie.hdf5", some_table(), acquisition=MOVIE)
    assert (tmp_path / "movie.yaml").read_text() == "Width: 32\n"
    for _ in range(2):  # its own is written again
        write_table(tmp_path / "table.hdf5", some_table(), acquisition=MOVIE)


def test_picasso_metadata_within_the_file(tmp_path: Path) -> None:
    write_table(tmp_path / "table.hdf5", some_table(), acquisition=MOVIE)
    (tmp_path / "table.yaml").unlink()
    with pytest.raises(EmitterError, match="pixel_size_nm"):
        read_table(tmp_path / "table.hdf5")
    with h5py.File(tmp_path / "table.hdf5", "a") as file:
        file["metadata"] = json.dumps([{"Pixelsize": 90}, {"Pixelsize": 110, "Width": 0}])
    equal(some_table(), read_table(tmp_path / "table.hdf5"), *TOLERANCE["picasso"])


def test_picasso_1_has_nm(tmp_path: Path) -> None:
    write_table(tmp_path / "old.hdf5", some_table(), acquisition=MOVIE)
    with h5py.File(tmp_path / "old.hdf5") as file:
        locs = file["locs"][()]
    for name in ("x", "y", "lpx", "lpy"):
        locs[name] *= 110
    for version in ("1.0", "2.0"):
        with h5py.File(tmp_path / "new.hdf5", "w") as file:
            file["locs"] = locs
            file.attrs["picasso_format"] = version
        if version == "1.0":
            equal(some_table(), read_table(tmp_path / "new.hdf5", PIXEL), 4e-3, 3e-7)
    with pytest.raises(EmitterError, match=r"format 2\.0"):
        read_table(tmp_path / "new.hdf5", PIXEL)


# --- the rest of the foreign world


def smlm(path: Path, rows: np.ndarray, offset: dict | None = None, units: list[str] | None = None) -> None:
    """An archive by the specification, made without our writer."""
    names = list(rows.dtype.names)
    layout = {
        "mode": "binary",
        "type": "table",
        "columns": len(names),
        "headers": names,
        "dtype": [str(rows.dtype[name].base) for name in names],
        "shape": [list(rows.dtype[name].shape) or 1 for name in names],
        "units": units or [""] * len(names),
    }
    table = {"name": "t.bin", "type": "table", "format": "f", "rows": len(rows), "offset": offset or {}}
    image = {"name": "i.raw", "type": "image", "format": "g"}
    with zipfile.ZipFile(path, "w") as archive:
        manifest = {"format_version": "0.2", "formats": {"f": layout}, "files": [image, table]}
        archive.writestr("manifest.json", json.dumps(manifest))
        archive.writestr("t.bin", rows.tobytes())


def test_smlm_offsets_units_and_cells_of_several_numbers(tmp_path: Path) -> None:
    kinds = [("frame", "<u2"), ("patch", "<f4", (2, 3)), ("x", "<f4"), ("y", "<f8")]
    rows = np.zeros(3, kinds)
    rows["frame"], rows["x"], rows["y"] = [1, 2, 5], [1.5, 2.5, 3.5], [0.25, 0.5, 0.75]
    smlm(tmp_path / "a.smlm", rows, {"x": -1}, ["frame", "", "nm", "um"])
    table = read_table(tmp_path / "a.smlm")
    assert table.frame.tolist() == [0, 1, 4]  # no frame 0: counted from 1, as ThunderSTORM's plug-in writes
    assert (table.x_nm.tolist(), table.y_nm.tolist()) == ([0.5, 1.5, 2.5], [250, 500, 750])
    smlm(tmp_path / "px.smlm", rows, units=["", "", "pixel", "nm"])
    with pytest.raises(EmitterError, match="x in 'pixel'"):
        read_table(tmp_path / "px.smlm")
    smlm(tmp_path / "none.smlm", rows[["frame", "x"]].copy())
    with pytest.raises(EmitterError, match="expected x, y"):
        read_table(tmp_path / "none.smlm")


def test_smap_without_emitters(tmp_path: Path) -> None:
    """MATLAB stores an empty array as its shape with a mark."""
    with h5py.File(tmp_path / "empty.mat", "w", userblock_size=512) as file:
        for name in ("frame", "xnm", "ynm"):
            file[f"saveloc/loc/{name}"] = np.zeros(2, np.uint64)
            file[f"saveloc/loc/{name}"].attrs["MATLAB_empty"] = np.uint8(1)
    assert len(read_table(tmp_path / "empty.mat")) == 0


def test_smap_camera(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Pixel size and region of the chip are the camera's: the centre of the movie's first pixel, as SMAP has it."""
    roi_px, size_um = np.array([[64.0], [32], [256], [128]]), np.array([[0.1], [0.12]])
    with h5py.File(tmp_path / "few.mat", "w", userblock_size=512) as file:
        for name, value in {"frame": 1, "xnm": (1 + 64) * 100, "ynm": (1 + 32) * 120}.items():
            file[f"saveloc/loc/{name}"] = np.full((1, 3), float(value))
        file["saveloc/file/info/cam_pixelsize_um"] = size_um
        file["saveloc/file/info/roi"] = roi_px
    table, acquisition = read_table_of(tmp_path / "few.mat")
    assert acquisition.pixel_size == PixelSize(100, 120)
    assert (table.x_nm[0], table.y_nm[0]) == (50, 60) and not caplog.text
    with h5py.File(tmp_path / "few.mat", "r+") as file:
        del file["saveloc/file/info/roi"]
        file["saveloc/file/info/EMmirror"] = np.ones((1, 1), np.uint8)
    assert read_table(tmp_path / "few.mat").x_nm[0] == 6450
    assert "SMAP mirrored the movie before it fitted" in caplog.text


def test_parquet_of_another_program(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x_nm": [1, 2], "y_nm": [3.0, None], "frame": [0, 1], "channel": ["a", "b"]})
    frame[:1].to_parquet(tmp_path / "one.parquet")
    assert read_table(tmp_path / "one.parquet").y_nm.tolist() == [3]
    frame.to_parquet(tmp_path / "two.parquet")
    with pytest.raises(EmitterError, match=r"row 2 of .* no number for y_nm"):
        read_table(tmp_path / "two.parquet")
    frame[["frame", "x_nm"]].to_parquet(tmp_path / "none.parquet")
    with pytest.raises(EmitterError, match="expected frame, x_nm, y_nm"):
        read_table(tmp_path / "none.parquet")


@pytest.mark.parametrize("name", ["picasso", "decode", "smlm", "parquet"])
def test_a_file_that_is_cut_off(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"table{FORMATS[name].suffix}"
    write_table(path, some_table(), name, MOVIE)
    whole = path.read_bytes()
    for length in (len(whole) // 3, len(whole) - 30):
        path.write_bytes(whole[:length])
        with pytest.raises(EmitterError, match=path.name):
            read_table(path)


@pytest.mark.parametrize("name", FORMATS)
@given(seed=st.integers(0, 10**6), n_changes=st.integers(1, 8))
def test_a_file_with_wrong_bytes_is_read_or_refused(
    tmp_path: Path, name: str, seed: int, n_changes: int
) -> None:
    """Whatever a damaged file holds, there is a table or one sentence."""
    path = tmp_path / f"table{FORMATS[name].suffix}"
    write_table(path, some_table(6), name, MOVIE)
    rng = np.random.default_rng(seed)
    content = bytearray(path.read_bytes())
    for place in rng.integers(0, len(content), n_changes):
        content[place : place + rng.integers(0, 3)] = rng.bytes(rng.integers(0, 3))
    path.write_bytes(content)
    try:
        read_table(path, PIXEL)
    except EmitterError as error:
        assert path.name in str(error) or "table.yaml" in str(error)


def test_an_hdf5_file_of_something_else(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "psf.h5", "w") as file:
        file["coefficients"] = np.zeros(3)
    with pytest.raises(EmitterError, match="HDF5 file with coefficients"):
        read_table(tmp_path / "psf.h5")


@pytest.mark.parametrize(("name", "words"), [("picasso", "pixel_size_nm="), ("decode", "pixel_size_nm=")])
def test_what_a_format_needs_is_asked_for(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(EmitterError, match=words):
        write_table(tmp_path / "table", some_table(), name)
    with pytest.raises(EmitterError, match="n_frames is 3"):
        write_table(tmp_path / "table.hdf5", some_table(), acquisition=Acquisition(PIXEL, FRAME_PX, 3))
    assert list(tmp_path.iterdir()) == []


def test_the_ending_says_the_format() -> None:
    named = {
        "a.csv": "thunderstorm",
        "a.hdf5": "picasso",
        "a.h5": "decode",
        "a.b.smlm": "smlm",
        "a.parquet": "parquet",
    }
    assert {path: format_of(Path(path)) for path in named} == named
    for path, words in (
        ("a.mat", "read only"),
        ("a.bin", "read only"),
        ("a.txt", r"\.csv, \.hdf5"),
        ("a", r"\.csv"),
    ):
        with pytest.raises(SettingsError, match=words):
            format_of(Path(path))


def test_precision_of_each_axis_counts_before_the_lateral_one(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        '"frame","x [nm]","y [nm]","uncertainty_xy [nm]","precision_x_nm","precision_y_nm","precision_photons"\n'
        "1,2,3,9,4,5,6\n"
    )
    table = read_table(tmp_path / "t.csv")
    found = (table.precision_x_nm, table.precision_y_nm, table.precision_photons)
    assert [column.tolist() for column in found] == [[4], [5], [6]]
