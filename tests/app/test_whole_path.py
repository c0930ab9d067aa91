"""simulate → train → localize → evaluate, in the small, as one user would go."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from browser import shown
from test_conf import composed

from emitter.app import evaluate, localize, simulate, train
from emitter.app.schema import build
from emitter.core.errors import EmitterError
from emitter.inference.bundle import KEY, load_bundle
from emitter.io.tables import read_table

TINY = [
    "simulation.frame_size_px=[16,16]",
    "model.widths=[8,8,8]",
    "model.stem_channels=[8,8,8]",
    "model.blocks=[1,1,1]",
    "model.latent_channels=8",
    "training.batch_size=4",
    "training.validation.samples=8",
    "training.validation.times=2",
    "logger.wandb=off",
    "trainer=cpu",
]


def run(module, *overrides: object):
    program = module.__name__.rsplit(".", 1)[1]
    return module.run(build(module.Settings, composed(program, [str(o) for o in overrides])))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    run(train, *TINY, "budget.steps=30", f"run_dir={folder}")
    return folder


@pytest.fixture(scope="module")
def movie(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("movie") / "movie.tif"
    run(simulate, "n_frames=20", "frame_size_px=[21,33]", f"output={path}")
    return path


def test_a_simulated_movie_has_its_size_and_its_truth_beside_it(movie):
    frames = tifffile.imread(movie)
    truth = read_table(movie.with_name("movie_truth.csv"))
    assert frames.shape == (20, 21, 33) and frames.dtype == np.uint16
    assert truth.x_nm.max() < 3300 and truth.y_nm.max() < 2100 and truth.x_nm.max() > 2100
    assert set(np.unique(truth.frame)) <= set(range(20)) and (truth.background > 0).all()
    # counts rise where the truth is bright
    bright = truth.select(truth.photons > 3000)
    at = frames[bright.frame, (bright.y_nm / 100).astype(int), (bright.x_nm / 100).astype(int)]
    assert np.median(at) > 1.3 * np.median(frames)


def test_a_run_folder_has_what_the_design_promises(trained):
    for name in (
        "config.yaml",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "metrics.csv",
        "report/curve.png",
        "report/report.html",
    ):
        assert (trained / name).stat().st_size > 0
    assert load_bundle(trained).simulation.frame_size_px == (16, 16)


def test_the_page_of_a_training_shows_its_course_and_diagnosis(trained, tmp_path):
    page = trained / "report" / "report.html"
    for heading in ("Validation", "Diagnosis", "The course of the training", "Training data"):
        assert f"<h2>{heading}</h2>" in page.read_text()
    assert shown(page, tmp_path).is_whole


def test_localizing_and_evaluating_a_movie(trained, movie, tmp_path):
    result = run(
        localize, f"checkpoint={trained}", f"movie={movie}", f"output={tmp_path}/locs.csv", "threshold=0.02"
    )
    table = read_table(tmp_path / "locs.csv")
    assert result["n_frames"] == 20 and len(table) == result["n_emitters"]
    assert (tmp_path / "locs.png").stat().st_size > 0
    truth = movie.with_name("movie_truth.csv")
    for protocol in ("plain", "challenge2016"):
        run(
            evaluate,
            f"localizations={tmp_path}/locs.csv",
            f"truth={truth}",
            f"protocol={protocol}",
            "field_size_nm=[3300,2100]",
            f"output={tmp_path}/{protocol}",
        )
        metrics = json.loads((tmp_path / protocol / "metrics.json").read_text())
        assert metrics["protocol"] == protocol and 0 <= metrics["jaccard"] <= 1


def test_evaluating_a_checkpoint_on_its_held_out_simulation(trained, tmp_path):
    run(evaluate, f"checkpoint={trained}", "samples=40", "protocol=plain", f"output={tmp_path}")
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["n_truth"] > 20
    assert {f"crlb_ratio_{axis}" for axis in "xyz"} <= metrics.keys()
    again = tmp_path / "again"
    run(evaluate, f"checkpoint={trained}", "samples=40", "protocol=plain", f"output={again}")
    assert json.loads((again / "metrics.json").read_text()) == metrics


def test_adamw_can_be_chosen(tmp_path):
    run(train, *TINY, "training.optimizer.algorithm=adamw", "budget.steps=2", f"run_dir={tmp_path}")
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    weights = [name for name in saved["state_dict"] if name.startswith("network.")]
    assert len(saved["optimizer_states"][0]["state"]) == len(weights)


def test_a_folder_without_a_run_cannot_be_resumed(tmp_path):
    with pytest.raises(EmitterError, match=r"holds no config\.yaml"):
        run(train, *TINY, "budget.steps=1", f"run_dir={tmp_path}/new", f"resume={tmp_path}")
    with pytest.raises(EmitterError, match="no such folder"):
        run(train, *TINY, "budget.steps=1", f"run_dir={tmp_path}/new", f"resume={tmp_path}/none")


def test_a_complete_run_cannot_be_resumed(trained):
    with pytest.raises(EmitterError, match="is complete"):
        run(train, *TINY, f"resume={trained}")


def test_a_resumed_run_keeps_the_settings_it_began_with(trained, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    path = folder / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint[KEY]["total_steps"] = 35  # as if it had been stopped before its end
    torch.save(checkpoint, path)
    run(train, "camera=ideal", "simulation.background=[1,2]", "logger.wandb=off", f"resume={folder}")
    assert load_bundle(path).camera.kind == "emccd"
    assert torch.load(path, weights_only=True)["global_step"] == 35
    log = pd.read_csv(folder / "metrics.csv")
    assert log["step"].is_monotonic_increasing and log["step"].min() < 30 <= log["step"].max()


@pytest.mark.parametrize(
    "override", ["trainer.strategy=dpp", "trainer.devices=0", "model.stem_channels=[0,8,8]"]
)
def test_settings_that_fit_no_machine_are_one_sentence(tmp_path, override):
    with pytest.raises(EmitterError, match=r"trainer|stem_channels"):
        run(train, *TINY, override, "budget.steps=1", f"run_dir={tmp_path}")


def test_a_run_folder_that_cannot_be_made_is_named_first(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EmitterError, match="is a file"):
        run(train, *TINY, "budget.steps=1", f"run_dir={tmp_path}/file/run")


def test_a_saturated_simulation_is_said(tmp_path, caplog):
    with caplog.at_level("WARNING"):
        run(simulate, "n_frames=2", "camera.baseline_adu=65400", f"output={tmp_path}/movie.tif")
    assert "saturated" in caplog.text


def test_a_z_range_beyond_the_psf_is_refused(tmp_path):
    with pytest.raises(EmitterError, match="z_range_nm"):
        run(train, *TINY, "simulation.z_range_nm=[-900,500]", f"run_dir={tmp_path}")


def test_training_on_a_psf_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(EmitterError, match=r"psf\.file"):
        run(train, *TINY, "psf=spline", f"run_dir={tmp_path}")
