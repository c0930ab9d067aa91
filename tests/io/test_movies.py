"""Movies: every format against the array it was made from, real files against their truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from emitter.core.units import PixelSize
from emitter.io.movie import blocks
from emitter.io.movies import open_movie
from emitter.io.tables import read_table

FRAMES = np.random.default_rng(0).integers(0, 1000, (20, 30, 40)).astype(np.uint16)


def _frame_by_frame(path: Path, **options: object) -> None:
    with tifffile.TiffWriter(path) as writer:
        for frame in FRAMES:
            writer.write(frame, **options)


STACKS = {
    "stack": lambda path: tifffile.imwrite(path, FRAMES),
    "bigtiff": lambda path: tifffile.imwrite(path, FRAMES, bigtiff=True),
    "big_endian": lambda path: tifffile.imwrite(path, FRAMES, byteorder=">"),
    "imagej": lambda path: tifffile.imwrite(path, FRAMES, imagej=True),
    "ome": lambda path: tifffile.imwrite(path, FRAMES, ome=True, metadata={"axes": "TYX"}),
    "no_metadata": lambda path: tifffile.imwrite(path, FRAMES, metadata=None),
    "zlib": lambda path: tifffile.imwrite(path, FRAMES, compression="zlib"),
    "zlib_strips": lambda path: tifffile.imwrite(path, FRAMES, compression="zlib", rowsperstrip=7),
    "page_by_page": lambda path: _frame_by_frame(path, metadata=None),
    "series_by_series": _frame_by_frame,
    "npy": lambda path: np.save(path, FRAMES),
}


@pytest.mark.parametrize("kind", STACKS)
def test_every_stack_gives_the_array_that_was_written(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("movie.npy" if kind == "npy" else "movie.tif")
    STACKS[kind](path)
    with open_movie(path) as movie:
        assert (movie.n_frames, movie.height, movie.width, movie.dtype) == (20, 30, 40, np.uint16)
        np.testing.assert_array_equal(movie.frame_numbers, np.arange(20))
        np.testing.assert_array_equal(movie.read(0, 20), FRAMES)
        np.testing.assert_array_equal(movie.read(7, 11), FRAMES[7:11])
        assert movie.read(3, 3).shape == (0, 30, 40)
        with pytest.raises(IndexError):
            movie.read(15, 21)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("kind", ["tif", "array"])
def test_pixel_types_survive(tmp_path: Path, dtype: str, kind: str) -> None:
    frames = (np.arange(100).reshape(5, 4, 5) - (20 if dtype in ("int16", "float32") else 0)).astype(dtype)
    tifffile.imwrite(tmp_path / "movie.tif", frames)
    with open_movie(frames if kind == "array" else tmp_path / "movie.tif") as movie:
        block = movie.read(0, 5)
    assert block.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(block, frames)


@pytest.mark.parametrize("n_frames", [3, 4])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_three_frames_that_tifffile_stores_as_colour_planes(tmp_path: Path, n_frames: int) -> None:
    tifffile.imwrite(tmp_path / "movie.tif", FRAMES[:n_frames])
    with open_movie(tmp_path / "movie.tif") as movie:
        np.testing.assert_array_equal(movie.read(0, n_frames), FRAMES[:n_frames])


def test_a_2d_array_is_one_frame() -> None:
    with open_movie(FRAMES[0]) as movie:
        np.testing.assert_array_equal(movie.read(0, 1), FRAMES[:1])


def test_reading_is_bounded_to_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "movie.tif", FRAMES)
    read = []
    original = np.fromfile
    monkeypatch.setattr(np, "fromfile", lambda *a, **k: read.append(a[2]) or original(*a, **k))
    with open_movie(tmp_path / "movie.tif") as movie:
        movie.read(4, 6)
    assert read == [2 * 30 * 40]


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [([1, 2, 10], [0, 1, 9]), ([0, 2, 10], [0, 2, 10]), ([8, 9, 11], [7, 8, 10])],
    ids=["from 1 with a gap", "from 0 with a gap", "a later part"],
)
def test_unpadded_numbers_sort_right_and_gaps_keep_their_numbers(
    tmp_path: Path, numbers: list[int], expected: list[int]
) -> None:
    for k, number in enumerate(numbers):
        tifffile.imwrite(tmp_path / f"run2_{number}.tif", FRAMES[k])
    sources = [tmp_path, str(tmp_path / "run2_*.tif"), sorted(tmp_path.iterdir())]
    for source in sources:
        with open_movie(source) as movie:
            np.testing.assert_array_equal(movie.frame_numbers, expected)
            np.testing.assert_array_equal(movie.read(0, 3), FRAMES[:3])


def test_a_folder_of_stacks_is_laid_end_to_end(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "movie_2.tif", FRAMES[:12])
    tifffile.imwrite(tmp_path / "movie_10.tif", FRAMES[12:])
    (tmp_path / "notes.txt").write_text("not an image")
    with open_movie(tmp_path) as movie:
        np.testing.assert_array_equal(movie.frame_numbers, np.arange(20))
        np.testing.assert_array_equal(movie.read(10, 15), FRAMES[10:15])


@pytest.mark.parametrize(
    ("names", "stray"),
    [
        (["img_3", "img_5", "img_9", "dark"], "dark.tif"),
        (["img_3", "img_5", "img_9", "img_5 copy"], "img_5 copy.tif"),
        (["img_3", "img_5", "run2_img_9"], "run2_img_9.tif"),
        (["img_3", "img_5", "img_05"], "img_5.tif"),  # the same number twice
        (["a1_3", "a1_5", "a2_7"], "a2_7.tif"),
        (["img_3"], "img_3.tif is the only file"),
        (["alpha", "beta"], None),
        (["img_20260131120000000001", "img_20260131120000000002"], None),
        (["img_3", "img_5", "img_9"], None),
    ],
)
def test_a_file_that_breaks_the_numbers_of_the_names_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, names: list[str], stray: str | None
) -> None:
    for k, name in enumerate(names):
        tifffile.imwrite(tmp_path / f"{name}.tif", FRAMES[k])
    with open_movie(tmp_path) as movie:
        kept = names == ["img_3", "img_5", "img_9"]
        np.testing.assert_array_equal(movie.frame_numbers, [2, 4, 8] if kept else np.arange(len(names)))
    assert len(caplog.records) == (stray is not None)
    assert (stray or "") in caplog.text


def test_a_stack_among_single_frames_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for k in (3, 5, 9):
        tifffile.imwrite(tmp_path / f"img_{k}.tif", FRAMES[k])
    tifffile.imwrite(tmp_path / "img_4.tif", FRAMES[:6])
    with open_movie(tmp_path) as movie:
        np.testing.assert_array_equal(movie.frame_numbers, np.arange(9))
    assert "img_4.tif" in caplog.text
    assert "6 frames" in caplog.text


@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=6), data=st.data())
def test_blocks_of_parts_are_the_slice_of_the_whole(lengths: list[int], data: st.DataObject) -> None:
    parts = np.split(np.arange(sum(lengths)), np.cumsum(lengths)[:-1])
    start = data.draw(st.integers(0, sum(lengths) - 1))
    stop = data.draw(st.integers(start + 1, sum(lengths)))
    joined = np.concatenate([parts[k][a:b] for k, a, b in blocks(lengths, start, stop)])
    np.testing.assert_array_equal(joined, np.arange(start, stop))


def test_challenge_frames_keep_the_numbers_of_their_truth(data_dir: Path) -> None:
    truth = read_table(data_dir / "c16_mt0n1ld_as" / "activations_LD_frames_01-32.csv")
    bright = truth.select((truth.photons > 5000) & (truth.x_nm > 300) & (truth.y_nm > 300))
    with open_movie(data_dir / "c16_mt0n1ld_as" / "frames") as movie:
        frames_THW = movie.read(0, 32).astype(float)
        np.testing.assert_array_equal(movie.frame_numbers, np.arange(32))
    rows, columns = (bright.y_nm // 100).astype(int), (bright.x_nm // 100).astype(int)
    at_truth = frames_THW[bright.frame, rows, columns]
    assert np.median(at_truth) > 1.5 * np.median(frames_THW)
    assert np.median(frames_THW[(bright.frame + 16) % 32, rows, columns]) < 1.2 * np.median(frames_THW)


def test_dax_movie_is_not_transposed(data_dir: Path) -> None:
    folder = data_dir / "storm_analysis"
    truth = read_table(folder / "test_300x200_olist.bin", PixelSize.of(100))
    with open_movie(folder / "test_300x200.dax") as movie:
        assert (movie.n_frames, movie.height, movie.width) == (10, 200, 300)
        frames_THW = movie.read(0, 10).astype(float)
    columns, rows = truth.x_nm / 100, truth.y_nm / 100
    offsets = []
    for frame, x, y in zip(truth.frame, columns, rows, strict=True):
        j, i = int(x), int(y)
        spot = frames_THW[frame, i - 5 : i + 6, j - 5 : j + 6] - np.median(frames_THW[frame])
        span = np.arange(-5, 6) + 0.5
        offsets.append(((spot.sum(0) @ span) / spot.sum() + j - x, (spot.sum(1) @ span) / spot.sum() + i - y))
    # the truth lies on the spots: no swap, no shift of half a pixel
    assert np.abs(np.median(offsets, axis=0)).max() < 0.05


def test_dax_without_inf_needs_the_frame_size(data_dir: Path) -> None:
    with open_movie(data_dir / "storm_analysis" / "scmos_sample.dax", frame_shape_HW=(256, 256)) as movie:
        assert movie.n_frames == 11
        offset = np.load(data_dir / "storm_analysis" / "scmos_calib.npy")[0]
        assert (
            abs(np.median(movie.read(0, 11)) - np.median(offset)) < 100
        )  # the other byte order is off by thousands


def test_picasso_raw(data_dir: Path) -> None:
    path = data_dir / "picasso" / "testdata.raw"
    with open_movie(path) as movie:
        expected = np.fromfile(path, "<u2").reshape(100, 32, 32)
        np.testing.assert_array_equal(movie.read(0, 100), expected)


def test_bead_stack_opens(data_dir: Path) -> None:
    path = data_dir / "c16_mt0n1ld_as" / "z-stack-Beads-2D-Exp.tif"
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie.read(0, movie.n_frames), tifffile.imread(path))
