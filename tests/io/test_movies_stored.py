"""Movies in HDF5 and zarr and in folders of Micro-Manager; reading ahead."""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from emitter.core.errors import EmitterError
from emitter.io.movies import open_movie
from emitter.io.prefetch import prefetched

FRAMES = np.random.default_rng(0).integers(0, 1000, (20, 30, 40)).astype(np.uint16)


def test_hdf5_by_its_path_or_alone(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "movie.h5", "w") as file:
        file.create_dataset("raw/frames", data=FRAMES, chunks=(3, 30, 40), compression="gzip")
        file.create_dataset("times", data=np.arange(20))
        file["elsewhere"] = h5py.ExternalLink("gone.h5", "/x")
        file["kind"] = np.dtype("f8")
    for source in ("movie.h5", "movie.h5:/raw/frames", "movie.h5:raw/frames"):
        with open_movie(str(tmp_path / source)) as movie:
            np.testing.assert_array_equal(movie.read(2, 9), FRAMES[2:9])
    with pytest.raises(EmitterError, match=r"no dataset '/raw/x'.*/raw/frames, /times"):
        open_movie(f"{tmp_path}/movie.h5:/raw/x")
    with h5py.File(tmp_path / "movie.h5", "a") as file:
        file["other"] = FRAMES[:2]
    with pytest.raises(EmitterError, match=r"2 datasets.*\(/other, /raw/frames\)"):
        open_movie(tmp_path / "movie.h5")
    with pytest.raises(EmitterError, match=r"no\.h5 does not exist"):
        open_movie(tmp_path / "no.h5")
    (tmp_path / "bad.h5").write_bytes(b"nothing")
    with pytest.raises(EmitterError, match=r"bad\.h5 cannot be read"):
        open_movie(tmp_path / "bad.h5")


def test_zarr_by_its_path_or_alone(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr", reason="zarr is not installed: pip install 'emitter[zarr]'")
    group = zarr.open_group(str(tmp_path / "movie.zarr"), mode="w")
    group.create_array("raw/frames", shape=FRAMES.shape, chunks=(3, 30, 40), dtype="u2")[...] = FRAMES
    array = zarr.create_array(str(tmp_path / "plain.zarr"), shape=FRAMES.shape, dtype="u2")
    array[...] = FRAMES
    for source in ("movie.zarr", "movie.zarr/", "movie.zarr:/raw/frames", "plain.zarr"):
        with open_movie(str(tmp_path / source)) as movie:
            np.testing.assert_array_equal(movie.read(2, 9), FRAMES[2:9])


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("movie.zarr", "zarr", "zarr")],
)
def test_a_missing_package_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(EmitterError, match=rf"{package}, which is not installed.*'emitter\[{extra}\]'"):
        open_movie(tmp_path / name)


def test_the_one_position_in_a_folder_of_micro_manager(tmp_path: Path) -> None:
    (tmp_path / "run_1" / "Pos0").mkdir(parents=True)
    for k in range(5):
        tifffile.imwrite(tmp_path / "run_1" / "Pos0" / f"img_{k:09d}_Default_000.tif", FRAMES[k])
    with open_movie(tmp_path / "run_1") as movie:
        np.testing.assert_array_equal(movie.frame_numbers, np.arange(5))
        np.testing.assert_array_equal(movie.read(0, 5), FRAMES[:5])
    (tmp_path / "run_1" / "Pos1").mkdir()
    tifffile.imwrite(tmp_path / "run_1" / "Pos1" / "img_000000000_Default_000.tif", FRAMES[0])
    with pytest.raises(EmitterError, match=r"2 folders that do \(Pos0, Pos1\)"):
        open_movie(tmp_path / "run_1")


def test_the_files_of_one_long_acquisition_are_in_order(tmp_path: Path) -> None:
    for name, part in (("run_MMStack_Pos0_1", FRAMES[8:15]), ("run_MMStack_Pos0", FRAMES[:8])):
        tifffile.imwrite(tmp_path / f"{name}.ome.tif", part, metadata={"axes": "TYX"})
    tifffile.imwrite(tmp_path / "run_MMStack_Pos0_2.ome.tif", FRAMES[15:], metadata={"axes": "TYX"})
    with open_movie(tmp_path) as movie:
        np.testing.assert_array_equal(movie.read(0, 20), FRAMES)


@given(n=st.integers(0, 20), depth=st.integers(1, 4), fails_at=st.integers(0, 25))
def test_prefetched_items_and_errors_come_in_their_place(n: int, depth: int, fails_at: int) -> None:
    def items() -> object:
        for k in range(n):
            if k == fails_at:
                raise EmitterError("here")
            yield k

    got: list[int] = []
    try:
        for item in prefetched(items(), depth):  # type: ignore[arg-type]
            got.append(item)
    except EmitterError:
        assert len(got) == fails_at
    assert got == list(range(min(n, fails_at)))


def test_an_abandoned_reader_stops() -> None:
    read: list[int] = []

    def items() -> object:
        for k in range(1000):
            read.append(k)
            yield k

    ready = prefetched(items(), depth=2)  # type: ignore[arg-type]
    assert next(ready) == 0
    ready.close()
    assert len(read) < 10
