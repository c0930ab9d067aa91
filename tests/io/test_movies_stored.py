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
from nd2_file import write_nd2

from emitter.core.errors import EmitterError
from emitter.core.units import PixelSize
from emitter.io.movies import movies_of, open_movie
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
    [("movie.zarr", "zarr", "zarr"), ("movie.nd2", "nd2", "nd2"), ("movie.czi", "pylibCZIrw", "czi")],
)
def test_a_missing_package_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str, extra: str
) -> None:
    for module in (package, f"{package}.{extra}"):
        monkeypatch.setitem(sys.modules, module, None)
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


@pytest.mark.parametrize(
    ("numbers", "missing"),
    [
        ([1, 2, 4], "3"),
        ([1, 2, 3], None),
        ([0, 1, 5, 2], "3, 4"),
        ([1, 20], None),
        ([2, 3], None),
        ([0, 2**31 - 1], None),
    ],
)
def test_a_stack_that_is_missing_among_numbered_ones_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, numbers: list[int], missing: str | None
) -> None:
    for number in numbers:
        tifffile.imwrite(tmp_path / f"cell7_part_{number}.tif", FRAMES[:5])
    with open_movie(tmp_path) as movie:
        assert movie.n_frames == 5 * len(numbers)
    told = [record.message for record in caplog.records if "are numbered and lack" in record.message]
    assert len(told) == (missing is not None)
    assert all(f"numbered and lack {missing}:" in message for message in told)


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


def test_nd2_of_one_frame_axis(tmp_path: Path) -> None:
    nd2 = pytest.importorskip("nd2", reason="nd2 is not installed: pip install 'emitter[nd2]'")
    write_nd2(tmp_path / "movie.nd2", FRAMES)
    np.testing.assert_array_equal(
        nd2.imread(tmp_path / "movie.nd2"), FRAMES
    )  # the file is one for others too
    with open_movie(tmp_path / "movie.nd2") as movie:
        assert (movie.n_frames, movie.height, movie.width) == FRAMES.shape
        np.testing.assert_array_equal(movie.read(2, 9), FRAMES[2:9])
    write_nd2(tmp_path / "stacks.nd2", FRAMES, depths=4)
    with pytest.raises(EmitterError, match=r"stacks\.nd2 has the axes T 5, Z 4, .*one frame axis"):
        open_movie(tmp_path / "stacks.nd2")
    (tmp_path / "bad.nd2").write_bytes(b"no nd2 at all" * 100)
    with pytest.raises(EmitterError, match=r"bad\.nd2 cannot be read"):
        open_movie(tmp_path / "bad.nd2")


@pytest.mark.parametrize("compression", ["uncompressed:", "zstd1:"])
@pytest.mark.parametrize("axis", ["T", "Z"])
def test_czi_of_one_frame_axis(tmp_path: Path, compression: str, axis: str) -> None:
    czi = pytest.importorskip("pylibCZIrw.czi", reason="not installed: pip install 'emitter[czi]'")
    with czi.create_czi(str(tmp_path / "movie.czi")) as file:
        for k, frame in enumerate(FRAMES):
            plane = {"T": 0, "Z": 0, "C": 0, axis: k}
            file.write(frame[..., None], plane=plane, compression_options=compression)
    with open_movie(tmp_path / "movie.czi") as movie:
        assert (movie.n_frames, movie.height, movie.width) == FRAMES.shape
        np.testing.assert_array_equal(movie.read(2, 9), FRAMES[2:9])


