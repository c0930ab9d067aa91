"""localize.py on long movies: interrupted, shared by processes, in parts, while they grow; always the same rows."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from test_localize import Marker, bundle_of, movie_at

from emitter.app import localize
from emitter.app.localize import Settings, run
from emitter.core.errors import EmitterError, SettingsError
from emitter.inference.bundle import KEY
from emitter.io.movies import open_movie
from emitter.io.tables import read_table
from emitter.models.network import EmitterNetwork, InputScaling
from emitter.models.settings import VarSettings

BLOCK_PX = 3 * 32 * 40  # three frames


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained network."""
    torch.manual_seed(0)
    model = VarSettings(
        cells_px=(4, 2, 1), stem_channels=(8, 8, 8), widths=(8, 8, 8), blocks=(1, 1, 1), latent_channels=8
    )
    bundle = bundle_of(EmitterNetwork(model, 3, InputScaling()))
    path = tmp_path_factory.mktemp("run") / "tiny.ckpt"
    weights = {f"network.{name}": value for name, value in bundle.network.state_dict().items()}
    torch.save({KEY: bundle.state(), "state_dict": weights}, path)
    return path


@pytest.fixture
def marker(monkeypatch: pytest.MonkeyPatch) -> Marker:
    network = Marker()
    monkeypatch.setattr(localize, "load_bundle", lambda source: bundle_of(network))
    return network


def settings(folder: Path, checkpoint: Path = Path("x.ckpt"), **changes: Any) -> Settings:
    given = {
        "checkpoint": checkpoint,
        "movie": str(folder / "movie.tif"),
        "output": folder / "locs.csv",
        "batch_px": BLOCK_PX,
        "device": "cpu",
        "precision": "fp32",
    }
    return Settings(**{**given, **changes})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "movie.tif"}


@pytest.fixture
def whole(tmp_path: Path, marker: Marker) -> tuple[Path, dict[str, bytes]]:
    """A folder with a movie, and the files of an undisturbed run on it."""
    movie_at(tmp_path / "movie.tif")
    run(settings(tmp_path))
    expected = contents(tmp_path)
    for name in expected:
        (tmp_path / name).unlink()
    return tmp_path, expected


@pytest.mark.parametrize("blocks", [0, 1, 2, 3])
def test_resumed_at_every_block_gives_the_same_files(
    whole: tuple[Path, dict[str, bytes]], marker: Marker, blocks: int, caplog: pytest.LogCaptureFixture
) -> None:
    folder, expected = whole
    caplog.set_level(logging.INFO)
    marker.interrupt_after = blocks
    with pytest.raises(KeyboardInterrupt):
        run(settings(folder))
    marker.interrupt_after = 4 - blocks  # not one more than what is missing
    run(settings(folder))
    assert contents(folder) == expected
    assert (f"going on after {3 * blocks} frames" in caplog.text) == (blocks > 0)


def _cut_at_every_byte(folder: Path) -> Iterator[tuple[int, int]]:
    """Lengths of table and journal as a kill may leave them: the table first, then its journal."""
    table, journal = ((folder / f"locs.csv.{kind}").stat().st_size for kind in ("partial", "journal"))
    yield from ((table - cut, journal) for cut in range(0, table, 37))
    yield from ((table, journal - cut) for cut in range(1, journal, 23))


def test_rows_and_journal_cut_anywhere_are_mended(
    whole: tuple[Path, dict[str, bytes]], marker: Marker
) -> None:
    folder, expected = whole
    marker.interrupt_after = 3
    with pytest.raises(KeyboardInterrupt):
        run(settings(folder))
    marker.interrupt_after = None
    left = contents(folder)
    for table_bytes, journal_bytes in _cut_at_every_byte(folder):
        for path in folder.glob("locs*"):
            path.unlink()
        (folder / "locs.csv.partial").write_bytes(left["locs.csv.partial"][:table_bytes])
        (folder / "locs.csv.journal").write_bytes(left["locs.csv.journal"][:journal_bytes])
        run(settings(folder, superres_nm=None))
        assert contents(folder) == {"locs.csv": expected["locs.csv"]}, (table_bytes, journal_bytes)


