"""The programs after localization, as a user runs them: from file to file, and the sentences on wrong input."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
import pandas as pd
import pytest
import tifffile
from numpy.lib.recfunctions import append_fields

from emitter.app import drift, link, render, resolution
from emitter.app import filter as filter_program
from emitter.core.errors import EmitterError, SettingsError
from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize
from emitter.io.acquisition import Acquisition
from emitter.io.tables import read_table, read_table_of, write_table

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


@pytest.mark.parametrize("ending", ["csv", "hdf5", "smlm"])
def test_filter_names_the_columns_of_a_file_that_are_not_read(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"locs.{ending}"
    if ending == "csv":
        path.write_text('"id","frame","x [nm]","y [nm]","sigma1 [nm]"\n1,1,10,20,140\n')
    else:
        table = EmitterTable.of([0], x_nm=[100.0], y_nm=[200.0])
        write_table(path, table, acquisition=Acquisition(PixelSize.of(100.0), (9, 9), 4))
    if ending == "hdf5":
        with h5py.File(path, "a") as file:
            locs = file["locs"][()]
            del file["locs"]
            file["locs"] = append_fields(locs, "sigma1", [1.4], usemask=False)
    if ending == "smlm":
        with zipfile.ZipFile(path) as archive:
            manifest, rows = json.loads(archive.read("manifest.json")), archive.read("table-0.bin")
        (layout,) = manifest["formats"].values()
        for name, value in {"headers": "sigma1", "dtype": "float32", "shape": 1, "units": "nm"}.items():
            layout[name].append(value)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("manifest.json", json.dumps(manifest))
            archive.writestr("table-0.bin", rows + np.float32(140).tobytes())
    settings = filter_program.Settings(localizations=path, output=tmp_path / "kept.csv", where="sigma1 < 150")
    with pytest.raises(EmitterError, match=r"no column 'sigma1'.*there are frame.*not read \(.*sigma1"):
        filter_program.run(settings)


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


def test_what_a_table_tells_of_its_movie_is_handed_on(locs: Path) -> None:
    movie = Acquisition(PixelSize.of(110), (30, 40), 70)
    write_table(locs.parent / "a.hdf5", read_table(locs), acquisition=movie)
    for name, program, more in (
        ("kept", filter_program, {"where": "photons > 500"}),
        ("linked", link, {}),
        ("corrected", drift, {}),
    ):
        output = locs.parent / f"{name}.hdf5"
        program.run(program.Settings(localizations=locs.parent / "a.hdf5", output=output, **more))
        assert read_table_of(output)[1] == movie


@pytest.mark.parametrize(
    ("output", "message"),
    [("locs.csv", "locs.csv' is an input: give another name"), ("a.mat", "SMAP's tables are read only")],
)
def test_an_output_that_cannot_be_is_told_before_any_work(locs: Path, output: str, message: str) -> None:
    for settings in (link.Settings, drift.Settings):
        with pytest.raises(SettingsError, match=message):
            settings(localizations=locs, output=locs.parent / output)


def test_no_program_writes_over_what_it_reads(locs: Path) -> None:
    beside = locs.rename(locs.parent / "u_drift.csv")
    u, refused = locs.parent / "u.csv", "is an input: give another name"
    with pytest.raises(SettingsError, match=f"u_drift.csv' {refused}"):
        drift.Settings(localizations=beside, output=u)
    with pytest.raises(SettingsError, match=f"u.csv' {refused}"):
        drift.Settings(localizations=beside, output=u, apply=u)
    with pytest.raises(SettingsError, match=f"u_drift.csv' {refused}"):
        resolution.Settings(localizations=beside, output=beside)
    with pytest.raises(SettingsError, match=r"give a name that ends with .json"):
        resolution.Settings(localizations=beside, output=u)


@pytest.mark.parametrize(("program", "name"), [(drift, "a.csv"), (resolution, "a.json")])
def test_a_seed_below_0_is_told(locs: Path, program, name: str) -> None:
    with pytest.raises(SettingsError, match="seed is -1: give a whole number"):
        program.Settings(localizations=locs, output=locs.parent / name, seed=-1)


def test_drift_that_cannot_be_written_is_told_before_any_work(locs: Path) -> None:
    (locs.parent / "u_drift.png").mkdir()
    with pytest.raises(EmitterError, match=r"u_drift.png is a folder"):
        drift.run(drift.Settings(localizations=locs, output=locs.parent / "u.csv"))
    assert not (locs.parent / "u.csv").exists()


def test_render_writes_the_counts_and_the_pixel_size(locs: Path) -> None:
    table = read_table(locs)
    for style in ("histogram", "gaussian"):
        settings = render.Settings(
            localizations=locs, output=locs.parent / "image.tif", pixel_nm=7.5, style=style
        )  # type: ignore[arg-type]
        render.run(settings)
        with tifffile.TiffFile(settings.output) as file:
            image, (n, d) = file.asarray(), file.pages[0].tags["XResolution"].value
            assert file.imagej_metadata is not None and file.imagej_metadata["unit"] == "um"
        assert image.dtype == np.float32 and n / d == pytest.approx(1000 / 7.5, rel=1e-6)
        assert image.sum() == pytest.approx(400, rel=1e-5 if style == "histogram" else 0.02)
        place = (table.y_nm // 7.5).astype(int), (table.x_nm // 7.5).astype(int)
        if style == "histogram":
            assert image[place[0] - place[0].min(), place[1] - place[1].min()].min() >= 1


@pytest.mark.parametrize("z_colour", [True, False])
def test_render_draws_a_region_as_png(locs: Path, z_colour: bool) -> None:
    output = locs.parent / "image.png"
    region = (100.0, 200.0, 1100.0, 1200.0)
    counts = render.run(
        render.Settings(localizations=locs, output=output, region_nm=region, z_colour=z_colour)
    )
    table = read_table(locs)
    inside = (table.x_nm >= 100) & (table.x_nm < 1100) & (table.y_nm >= 200) & (table.y_nm < 1200)
    assert counts.shape == (100, 100) and counts.sum() == inside.sum()
    assert output.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("style", ["histogram", "gaussian"])
def test_a_stack_over_z_is_read_back_with_its_voxels_and_its_origin(
    locs: Path, style: Literal["histogram", "gaussian"]
) -> None:
    output = locs.parent / "stack.tif"
    render.run(render.Settings(localizations=locs, output=output, pixel_nm=20, z_step_nm=50, style=style))
    with tifffile.TiffFile(output) as file:
        stack, axes, meta = file.asarray(), file.series[0].axes, file.imagej_metadata
        n, d = file.pages[0].tags["YResolution"].value
    assert meta is not None and axes == "ZYX" and stack.dtype == np.float32
    assert meta["unit"] == "um" and meta["spacing"] == pytest.approx(0.05) and n / d == pytest.approx(50)
    table, origin = read_table(locs), [-meta[f"{axis}origin"] for axis in "zyx"]
    edges = [
        (first + np.arange(size + 1)) * voxel
        for first, size, voxel in zip(origin, stack.shape, (50, 20, 20), strict=True)
    ]
    expected = np.histogramdd((table.z_nm, table.y_nm, table.x_nm), edges)[0]
    assert expected.sum() == 400
    if style == "histogram":
        np.testing.assert_array_equal(stack, expected)
    else:  # the Gaussians blur within their slice
        np.testing.assert_allclose(stack.sum(axis=(1, 2)), expected.sum(axis=(1, 2)), rtol=0.1)


def test_a_stack_of_a_range_holds_what_lies_in_it(locs: Path) -> None:
    settings = render.Settings(
        localizations=locs, output=locs.parent / "a.tif", z_step_nm=30, z_range_nm=(-100, 50)
    )
    stack, z = render.run(settings), read_table(locs).z_nm
    assert stack.shape[0] == 5 and stack.sum() == np.sum((z >= -100) & (z < 50))


def test_a_stack_needs_z_and_a_tiff(locs: Path) -> None:
    with pytest.raises(SettingsError, match=r"give a name that ends with .tif"):
        render.Settings(localizations=locs, output=locs.parent / "a.png", z_step_nm=50)
    flat = read_table(locs).with_columns(z_nm=np.full(400, np.nan))
    write_table(locs.parent / "flat.csv", flat)
    settings = render.Settings(
        localizations=locs.parent / "flat.csv", output=locs.parent / "a.tif", z_step_nm=50
    )
    with pytest.raises(EmitterError, match="400 of 400 rows of the table have no z: give z_step_nm=null"):
        render.run(settings)
    assert not settings.output.exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"region_nm": (0.0, 0.0, np.inf, 100.0)},
        {"region_nm": (0.0, -np.inf, 50.0, 100.0)},
        {"pixel_nm": np.inf},
        {"pixel_nm": 1e-320},
        {"z_step_nm": 1e-320},
        {"z_range_nm": (0.0, np.inf)},
        {"sigma_nm": np.inf, "style": "gaussian"},
    ],
)
def test_lengths_that_are_none_are_told(locs: Path, wrong: dict) -> None:
    with pytest.raises(SettingsError, match=f"{next(iter(wrong))} is .*: give"):
        render.Settings(localizations=locs, output=locs.parent / "a.tif", **wrong)


def test_slices_are_counted_before_they_are_made(locs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "_slices", lambda *_: pytest.fail("made"))
    with pytest.raises(EmitterError, match="give a larger pixel_nm or z_step_nm"):
        render.run(render.Settings(localizations=locs, output=locs.parent / "a.tif", z_step_nm=0.001))


def test_a_region_without_localizations_is_named(locs: Path) -> None:
    settings = render.Settings(
        localizations=locs, output=locs.parent / "a.png", region_nm=(9e3, 9e3, 1e4, 1e4)
    )
    with pytest.raises(EmitterError, match="no localization lies in region_nm"):
        render.run(settings)
    assert not settings.output.exists()


def test_link_writes_the_number_of_frames(locs: Path) -> None:
    output = locs.parent / "linked.csv"
    link.run(link.Settings(localizations=locs, output=output, max_distance_nm=200, max_axial_nm=1000))
    rows = read_table(output)
    assert rows.n_frames is not None and rows.n_frames.sum() == 400 and len(rows) < 400
    assert rows.photons.sum() == pytest.approx(read_table(locs).photons.sum())


@pytest.mark.parametrize("ending", [".csv", ".hdf5", ".parquet"])
def test_nothing_is_linked_to_nothing_and_refused_by_others(
    locs: Path, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What filter.py may leave; Picasso's needs the movie's extent, which a file of it tells."""
    empty, output = locs.parent / f"empty{ending}", locs.parent / f"linked{ending}"
    write_table(empty, EmitterTable.empty(), acquisition=Acquisition(PixelSize.of(100.0), (20, 30), 50))
    with caplog.at_level("INFO"):
        assert len(link.run(link.Settings(localizations=empty, output=output))) == 0
    assert len(read_table(output)) == 0 and "0 localizations became 0 rows" in caplog.text
    for program, name in ((drift, "a.csv"), (render, "a.png"), (resolution, "a.json")):
        with pytest.raises(EmitterError, match="has no rows: give one with localizations"):
            program.run(program.Settings(localizations=empty, output=locs.parent / name))
        assert not (locs.parent / name).exists()


