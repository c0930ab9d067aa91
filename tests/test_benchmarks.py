"""The benchmarks start: what they measure is shown by running them."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
SHARED = ("harness",)  # no command of its own


@pytest.fixture(autouse=True)
def as_from_the_command_line(monkeypatch):
    """A program's folder is on its path."""
    monkeypatch.syspath_prepend(FOLDER)


def load(name: str):
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "path", sorted(one for one in FOLDER.glob("*.py") if one.stem not in SHARED), ids=lambda p: p.stem
)
def test_every_benchmark_has_its_command(path):
    module = load(path.stem)
    assert callable(module.main)
    assert f"python benchmarks/{path.name}" in module.__doc__


def test_the_simulation_benchmark_counts_frames():
    module = load("simulation")
    psf = module.build(module.AstigmaticSettings(130, 200, -200, 400, z_range_nm=(-500, 500)), module.PIXEL)
    for model in (psf, module.sampled_spline(psf)):
        assert module.frames_per_cpu_second(model, 0.5, seconds=0.1) > 1
    spline = module.sampled_spline(psf)
    z, zero = torch.tensor([-300.0, 0.0, 300.0]), torch.zeros(3)
    light = [model.patches(zero, zero, z).sum(dim=(1, 2)) for model in (psf, spline)]
    assert torch.allclose(light[0], light[1], atol=0.03)  # it is the same PSF


def test_a_table_has_means_and_spreads_and_the_best_first():
    harness = load("harness")
    rows = {
        "a": [
            {"efficiency_3d": 0.5, "rmse_lateral_nm": 30.0},
            {"efficiency_3d": 0.6, "rmse_lateral_nm": None},
        ],
        "b": [{"efficiency_3d": 0.7, "rmse_lateral_nm": 20.0}],
        "never run": [],
    }
    columns = {"efficiency_3d": "E3D", "rmse_lateral_nm": "lateral"}
    lines = harness.table("of a test", rows, columns).splitlines()
    assert lines[0] == "| of a test | E3D | lateral | seeds |"
    assert lines[2] == "| b | 0.700 | 20.0 | 1 |"
    assert lines[3].startswith("| a | 0.550 (0.500-0.600) | nan") and len(lines) == 4


def test_scores_are_kept_by_conditions_variant_budget_and_seed(tmp_path):
    harness = load("harness")
    conditions = harness.Conditions("here", (), (harness.Scene("own", ()),))
    run = harness.Run(conditions, harness.Variant("x", ("training.seed=1",)), 3, 240, tmp_path)
    (run.folder / "own").mkdir(parents=True)
    (run.folder / "own" / "metrics.json").write_text('{"jaccard": 0.5, "other": 1}')
    costs = harness.Costs(tmp_path / "costs.json")
    costs.known = {"here; x": 0.5}
    harness.Kept(tmp_path / "kept.json", ["jaccard", "steps"]).collect(
        [run], costs, lambda path: {"steps": 480}
    )
    again = harness.Kept(tmp_path / "kept.json", ["jaccard"])
    assert run.steps(costs) == 480
    assert again.of(conditions, run.variant, 240, "own") == [{"jaccard": 0.5, "steps": 480}]
    assert again.of(conditions, run.variant, 720, "own") == []
