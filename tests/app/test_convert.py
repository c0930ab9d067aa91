"""convert.py: from one format to another, with what the files tell of their movie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emitter.app import drift, link
from emitter.app import filter as filter_program
from emitter.app.convert import Settings, run
from emitter.core.errors import EmitterError
from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize
from emitter.io.acquisition import Acquisition
from emitter.io.parts import Parts
from emitter.io.tables import read_table, read_table_of


def test_through_every_format(tmp_path: Path, data_dir: Path) -> None:
    truth = data_dir / "c16_mt0n1ld_as" / "activations_LD_frames_01-32.csv"
    paths = [truth, *(tmp_path / f"locs{ending}" for ending in (".hdf5", ".h5", ".smlm", ".parquet", ".csv"))]
    for table, output in zip(paths, paths[1:], strict=False):
        told = {"pixel_size_nm": 100.0, "frame_size_px": (64, 64), "n_frames": 32} if table == truth else {}
        assert run(Settings(table, output, **told)) == {"output": output, "n_emitters": 48}
    expected, found = read_table(truth), read_table(paths[-1])
    np.testing.assert_array_equal(found.frame, expected.frame)
    for name in ("x_nm", "y_nm", "z_nm", "photons"):
        np.testing.assert_allclose(found.columns()[name], expected.columns()[name], rtol=1e-6, atol=1e-3)
    assert np.isnan(found.background).all()
    assert (tmp_path / "locs.csv").read_text().startswith('"id","frame","x [nm]"')
    assert read_table_of(tmp_path / "locs.hdf5")[1] == Acquisition(PixelSize.of(100), (64, 64), 32)


def test_which_csv(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Ground-truth,frame,xnano,ynano,znano,intensity \n1,3,5,6,7,8\n")
    run(Settings(tmp_path / "a.csv", tmp_path / "b.csv", format="emitter"))
    assert (tmp_path / "b.csv").read_text().splitlines()[0].startswith("frame,x_nm,y_nm,z_nm,photons")
    assert read_table(tmp_path / "b.csv").frame.tolist() == [2]


def test_nothing_is_left_of_a_conversion_that_fails(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("frame,x_nm,y_nm\n1,2,3\n")
    with pytest.raises(EmitterError, match="pixel_size_nm="):
        run(Settings(tmp_path / "a.csv", tmp_path / "b.hdf5"))
    with pytest.raises(EmitterError, match=r"nope\.csv does not exist"):
        run(Settings(tmp_path / "nope.csv", tmp_path / "b.csv"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_a_table_without_emitters(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("frame,x_nm,y_nm\n")
    for ending in (".hdf5", ".h5", ".smlm", ".parquet", ".csv"):
        movie = {"frame_size_px": (30, 40), "n_frames": 12} if ending == ".hdf5" else {}
        run(Settings(tmp_path / "a.csv", tmp_path / f"b{ending}", pixel_size_nm=(100.0, 100.0), **movie))
        assert len(read_table(tmp_path / f"b{ending}")) == len(EmitterTable.empty())


@pytest.mark.parametrize("given", [{}, {"frame_size_px": (30, 40)}, {"n_frames": 12}])
def test_no_movie_is_invented_for_a_table_without_emitters(tmp_path: Path, given: dict) -> None:
    (tmp_path / "a.csv").write_text("frame,x_nm,y_nm\n")
    with pytest.raises(
        EmitterError, match=r"give convert.py the movie's with frame_size_px=\[rows,columns\] and"
    ):
        run(Settings(tmp_path / "a.csv", tmp_path / "b.hdf5", pixel_size_nm=100.0, **given))
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_picassos_table_and_its_metadata_have_names_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("frame,x_nm,y_nm\n1,200,300\n")
    with pytest.raises(EmitterError, match=r"where Picasso's metadata goes: give it the ending .hdf5"):
        run(Settings(tmp_path / "a.csv", tmp_path / "b.yaml", format="picasso", pixel_size_nm=100.0))
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize("name", ["b.hdf5", "b.h5"])
def test_what_the_format_lacks_is_told_before_the_table_is_gone_through(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.csv").write_text("frame,x_nm,y_nm\n1,2,3\n")
    monkeypatch.setattr(Parts, "__iter__", lambda parts: pytest.fail("the table was read"))
    given = {} if name == "b.h5" else {"pixel_size_nm": (100.0, 120.0)}
    message = "give pixel_size_nm=" if name == "b.h5" else "100 × 120 nm: Picasso has square pixels"
    with pytest.raises(EmitterError, match=message):
        run(Settings(tmp_path / "a.csv", tmp_path / name, **given))
    for program in (filter_program, link, drift):
        more = {"where": "x_nm > 0"} if program is filter_program else {}
        with pytest.raises(EmitterError, match=message):
            program.run(
                program.Settings(localizations=tmp_path / "a.csv", output=tmp_path / name, **given, **more)
            )
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