def test_gaussians_without_a_precision_are_told_how_wide_to_be(tmp_path: Path) -> None:
    write_table(tmp_path / "locs.csv", EmitterTable.of([0, 1], x_nm=[100.0, 300.0], y_nm=[100.0, 300.0]))
    settings = render.Settings(
        localizations=tmp_path / "locs.csv", output=tmp_path / "a.png", style="gaussian"
    )
    with pytest.raises(EmitterError, match=r"give one width for all.*sigma_nm="):
        render.run(settings)


def test_resolution_says_what_cannot_be_had(locs: Path, caplog) -> None:
    output = locs.parent / "resolution.json"
    resolution.run(resolution.Settings(localizations=locs, output=output))
    report = json.loads(output.read_text())
    assert report["nena_precision_nm"] is None
    frc_says, nena_says = report["warnings"]
    assert "in 400 localizations" in frc_says and "no NeNA precision" in nena_says
    assert frc_says in caplog.text and nena_says in caplog.text
    assert report["correlation"][0] == pytest.approx(1, abs=0.05)
    assert report["frequency_per_nm"][-1] == pytest.approx(1 / 20, rel=0.02)  # Nyquist of 10 nm


def test_resolution_says_where_nena_is_finer_than_the_tables_precisions(tmp_path: Path, caplog) -> None:
    rng = np.random.default_rng(6)
    at = np.repeat(np.arange(400), 2)
    x, y = (rng.uniform(0, 5000, 400)[at] + rng.normal(0, 3, 800) for _ in range(2))
    ten = np.full(800, 10.0)
    table = EmitterTable.of(np.arange(800), x_nm=x, y_nm=y, precision_x_nm=ten, precision_y_nm=ten)
    write_table(tmp_path / "locs.csv", table)
    output = tmp_path / "resolution.json"
    resolution.run(resolution.Settings(localizations=tmp_path / "locs.csv", output=output))
    report = json.loads(output.read_text())
    assert report["nena_precision_nm"] == pytest.approx(3, rel=0.1)
    nena_says = report["warnings"][-1]
    assert "NeNA is probably too fine" in nena_says and "(median 10 nm)" in nena_says
    assert nena_says in caplog.text


