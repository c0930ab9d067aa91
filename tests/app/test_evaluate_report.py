"""evaluate.py's page: which frames it shows, what it says of a real movie, and the pictures beside it."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from browser import shown

from emitter.app.evaluate import Settings, run
from emitter.app.examples import ShownFrames, chosen_frames, example_frames
from emitter.app.real_frames import real_frames_section, telling
from emitter.core.channels import Scaling
from emitter.core.decoding import Thresholds
from emitter.core.errors import EmitterError
from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize
from emitter.inference.bundle import Bundle
from emitter.io.movie import Movie
from emitter.io.movies import open_movie
from emitter.io.tables import write_table
from emitter.metrics.matching import match
from emitter.plots.scores import Curves, plot_binned
from emitter.psf import build
from emitter.psf.gaussian import GaussianSettings
from emitter.simulation.camera import Camera, CameraSettings
from emitter.simulation.settings import SimulationSettings
from emitter.simulation.simulator import Domain, Simulator

CAMERA = Camera.build(CameraSettings("ideal"))
PNG = b"\x89PNG\r\n\x1a\n"


def bundle() -> Bundle:
    """There is no network: none is asked."""
    simulation = SimulationSettings(
        frame_size_px=(24, 40), density_per_um2=(0.5, 0.5), z_range_nm=(0, 0), background=(30, 40)
    )
    psf = build(GaussianSettings(130), CAMERA.pixel_size)
    return Bundle(None, Scaling(), Thresholds(), psf, CAMERA, simulation)  # type: ignore[arg-type]


def filmed(n_frames: int = 12, background: float = 35.0) -> tuple[np.ndarray, EmitterTable]:
    """Frames (T, 24, 40) in counts and what is in them."""
    of = bundle()
    settings = replace(of.simulation, background=(background, background))
    sample = Simulator(settings, of.psf, of.camera).sample(5, torch.arange(n_frames), Domain.TRAINING)
    counts = sample.counts_BTHW[:, 1].numpy().round().clip(0).astype(np.uint16)
    return counts, EmitterTable.from_emitters(sample.emitters, of.pixel_size)


def movie_of(counts_THW: np.ndarray) -> Movie:
    return open_movie(counts_THW)


def test_frames_are_typical_or_among_the_worst() -> None:
    """Frame 3 is all missed and frame 5 half; in the others all is found."""
    frame = np.repeat(np.arange(6), 4)
    place = 500.0 * np.arange(24)
    truth = EmitterTable.of(frame, x_nm=place, y_nm=place)
    found = truth.select((frame != 3) & ((frame != 5) | (np.arange(24) % 2 == 0)))
    pairs = match(found, truth, "optimal")
    chosen = chosen_frames(found, truth, pairs, np.arange(6))
    assert [number for number, _ in chosen] == [0, 1, 3, 5]
    assert [words for _, words in chosen][1:3] == [
        "typical: frame 1, Jaccard index 1.00",
        "among the worst: frame 3, Jaccard index 0.00",
    ]
    assert [number for number, _ in chosen_frames(found, truth, pairs, np.array([2, 5, 99]))] == [2, 5]
    assert chosen_frames(found, truth, pairs, np.array([99])) == []


def test_every_emitter_of_a_frame_is_drawn_once_and_where_it_is() -> None:
    truth = EmitterTable.of([4, 4, 4, 7], x_nm=[150.0, 900, 2000, 50], y_nm=[250.0, 300, 100, 50])
    found = EmitterTable.of([4, 4], x_nm=[160.0, 1500], y_nm=[250.0, 1200])
    pairs = match(found, truth, "optimal", 250.0, 500.0)
    frames = np.arange(8 * 20 * 30).reshape(8, 20, 30)
    behind = ShownFrames(np.arange(8), lambda numbers: frames[list(numbers)], "counts", PixelSize(100, 50))
    (four,) = (one for one in example_frames(found, truth, pairs, behind) if "frame 4" in one.title)
    assert four.true_xy.tolist() == [[1.5, 5.0]]
    assert four.found_xy.tolist() == [[1.6, 5.0]]
    assert four.missed_xy.tolist() == [[9.0, 6.0], [20.0, 2.0]]
    assert four.false_xy.tolist() == [[15.0, 24.0]]
    assert np.array_equal(four.frame_HW, frames[4])


def test_tables_on_their_movie_and_every_picture_as_a_file(tmp_path: Path) -> None:
    counts, truth = filmed()
    tifffile.imwrite(tmp_path / "movie.tif", counts)
    write_table(tmp_path / "truth.csv", truth)
    moved = truth.with_columns(x_nm=truth.x_nm + 20, probability=np.linspace(0.5, 0.99, len(truth)))
    write_table(tmp_path / "locs.csv", moved.select(np.arange(len(truth)) % 5 > 0))
    tables = {"localizations": tmp_path / "locs.csv", "truth": tmp_path / "truth.csv"}
    settings = Settings(tmp_path / "o", **tables, protocol="plain", movie=str(tmp_path / "movie.tif"))
    with pytest.raises(EmitterError, match=r"movie\.tif does not say the size of its pixels.*pixel_size_nm="):
        run(settings)
    metrics = run(replace(settings, pixel_size_nm=100.0, protocol="challenge2016"))
    assert tuple(metrics["protocol_settings"]["field_size_nm"]) == (4000, 2400)  # the movie's
    pictures = sorted((tmp_path / "o" / "report").iterdir())
    names = {"errors.png", "examples.png", "pixel_bias.png", "scores.png", "sureness.png"}
    assert {path.name for path in pictures} == names
    assert all(path.read_bytes().startswith(PNG) for path in pictures)
    text = (tmp_path / "o" / "report.html").read_text()
    assert text.count("<img src=") == text.count('src="data:image/png;base64,') == len(names)
    for words in ("What is found, and how well", "Examples", "Errors", "Pixel bias", "how sure it is"):
        assert words in text
    assert shown(tmp_path / "o" / "report.html", tmp_path).is_whole


def test_a_movie_of_other_frames_is_said(tmp_path: Path) -> None:
    _, truth = filmed()
    write_table(tmp_path / "truth.csv", truth.select(truth.frame > 1))
    tifffile.imwrite(tmp_path / "movie.tif", np.arange(2 * 24 * 40, dtype=np.uint16).reshape(2, 24, 40))
    table = tmp_path / "truth.csv"
    settings = Settings(tmp_path / "o", table, table, protocol="plain", movie=str(tmp_path / "movie.tif"))
    run(replace(settings, pixel_size_nm=100.0))
    text = (tmp_path / "o" / "report.html").read_text()
    assert "The movie holds none of the tables' frames." in html.unescape(text)


def test_nothing_matched_has_no_errors_to_show(tmp_path: Path) -> None:
    _, truth = filmed()
    write_table(tmp_path / "truth.csv", truth)
    write_table(tmp_path / "locs.csv", truth.with_columns(x_nm=truth.x_nm + 50_000))
    run(Settings(tmp_path / "o", tmp_path / "locs.csv", tmp_path / "truth.csv", protocol="plain"))
    assert ">Errors<" not in (tmp_path / "o" / "report.html").read_text()
    none, some = np.full(2, np.nan), np.full(2, 5.0)
    of = Curves(some, some, *[np.zeros(2)] * 3, none, none)
    assert len(plot_binned({"photons": of}).axes) == 1
    assert len(plot_binned({"photons": replace(of, rmse_axial_nm=some)}).axes) == 2


def test_a_width_that_differs_is_said_as_it_is_tested() -> None:
    wide = replace(bundle(), psf=build(GaussianSettings(200), CAMERA.pixel_size))
    (said,) = real_frames_section(wide, movie_of(filmed(48)[0])).warnings
    assert re.search(r"width of spots that stand alone \(0\.6\d times that of simulated spots", said), said


def test_a_movie_like_the_simulation_and_one_of_another_background() -> None:
    like = real_frames_section(bundle(), movie_of(filmed(48)[0]))
    assert like.warnings == () and like.text.startswith("The movie looks like the simulation in")
    assert [picture.name for picture in like.pictures] == ["simulated_and_real", "distributions"]
    (said,) = real_frames_section(bundle(), movie_of(filmed(48, background=120.0)[0])).warnings
    assert said.startswith("The movie differs from the simulation in") and "background (12" in said


def test_the_frame_that_is_shown_has_something_in_it_and_its_brightest_part_is_inside() -> None:
    frames = np.zeros((8, 30, 50))
    for number, height in ((1, 5.0), (4, 20.0), (6, 30.0)):
        frames[number, 25, 3] = height
    assert telling(frames).max() == 5
    part = telling(frames, (10, 100))
    assert part.shape == (10, 50) and part.max() == 5
