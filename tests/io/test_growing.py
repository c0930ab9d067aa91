"""Movies that are still being written, with steps in the place of time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile

from emitter.core.errors import EmitterError
from emitter.core.units import PixelSize
from emitter.io import growing
from emitter.io.growing import GrowingMovie
from emitter.io.movies import open_movie

FRAMES = np.random.default_rng(0).integers(0, 1000, (12, 16, 20)).astype(np.uint16)


def _follow(path: Path, monkeypatch: pytest.MonkeyPatch, steps: list[Callable[[], object]]) -> GrowingMovie:
    """The movie, with one step after the other while it sleeps."""
    todo = iter(steps)
    monkeypatch.setattr(growing.time, "sleep", lambda seconds: next(todo, lambda: None)())
    return GrowingMovie(partial(open_movie, str(path), growing=True), idle_s=0.05)


def _pages(path: Path, n_frames: int) -> bytes:
    with tifffile.TiffWriter(path) as file:
        for frame in FRAMES[:n_frames]:
            file.write(frame, contiguous=False, metadata=None, resolution=(1e5, 1e5), resolutionunit=3)
    return path.read_bytes()


def _seven_frames_and(n_bytes: int, path: Path, monkeypatch: pytest.MonkeyPatch) -> GrowingMovie:
    """A TIFF of 7 frames that soon has so many bytes more of one of 12."""
    whole, few = _pages(path, 12), _pages(path, 7)
    return _follow(path, monkeypatch, [lambda: path.write_bytes(whole[: len(few) + n_bytes])])


def test_an_end_that_is_half_written_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    movie = _seven_frames_and(900, tmp_path / "movie.tif", monkeypatch)
    movie.wait_for(12)
    movie.wait_for(12)
    assert movie.n_frames == 7
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "only its first 7 frames are used" in record.getMessage()


def test_a_whole_end_is_told_once_and_the_pixel_size_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    movie = _seven_frames_and(10**6, tmp_path / "movie.tif", monkeypatch)
    for _ in range(3):
        movie.wait_for(20)
    assert movie.pixel_size == PixelSize.of(100)
    np.testing.assert_array_equal(movie.read(0, 12), FRAMES)
    assert [record.levelname for record in caplog.records] == ["INFO"]


@pytest.mark.parametrize("name", ["img_{:04d}", "run2_{:09d}_Default_000"])
def test_a_folder_that_fills_has_the_numbers_of_the_full_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    def write(k: int) -> None:
        tifffile.imwrite(tmp_path / f"{name.format(100 + k)}.tif", FRAMES[k])

    write(0)
    later = [lambda: None] * 2 + [partial(write, k) for k in range(1, 12)]
    movie = _follow(tmp_path, monkeypatch, later)
    seen = []
    for n_frames in range(1, 13):
        movie.wait_for(n_frames)
        seen.append(movie.frame_numbers[n_frames - 1])
        np.testing.assert_array_equal(movie.read(n_frames - 1, n_frames), FRAMES[n_frames - 1 : n_frames])
    with open_movie(tmp_path) as whole:
        np.testing.assert_array_equal(seen, whole.frame_numbers)
    assert seen[0] == 99  # 100 where frames are counted from 1
    assert caplog.text.count("is the only file") == 1


@pytest.mark.parametrize("late", ["img_0100", "dark"])
def test_a_file_that_changes_the_numbers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    for k in (101, 103):
        tifffile.imwrite(tmp_path / f"img_{k:04d}.tif", FRAMES[0])
    movie = _follow(tmp_path, monkeypatch, [])
    tifffile.imwrite(tmp_path / f"{late}.tif", FRAMES[0])
    with pytest.raises(EmitterError, match="other numbers while it grew"):
        movie.wait_for(3)


def test_a_file_that_stays_alone_is_one_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "img_0100.tif", FRAMES[0])
    movie = _follow(tmp_path, monkeypatch, [])
    movie.wait_for(5)
    np.testing.assert_array_equal(movie.frame_numbers, [0])