@pytest.fixture
def drifting(tmp_path: Path) -> Path:
    """Sites that are seen again and again, while all of them drift by 200 nm in x over 400 frames."""
    rng = np.random.default_rng(5)
    frame = np.sort(rng.integers(10, 410, 2500))
    site = rng.uniform(500, 2500, (40, 2))[rng.integers(0, 40, 2500)] + rng.normal(0, 10, (2500, 2))
    write_table(
        tmp_path / "drifting.csv", EmitterTable.of(frame, x_nm=site[:, 0] + frame / 2, y_nm=site[:, 1])
    )
    return tmp_path / "drifting.csv"


def test_drift_is_written_beside_the_table(drifting: Path, caplog: pytest.LogCaptureFixture) -> None:
    output = drifting.parent / "corrected.csv"
    with caplog.at_level("INFO"):
        drift.run(drift.Settings(localizations=drifting, output=output))
    assert "drift in x spans 20" in caplog.text or "drift in x spans 19" in caplog.text
    by_frame = pd.read_csv(drifting.parent / "corrected_drift.csv", index_col="frame")
    assert by_frame.index[[0, -1]].tolist() == [10, 409]
    assert np.polyfit(by_frame.index, by_frame.drift_x_nm, 1)[0] == pytest.approx(0.5, rel=0.03)
    table = read_table(drifting)
    moved = table.x_nm - read_table(output).x_nm
    np.testing.assert_allclose(moved, by_frame.drift_x_nm[table.frame], atol=2e-3)
    assert (drifting.parent / "corrected_drift.png").read_bytes().startswith(b"\x89PNG")