def test_czi_of_more_axes_and_a_damaged_one(tmp_path: Path) -> None:
    czi = pytest.importorskip("pylibCZIrw.czi", reason="not installed: pip install 'emitter[czi]'")
    with czi.create_czi(str(tmp_path / "colours.czi")) as file:
        for k in range(4):
            file.write(FRAMES[k][..., None], plane={"T": k // 2, "C": k % 2})
    with pytest.raises(EmitterError, match=r"colours\.czi has the axes .*of one channel"):
        open_movie(tmp_path / "colours.czi")
    with czi.create_czi(str(tmp_path / "scenes.czi")) as file:
        for k in range(2):
            file.write(FRAMES[k][..., None], plane={"T": 0}, scene=k, location=(100 * k, 0))
    with pytest.raises(EmitterError, match=r"scenes\.czi has the axes .*scene 2"):
        open_movie(tmp_path / "scenes.czi")
    (tmp_path / "bad.czi").write_bytes(b"no czi at all" * 100)
    with pytest.raises(EmitterError, match=r"bad\.czi cannot be read"):
        open_movie(tmp_path / "bad.czi")


def test_one_of_several_series_of_a_tiff(tmp_path: Path) -> None:
    path = tmp_path / "positions.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(FRAMES[:8], metadata={"axes": "TYX"})
        file.write(FRAMES[8:, :20], metadata={"axes": "TYX"})
    with pytest.raises(EmitterError, match=r"2 image series of 2 kinds: name the one .*tif:/0 to .*tif:/1"):
        open_movie(path)
    for source, expected in ((":/0", FRAMES[:8]), (":/1", FRAMES[8:, :20]), (":1", FRAMES[8:, :20])):
        with open_movie(f"{path}{source}") as movie:
            np.testing.assert_array_equal(movie.read(0, movie.n_frames), expected)
    with pytest.raises(EmitterError, match=r"has 2 image series and no '/2': give one from .*:/0 to .*:/1"):
        open_movie(f"{path}:/2")
    with pytest.raises(EmitterError, match="does not exist"):
        open_movie(f"{tmp_path}/no.tif:/0")


def test_each_file_that_is_named_is_a_movie(tmp_path: Path) -> None:
    names = ["cell_10.tif", "cell_2.tif"]
    for name in names:
        tifffile.imwrite(tmp_path / name, FRAMES)
    in_order = [str(tmp_path / name) for name in reversed(names)]
    assert movies_of(str(tmp_path)) == in_order
    assert movies_of(str(tmp_path / "cell_*.tif")) == in_order
    assert movies_of([in_order[1], "a.h5:/x", "b.zarr:/y"]) == [in_order[1], "a.h5:/x", "b.zarr:/y"]
    with pytest.raises(EmitterError, match="no file matches"):
        movies_of(str(tmp_path / "*.dax"))


_OME = """<?xml version="1.0" encoding="UTF-8"?>
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{own}"><Image ID="Image:0"><Pixels
 ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="{width}" SizeY="{height}" SizeC="1" SizeZ="1" SizeT="{n}"
 PhysicalSizeX="0.16" PhysicalSizeY="0.16"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>{planes}</Pixels></Image>
</OME>"""
_PLANE = '<TiffData FirstT="{t}" IFD="{ifd}" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{uuid}</UUID></TiffData>'


@pytest.mark.filterwarnings("error")
def test_an_ome_tiff_of_several_files_is_one_movie_by_any_of_them_and_by_its_folder(tmp_path: Path) -> None:
    """The standard's way to say which frame is in which file, here by hand."""
    uuids = [f"00000000-0000-0000-0000-00000000000{k}" for k in range(3)]
    parts = [FRAMES[:8], FRAMES[8:14], FRAMES[14:20]]
    where = [(k, ifd) for k, part in enumerate(parts) for ifd in range(len(part))]
    planes = "".join(
        _PLANE.format(t=t, ifd=ifd, name=f"part{k}.ome.tif", uuid=uuids[k])
        for t, (k, ifd) in enumerate(where)
    )
    height, width = FRAMES.shape[1:]
    for k, part in enumerate(parts):
        said = _OME.format(own=uuids[k], width=width, height=height, n=20, planes=planes)
        with tifffile.TiffWriter(tmp_path / f"part{k}.ome.tif", ome=False) as file:
            for ifd, frame in enumerate(part):
                file.write(
                    frame,
                    description=said if ifd == 0 else None,
                    metadata=None,
                    compression="zlib",
                    contiguous=False,
                )
    for movie_path in (tmp_path / "part0.ome.tif", tmp_path / "part2.ome.tif", tmp_path):
        with open_movie(movie_path) as movie:
            np.testing.assert_array_equal(movie.read(0, 20), FRAMES[:20])
            np.testing.assert_array_equal(movie.read(7, 15), FRAMES[7:15])
            assert movie.pixel_size == PixelSize.of(160)
