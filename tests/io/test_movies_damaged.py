"""Damaged movies, and movies that change while they are read, end in one sentence that names the file."""

from __future__ import annotations

import importlib.util
import io
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from nd2_file import write_nd2
from PIL import Image

from emitter.core.errors import EmitterError
from emitter.io.movies import open_movie

FRAMES = np.random.default_rng(0).integers(0, 1000, (6, 16, 20)).astype(np.uint16)


def _tiff(**options: object) -> Callable[[Path], object]:
    return lambda path: tifffile.imwrite(path, FRAMES, **options)


def _tiff_of_pages(path: Path) -> None:
    with tifffile.TiffWriter(path) as file:
        for frame in FRAMES:
            file.write(frame, contiguous=False, metadata=None)


def _hdf5(**options: object) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        with h5py.File(path, "w") as file:
            file.create_dataset("group/movie.tif", data=FRAMES, **options)

    return write


def _dax(path: Path) -> None:
    FRAMES.astype(">u2").tofile(path)
    path.with_suffix(".inf").write_text("frame dimensions = 20 x 16\nnumber of frames = 6\n")


WRITERS: dict[str, Callable[[Path], object]] = {
    "stack.tif": _tiff(),
    "zlib.tif": _tiff(compression="zlib"),
    "imagej.tif": _tiff(imagej=True),
    "series.ome.tif": _tiff(ome=True, metadata={"axes": "TYX"}),
    "pages.tif": _tiff_of_pages,
    "array.npy": lambda path: np.save(path, FRAMES),
    "store.h5": _hdf5(),
    "chunks.h5": _hdf5(chunks=(1, 16, 20), compression="gzip"),
    "flat.dax": _dax,
}
if importlib.util.find_spec("nd2"):
    WRITERS["frames.nd2"] = lambda path: write_nd2(path, FRAMES)
NO_DAX = sorted(WRITERS.keys() - {"flat.dax"})  # nothing but pixels


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    for name in NO_DAX:
        WRITERS[name](folder / name)
    return {name: (folder / name).read_bytes() for name in NO_DAX}


@settings(max_examples=250)
@given(name=st.sampled_from(NO_DAX), data=st.data())
def test_flipped_bytes_are_read_or_told(
    whole: dict[str, bytes], tmp_path: Path, name: str, data: st.DataObject
) -> None:
    content = bytearray(whole[name])
    places = st.one_of(st.integers(0, 400), st.integers(-1200, -1), st.integers(0, len(content) - 1))
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=4)):
        content[place] = value
    path = tmp_path / name
    path.write_bytes(content)
    try:
        with open_movie(path) as movie:
            for k in range(movie.n_frames):
                assert movie.read(k, k + 1).shape == (1, movie.height, movie.width)
    except EmitterError as error:
        assert name in str(error)
        assert "\n" not in str(error)


@pytest.mark.parametrize("name", WRITERS)
def test_a_movie_that_is_cut_while_it_is_open_is_told(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    WRITERS[name](path)
    with open_movie(path) as movie:
        os.truncate(path, FRAMES[:3].nbytes)
        with pytest.raises(EmitterError, match=rf"{name}"):
            movie.read(0, 6)


def test_frames_before_a_cut_are_read(tmp_path: Path) -> None:
    _dax(tmp_path / "movie.dax")
    with open_movie(tmp_path / "movie.dax") as movie:
        os.truncate(tmp_path / "movie.dax", 4 * FRAMES[0].nbytes)
        np.testing.assert_array_equal(movie.read(1, 4), FRAMES[1:4])
        with pytest.raises(EmitterError, match=r"movie\.dax ends before frame 4"):
            movie.read(3, 5)


@pytest.mark.parametrize(
    "frames", [FRAMES, np.asfortranarray(FRAMES), FRAMES[0]], ids=["C", "Fortran", "one"]
)
def test_npy_of_every_order(tmp_path: Path, frames: np.ndarray) -> None:
    np.save(tmp_path / "movie.npy", frames)
    with open_movie(tmp_path / "movie.npy") as movie:
        np.testing.assert_array_equal(movie.read(0, movie.n_frames), frames.reshape(-1, 16, 20))


def test_damage_inside_a_chunk_names_the_frames(tmp_path: Path) -> None:
    path = tmp_path / "movie.h5"
    WRITERS["chunks.h5"](path)
    with h5py.File(path) as file:
        chunk = file["group/movie.tif"].id.get_chunk_info(3)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + 10 : chunk.byte_offset + 60] = b"\xff" * 50
    path.write_bytes(content)
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie.read(0, 3), FRAMES[:3])
        with pytest.raises(
            EmitterError, match=r"frames 2 to 4 of .*movie\.h5:/group/movie\.tif cannot be read"
        ):
            movie.read(2, 5)


def test_a_file_that_the_system_cannot_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _tiff()(tmp_path / "movie.tif")

    def unreadable(*_: object, **__: object) -> io.BytesIO:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "open", unreadable)
    with pytest.raises(EmitterError, match=r"movie\.tif cannot be read .*Input/output error"):
        open_movie(tmp_path / "movie.tif")


def test_an_ome_tiff_that_lacks_frames_says_how_to_read_the_others(tmp_path: Path) -> None:
    path = tmp_path / "stopped.ome.tif"
    WRITERS["series.ome.tif"](path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b'SizeT="6"', b'SizeT="9"').replace(b'Count="6"', b'Count="9"'))
    with pytest.raises(EmitterError, match=r"lists 9 frames and lacks 3 .*movie=\[.*stopped\.ome\.tif\]"):
        open_movie(path)
    with open_movie([path]) as movie:
        np.testing.assert_array_equal(movie.read(0, 6), FRAMES)


def test_a_name_with_a_store_in_it(tmp_path: Path) -> None:
    _hdf5()(tmp_path / "x.h5")
    with open_movie(f"{tmp_path}/x.h5:/group/movie.tif") as movie:  # a dataset that is called so
        np.testing.assert_array_equal(movie.read(0, 6), FRAMES)
    (tmp_path / "y.h5:").mkdir()
    _tiff()(tmp_path / "y.h5:" / "movie.tif")
    with open_movie(tmp_path / "y.h5:" / "movie.tif") as movie:  # a file in a folder that is called so
        np.testing.assert_array_equal(movie.read(0, 6), FRAMES)


def test_a_compression_that_needs_another_package_is_told(tmp_path: Path) -> None:
    if importlib.util.find_spec("imagecodecs") is not None:
        pytest.skip("imagecodecs is installed")
    Image.fromarray(FRAMES[0]).save(tmp_path / "lzw.tif", compression="tiff_lzw")
    with pytest.raises(EmitterError, match=r"lzw\.tif cannot be read: .*pip install imagecodecs"):
        open_movie(tmp_path / "lzw.tif").read(0, 1)