def test_another_setting_is_refused_and_resume_false_begins_anew(
    whole: tuple[Path, dict[str, bytes]], marker: Marker
) -> None:
    folder, expected = whole
    marker.interrupt_after = 2
    with pytest.raises(KeyboardInterrupt):
        run(settings(folder))
    marker.interrupt_after = None
    left = contents(folder)
    with pytest.raises(EmitterError, match=r"threshold \(was None, is 0.4\).*resume=false"):
        run(settings(folder, threshold=0.4))
    assert contents(folder) == left
    frames = tifffile.imread(folder / "movie.tif")
    tifffile.imwrite(folder / "movie.tif", frames[:-1])
    with pytest.raises(EmitterError, match="movie"):
        run(settings(folder))
    tifffile.imwrite(folder / "movie.tif", frames)
    run(settings(folder, resume=False))
    assert contents(folder) == expected


def _in_a_process(chosen: Settings) -> multiprocessing.Process:
    process = multiprocessing.get_context("spawn").Process(target=run, args=(chosen,))
    process.start()
    return process


def test_two_processes_write_the_table_of_one_and_a_killed_one_is_told(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile.imwrite(  # more rows than a pipe holds, so that the killed one cannot have sent them all
        tmp_path / "movie.tif", np.random.default_rng(0).integers(110, 900, (40, 64, 64)).astype(np.uint16)
    )
    common = {"threshold": 0.001, "superres_nm": 100, "batch_px": 64 * 64}
    run(settings(tmp_path, checkpoint, **common))
    expected = contents(tmp_path)
    for name in expected:
        (tmp_path / name).unlink()
    write = localize.TableWriter.write
    alive: list[int] = []

    def write_and_kill(self: Any, table: Any) -> None:
        write(self, table)
        if not alive:
            victim = multiprocessing.active_children()[-1]
            alive.append(victim.pid or 0)
            os.kill(alive[0], signal.SIGKILL)
            victim.join()

    monkeypatch.setattr(localize.TableWriter, "write", write_and_kill)
    two = settings(tmp_path, checkpoint, devices=2, **common)
    with pytest.raises(EmitterError, match=r"device \d ended before its work was done \(exit code -9"):
        run(two)
    monkeypatch.setattr(localize.TableWriter, "write", write)
    assert (tmp_path / "locs.csv.partial").exists()
    run(two)
    assert contents(tmp_path) == expected
    assert not multiprocessing.active_children()


def test_a_killed_program_goes_on(tmp_path: Path, checkpoint: Path) -> None:
    movie_at(tmp_path / "movie.tif", 30)
    chosen = settings(tmp_path, checkpoint, threshold=0.001, superres_nm=100, batch_px=32 * 40)
    run(chosen)
    expected = contents(tmp_path)
    for name in expected:
        (tmp_path / name).unlink()
    process = _in_a_process(chosen)
    journal = tmp_path / "locs.csv.journal"
    while process.is_alive() and not (journal.exists() and journal.read_bytes().count(b"\n") > 3):
        time.sleep(0.001)
    process.kill()
    process.join()
    run(chosen)
    assert contents(tmp_path) == expected


def test_a_region_is_the_movie_cut_by_hand(tmp_path: Path, checkpoint: Path) -> None:
    movie_at(tmp_path / "movie.tif")
    frames = tifffile.imread(tmp_path / "movie.tif")
    tifffile.imwrite(tmp_path / "cut.tif", frames[:, 4:24, 8:36])
    common = {"threshold": 0.001, "superres_nm": None}
    run(settings(tmp_path, checkpoint, roi=(8, 4, 36, 24), **common))
    part = read_table(tmp_path / "locs.csv")
    run(settings(tmp_path, checkpoint, movie=str(tmp_path / "cut.tif"), **common))
    cut = read_table(tmp_path / "locs.csv")
    assert len(part) > 0
    np.testing.assert_array_equal(part.frame, cut.frame)
    np.testing.assert_allclose(part.x_nm, cut.x_nm + 800, atol=2e-4)
    np.testing.assert_allclose(part.y_nm, cut.y_nm + 400, atol=2e-4)
    np.testing.assert_array_equal(part.photons, cut.photons)
    with pytest.raises(SettingsError, match=r"roi.*40 columns and 32 rows"):
        run(settings(tmp_path, checkpoint, roi=(8, 4, 41, 24)))


@pytest.mark.parametrize("frames", [(0, 11), (4, 7), (5, 5), (2, 100)])
def test_a_range_of_frames_has_the_rows_of_the_whole(
    tmp_path: Path, checkpoint: Path, frames: tuple[int, int]
) -> None:
    movie_at(tmp_path / "movie.tif")
    common = {"threshold": 0.001, "superres_nm": None}
    run(settings(tmp_path, checkpoint, **common))
    whole = read_table(tmp_path / "locs.csv")
    result = run(settings(tmp_path, checkpoint, frames=frames, **common))
    part = read_table(tmp_path / "locs.csv")
    expected = whole.select((whole.frame >= frames[0]) & (whole.frame <= frames[1]))
    for name, column in expected.columns().items():
        np.testing.assert_array_equal(part.columns()[name], column)
    assert result["n_frames"] == min(frames[1], 11) - frames[0] + 1
    with pytest.raises(EmitterError, match=r"frames 0 to 11.*\[12,20\]"):
        run(settings(tmp_path, checkpoint, frames=(12, 20)))


def test_each_movie_gets_its_own_table(tmp_path: Path, marker: Marker) -> None:
    movies = [tmp_path / f"cell_{k}.tif" for k in (1, 2)]
    for k, movie in enumerate(movies):
        movie_at(movie, 5 + k)
    pattern = str(tmp_path / "cell_*.tif")
    run(settings(tmp_path, movie=pattern, output=tmp_path / "tables", each=True, superres_nm=None))
    assert sorted(p.name for p in (tmp_path / "tables").iterdir()) == ["cell_1.csv", "cell_2.csv"]
    assert len(read_table(tmp_path / "tables" / "cell_2.csv")) == 6
    assert run(settings(tmp_path, movie=pattern, superres_nm=None))["n_frames"] == 11  # one movie, end to end
    named = tuple(str(movie) for movie in movies)
    assert run(settings(tmp_path, movie=named, superres_nm=None))["n_frames"] == 11


def test_a_growing_movie_is_read_to_its_end(tmp_path: Path, marker: Marker) -> None:
    movie_at(tmp_path / "movie.tif")
    run(settings(tmp_path))
    expected = contents(tmp_path)
    frames = tifffile.imread(tmp_path / "movie.tif")
    raw = tmp_path / "grow" / "movie.dax"
    raw.parent.mkdir()
    raw.with_suffix(".inf").write_text("frame dimensions = 40 x 32\nnumber of frames = 1\n")

    def write() -> None:
        with raw.open("wb") as file:
            for frame in frames:
                half = frame.astype(">u2").tobytes()
                for part in (half[:999], half[999:]):  # a frame is half there at times
                    file.write(part)
                    file.flush()
                    time.sleep(0.01)

    writer = threading.Thread(target=write)
    writer.start()
    result = run(settings(tmp_path, movie=str(raw), output=raw.parent / "locs.csv", follow_s=0.6))
    writer.join()
    assert result["n_frames"] == 12
    assert {name: (raw.parent / name).read_bytes() for name in expected} == expected


def test_a_tiff_that_grows_is_read_to_its_end(tmp_path: Path, marker: Marker) -> None:
    frames = tifffile.imread(movie_at(tmp_path / "whole.tif"))

    def write() -> None:
        with tifffile.TiffWriter(tmp_path / "movie.tif", bigtiff=True) as file:
            for frame in frames:
                file.write(frame, contiguous=False, metadata=None)
                time.sleep(0.02)

    writer = threading.Thread(target=write)
    writer.start()
    time.sleep(0.05)
    run(settings(tmp_path, follow_s=0.8, superres_nm=None))
    writer.join()
    with open_movie(tmp_path / "movie.tif") as movie:
        assert movie.n_frames == 12
    assert read_table(tmp_path / "locs.csv").frame.tolist() == list(range(12))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"frames": (5, 2)}, "frames"),
        ({"roi": (5, 2, 5, 9)}, "roi"),
        ({"follow_s": 0.0}, "follow_s"),
        ({"devices": 0}, "devices"),
        ({"devices": 2, "follow_s": 1.0}, "follow_s"),
        ({"each": True}, "give a folder"),
    ],
)
def test_settings_out_of_range(tmp_path: Path, changes: dict[str, Any], match: str) -> None:
    with pytest.raises(SettingsError, match=match):
        settings(tmp_path, **changes)
