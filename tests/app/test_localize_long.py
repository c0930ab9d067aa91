"""localize.py on long movies: interrupted, shared by processes, in parts, while they grow; always the same rows."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from test_localize import Marker, bundle_of, movie_at

from emitter.app import localize, localizing
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
    bundle = bundle_of(EmitterNetwork(model, 3, InputScaling()), (0, 0))
    path = tmp_path_factory.mktemp("run") / "tiny.ckpt"
    weights = {f"network.{name}": value for name, value in bundle.network.state_dict().items()}
    torch.save({KEY: bundle.state(), "state_dict": weights}, path)
    return path


@pytest.fixture
def marker(monkeypatch: pytest.MonkeyPatch) -> Marker:
    network = Marker()
    monkeypatch.setattr(localize, "load_bundle", lambda source: bundle_of(network))
    return network


def settings(folder: Path, checkpoint: Path = Path(__file__), **changes: Any) -> Settings:
    given = {
        "checkpoint": checkpoint,
        "movie": str(folder / "movie.tif"),
        "output": folder / "locs.csv",
        "batch_px": BLOCK_PX,
        "device": "cpu",
        "precision": "fp32",
        "uncertainty": False,
        "report": False,
    }
    return Settings(**{**given, **changes})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "movie.tif"}


def _in_a_process(chosen: Settings) -> multiprocessing.Process:
    process = multiprocessing.get_context("spawn").Process(target=run, args=(chosen,))
    process.start()
    return process


def test_two_processes_write_the_table_of_one_and_a_killed_one_is_told(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        localize, "with_correction", lambda bundle, device: bundle
    )  # the bound itself will do
    tifffile.imwrite(  # more rows than a pipe holds, so that the killed one cannot have sent them all
        tmp_path / "movie.tif", np.random.default_rng(0).integers(110, 900, (40, 64, 64)).astype(np.uint16)
    )
    common = {"threshold": 0.001, "superres_nm": 100, "batch_px": 64 * 64, "uncertainty": True}
    run(settings(tmp_path, checkpoint, **common))
    expected = contents(tmp_path)
    for name in expected:
        (tmp_path / name).unlink()
    write = localizing.TableWriter.write
    alive: list[int] = []

    def write_and_kill(self: Any, table: Any) -> Any:
        written = write(self, table)
        if not alive:
            victim = multiprocessing.active_children()[-1]
            alive.append(victim.pid or 0)
            os.kill(alive[0], signal.SIGKILL)
            victim.join()
        return written

    monkeypatch.setattr(localizing.TableWriter, "write", write_and_kill)
    two = settings(tmp_path, checkpoint, devices=2, **common)
    with pytest.raises(EmitterError, match=r"device \d ended before its work was done \(exit code -9"):
        run(two)
    monkeypatch.setattr(localizing.TableWriter, "write", write)
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
    partial = tmp_path / "locs.csv.partial"
    while process.is_alive() and not (partial.exists() and partial.read_bytes().count(b"\n") > 300):
        time.sleep(0.001)
    process.kill()
    process.join()
    run(chosen)
    assert contents(tmp_path) == expected


def test_each_movie_gets_its_own_table(tmp_path: Path, marker: Marker) -> None:
    movies = [tmp_path / f"cell_{k}.tif" for k in (1, 2)]
    for k, movie in enumerate(movies):
        movie_at(movie, 5 + k)
    pattern = str(tmp_path / "cell_*.tif")
    result = run(settings(tmp_path, movie=pattern, output=tmp_path / "tables", each=True, superres_nm=None))
    assert [one["n_frames"] for one in result["movies"]] == [5, 6]
    assert sorted(p.name for p in (tmp_path / "tables").iterdir()) == ["cell_1.csv", "cell_2.csv"]
    assert len(read_table(tmp_path / "tables" / "cell_2.csv")) == 6
    assert run(settings(tmp_path, movie=pattern, superres_nm=None))["n_frames"] == 11  # one movie, end to end
    named = tuple(str(movie) for movie in movies)
    assert run(settings(tmp_path, movie=named, superres_nm=None))["n_frames"] == 11
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        movie_at(tmp_path / folder / "cell.tif")
    same = tuple(str(tmp_path / folder / "cell.tif") for folder in ("a", "b"))
    with pytest.raises(EmitterError, match=r"2 of the movies would all be written to cell\.csv"):
        run(settings(tmp_path, movie=same, output=tmp_path / "tables", each=True))


def test_several_movies_go_on_where_they_were_interrupted(
    tmp_path: Path, marker: Marker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for k in range(3):
        movie_at(tmp_path / f"cell_{k}.tif", 6)
    (tmp_path / "cell_1.tif").write_bytes(b"no movie")
    tables = tmp_path / "tables"
    chosen = settings(tmp_path, movie=str(tmp_path / "cell_*.tif"), output=tables, each=True)
    marker.interrupt_after = 3  # of the first movie both blocks, of the last one
    with pytest.raises(KeyboardInterrupt):
        run(chosen)
    marker.interrupt_after = 1
    with pytest.raises(EmitterError, match=r"1 of 3 movies .*cell_1\.tif\)"):
        run(chosen)
    assert f"{tables / 'cell_0.csv'} is there already" in caplog.text
    assert "going on after 3 frames" in caplog.text
    movie_at(tmp_path / "cell_1.tif", 7)
    marker.interrupt_after = 3
    result = run(chosen)
    assert [one["table"].name for one in result["movies"]] == ["cell_1.csv"]
    assert sorted(p.name for p in tables.iterdir()) == [
        f"cell_{k}.{end}" for k in range(3) for end in ("csv", "png")
    ]
    marker.interrupt_after = None
    assert len(run(chosen)["movies"]) == 3  # a command that came to its end begins anew


def test_what_one_movie_breaks_does_not_keep_the_others(
    tmp_path: Path, marker: Marker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for k in range(3):
        movie_at(tmp_path / f"cell_{k}.tif", 6)
    tables = tmp_path / "tables"
    chosen = settings(
        tmp_path, movie=str(tmp_path / "cell_*.tif"), output=tables, each=True, superres_nm=None
    )
    open_movie = Settings.open

    def broken(self: Settings) -> Any:
        if "cell_1" in str(self.movie):
            raise ZeroDivisionError("a bug")
        return open_movie(self)

    monkeypatch.setattr(Settings, "open", broken)
    with pytest.raises(EmitterError, match=r"1 of 3 movies .*cell_1\.tif\)"):
        run(chosen)
    assert "cell_1.tif: a bug" in caplog.text
    monkeypatch.setattr(Settings, "open", open_movie)
    other = replace(chosen, format="emitter", superres_nm=100.0)  # what is there is not what is asked for now
    assert [one["n_emitters"] for one in run(other)["movies"]] == [6, 6, 6]
    header = (tables / "cell_0.csv").read_text().splitlines()[0]
    assert header.startswith("frame,")
    assert (tables / "cell_0.png").is_file()


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
        ({"output": Path("folder")}, "ending"),
    ],
)
def test_settings_out_of_range(tmp_path: Path, changes: dict[str, Any], match: str) -> None:
    with pytest.raises(SettingsError, match=match):
        settings(tmp_path, **changes)
