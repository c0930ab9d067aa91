"""The reports of evaluate.py, localize.py and train.py: their sections, their warnings, and what a browser shows."""

from __future__ import annotations

import logging
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from test_evaluate import some_truth
from test_localize import Marker, bundle_of, movie_at, settings

from emitter.app import evaluate, localize
from emitter.app.held_out import held_out_tables
from emitter.core.table import EmitterTable
from emitter.inference.bundle import Bundle
from emitter.io.tables import write_table
from emitter.models.network import EmitterNetwork, InputScaling
from emitter.models.settings import VarSettings
from emitter.simulation.settings import SimulationSettings
from emitter.training.report import draw_report

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "plots"))
from browser import assert_readable


def headings(page: Path) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", page.read_text(encoding="utf-8"))


def noisy(truth: EmitterTable) -> EmitterTable:
    """Nine of ten, 20 nm off, with probabilities."""
    rng = np.random.default_rng(2)
    found = truth.select(rng.random(len(truth)) < 0.9)
    n = len(found)
    moved = {axis: getattr(found, axis) + rng.normal(0, 20, n) for axis in ("x_nm", "y_nm", "z_nm")}
    return found.with_columns(**moved, probability=rng.uniform(0.5, 1, n))


def test_report_of_tables_over_a_movie(tmp_path):
    truth = some_truth()
    write_table(tmp_path / "truth.csv", truth)
    write_table(tmp_path / "locs.csv", noisy(truth))
    frames = np.random.default_rng(0).integers(90, 110, (30, 64, 64)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "movie.tif", frames)
    metrics = evaluate.run(
        evaluate.Settings(
            output=tmp_path / "o",
            localizations=tmp_path / "locs.csv",
            truth=tmp_path / "truth.csv",
            field_size_nm=6400.0,
            pixel_size_nm=100.0,
            movie=str(tmp_path / "movie.tif"),
        )
    )
    names = {"scores", "errors", "errors_bound", "reliability", "pixel_bias", "examples"}
    assert {path.name for path in (tmp_path / "o").iterdir()} == {
        "metrics.json",
        "report.html",
        *(f"{name}.png" for name in names),
    }
    page = tmp_path / "o" / "report.html"
    assert f"{metrics['jaccard']:.3f}" in page.read_text(encoding="utf-8")
    seen = assert_readable(page, tmp_path)
    assert seen["headings"] == headings(page) and len(seen["images"]) == len(names)
    assert "Pixel bias" in headings(page) and "Example frames" in headings(page)


def test_report_of_a_table_without_localizations(tmp_path):
    write_table(tmp_path / "truth.csv", some_truth())
    write_table(tmp_path / "locs.csv", EmitterTable.empty())
    evaluate.run(
        evaluate.Settings(
            output=tmp_path,
            localizations=tmp_path / "locs.csv",
            truth=tmp_path / "truth.csv",
            protocol="plain",
        )
    )
    assert "Nothing is matched." in (tmp_path / "report.html").read_text(encoding="utf-8")


def network_bundle() -> Bundle:
    """An untrained network for small frames."""
    small = VarSettings(stem_channels=(8, 8, 8), widths=(8, 8, 8), blocks=(1, 1, 1), latent_channels=8)
    simulation = SimulationSettings(frame_size_px=(24, 24), z_range_nm=(0, 0))
    return replace(bundle_of(EmitterNetwork(small, 3, InputScaling(50, 50))), simulation=simulation)


def test_report_of_a_checkpoint_against_a_movie(tmp_path, monkeypatch):
    bundle = network_bundle()
    truth = held_out_tables(bundle, 40)[1]
    monkeypatch.setattr(evaluate, "load_bundle", lambda source: bundle)
    monkeypatch.setattr(evaluate, "held_out_tables", lambda *args, **kwargs: (noisy(truth), truth))
    movie_at(tmp_path / "movie.tif")
    evaluate.run(
        evaluate.Settings(
            output=tmp_path / "o",
            checkpoint=tmp_path / "x.ckpt",
            protocol="plain",
            samples=40,
            movie=str(tmp_path / "movie.tif"),
        )
    )
    page = tmp_path / "o" / "report.html"
    assert headings(page)[-1] == "Simulated against real frames"
    assert "CRLB x (nm)" in page.read_text(encoding="utf-8")  # the table of errors and bounds


def localized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, background: tuple[float, float]) -> Path:
    bundle = bundle_of(Marker(), z_range_nm=(0, 0))
    simulation = replace(bundle.simulation, background=background)
    monkeypatch.setattr(localize, "load_bundle", lambda source: replace(bundle, simulation=simulation))
    movie_at(tmp_path / "movie.tif")
    localize.run(settings(tmp_path, report=True))
    return tmp_path / "locs_report.html"


def test_report_of_a_localized_movie(tmp_path, monkeypatch, caplog):
    with caplog.at_level(logging.WARNING):
        page = localized(tmp_path, monkeypatch, (10.0, 20.0))
    assert not [message for message in caplog.messages if message.startswith("Background")]
    assert headings(page) == [
        "Does the movie fit the network?",
        "Super-resolved image",
        "Localizations over time",
        "What was found",
        "Does the table explain the movie?",
    ]
    pictures = {path.name for path in (tmp_path / "locs_report").iterdir()}
    assert pictures == {
        f"{name}.png" for name in ("image", "counts", "histograms", "residual_map", "residual_frames")
    }
    assert_readable(page, tmp_path)


def test_movie_unlike_the_training_is_told_in_the_report_and_on_the_log(tmp_path, monkeypatch, caplog):
    with caplog.at_level(logging.WARNING):
        page = localized(tmp_path, monkeypatch, (200.0, 400.0))
    (told,) = [message for message in caplog.messages if message.startswith("Background")]
    assert f'<p class="warning">{told}' in page.read_text(encoding="utf-8").replace("&#39;", "'")


def test_report_of_a_training(tmp_path):
    (tmp_path / "metrics.csv").write_text(
        "step,train/loss,val/efficiency,val/efficiency_3d,val/jaccard,time/cpu_seconds\n"
        "10,5,,,,\n20,6,0.4,0.41,0.5,30\n30,7,0.3,0.31,0.4,60\n"
    )
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "diagnosis.md").write_text("- step 3: give a third of the learning rate\n")
    (tmp_path / "report" / "data_check.txt").write_text("emitters per frame: 9 < 10\n")
    draw_report(tmp_path)
    page = tmp_path / "report" / "report.html"
    text = page.read_text(encoding="utf-8")
    assert headings(page) == [
        "Validation",
        "Diagnosis",
        "The course of the training",
        "Training data in numbers",
    ]
    assert "step 3: give a third" in text and "9 &lt; 10" in text
    assert "0.410" in text and "0.310" in text  # the best and the last
    assert_readable(page, tmp_path)