def test_a_drift_that_was_written_is_taken_off_another_table(locs: Path, caplog) -> None:
    given, output = locs.parent / "first_drift.csv", locs.parent / "second.csv"
    given.write_text("frame,drift_x_nm,drift_y_nm\n10,0,5\n20,10,5\n")  # the frames between are interpolated
    drift.run(drift.Settings(localizations=locs, output=output, apply=given))
    table, corrected = read_table(locs), read_table(output)
    np.testing.assert_allclose(table.x_nm - corrected.x_nm, np.clip(table.frame - 10, 0, 10), atol=1e-3)
    np.testing.assert_allclose(table.y_nm - corrected.y_nm, 5, atol=1e-3)
    outside = np.sum((table.frame < 10) | (table.frame > 20))
    assert f"{outside} of 400 localizations lie outside of the frames" in caplog.text
    assert not (locs.parent / "second_drift.csv").exists()


def test_a_drift_of_other_frames_or_no_drift_is_refused(locs: Path) -> None:
    given, output = locs.parent / "first_drift.csv", locs.parent / "second.csv"
    settings = drift.Settings(localizations=locs, output=output, apply=given)
    for text, message in (
        ("frame,drift_x_nm,drift_y_nm\n500,0,5\n501,10,5\n", "frames 500 to 501, none of which"),
        ("x,y\n1,2\n", "is no drift: give a csv"),
    ):
        given.write_text(text)
        with pytest.raises(EmitterError, match=message):
            drift.run(settings)
    assert not output.exists()
