"""The benchmarks start: what they measure is shown by running them."""

import importlib.util
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from emitter.core.channels import Scaling
from emitter.core.decoding import Thresholds
from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize
from emitter.inference.bundle import Bundle
from emitter.psf import build
from emitter.psf.gaussian import AstigmaticSettings, GaussianSettings
from emitter.psf.spline import SplinePSF
from emitter.simulation.camera import Camera, CameraSettings
from emitter.simulation.settings import SimulationSettings

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
ASTIGMATIC = AstigmaticSettings()
SHARED = (
    "harness",
    "accuracy_conditions",
    "accuracy_figures",
    "precision_figures",
)  # no commands of their own


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


def test_the_figures_of_accuracy_show_what_was_scored(tmp_path, monkeypatch):
    accuracy = load("accuracy")
    shown = {}
    monkeypatch.setattr(accuracy, "plot_budgets", lambda models, path: shown.update(models))
    monkeypatch.setattr(
        accuracy, "plot_densities", lambda panels, path: shown.update({p.title: p.ours for p in panels})
    )
    kept = accuracy.Kept(tmp_path / "scores.json", [])
    for seed, score in ((1, 0.7), (2, 0.72)):
        kept.scores[f"quickstart; default; 240 CPU-s; seed {seed}"] = {
            "0.6 per um2": {"efficiency_3d": score}
        }
    kept.scores["quickstart; a trial; 240 CPU-s; seed 1"] = {"0.6 per um2": {"efficiency_3d": 0.9}}
    ladder = {accuracy.at(density): {"efficiency_lateral": 1 - density / 10} for density in accuracy.LADDER}
    kept.scores["ladder_2d; unet; 720 CPU-s; seed 1"] = ladder
    accuracy.figures(kept, tmp_path)
    assert shown == {
        "default": {240: [0.7, 0.72]},
        "2D, E lateral": {"unet": {density: [1 - density / 10] for density in accuracy.LADDER}},
    }


def test_the_figures_of_accuracy_are_drawn(tmp_path):
    drawn = load("accuracy_figures")
    drawn.plot_budgets({"default": {240: [0.7, 0.72], 720: [0.75]}}, tmp_path / "budget.png")
    panel = drawn.Panel(
        "2D", "emitters per µm²", {"default": {0.1: [0.9], 5: [0.6]}}, ("Picasso", drawn.PICASSO_2D)
    )
    drawn.plot_densities([panel], tmp_path / "density.png")
    assert all((tmp_path / name).stat().st_size > 10_000 for name in ("budget.png", "density.png"))


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
    assert again.has(run) and not again.has(replace(run, seed=4))
    both = replace(
        run, conditions=replace(conditions, scenes=(*conditions.scenes, harness.Scene("other", ())))
    )
    assert not again.has(both) and again.lost(both)
    both.trained.touch()
    assert not again.lost(both)


def test_another_scene_changes_nothing_that_is_kept(tmp_path):
    harness = load("harness")
    scenes = (harness.Scene("own", ()), harness.Scene("other", ()))
    run = harness.Run(harness.Conditions("here", (), scenes), harness.Variant("x"), 3, 240, tmp_path)
    for scene in scenes:
        run.scores_file(scene).parent.mkdir(parents=True)
        run.scores_file(scene).write_text('{"jaccard": 0.5}')
    kept = harness.Kept(tmp_path / "kept.json", ["jaccard", "speed"])
    kept.scores = {run.key: {"own": {"jaccard": 0.7, "speed": 9}}}
    kept.collect([run], harness.Costs(tmp_path / "costs.json"), lambda path: {"speed": 1})
    assert kept.scores[run.key] == {
        "own": {"jaccard": 0.7, "speed": 9},
        "other": {"jaccard": 0.5, "speed": 9},
    }
    more = [replace(run, seed=4, out=tmp_path / "gone")]
    kept.scores[more[0].key] = {"own": {"jaccard": 0.6}}
    harness.run_all(more, harness.Costs(tmp_path / "costs.json"), kept, jobs=1)
    assert kept.scores[more[0].key] == {"own": {"jaccard": 0.6}}


def optics(psf=ASTIGMATIC, **changes) -> Bundle:
    """A bundle without a network: its tables are made by hand."""
    pixel = PixelSize.of(100.0)
    simulation = SimulationSettings(frame_size_px=(40, 40), **changes)
    camera = Camera.build(CameraSettings("ideal"))
    return Bundle(None, Scaling(), Thresholds(), build(psf, pixel), camera, simulation)


def movie(
    on: list[range], places_nm: list[tuple[float, float]], n_frames: int, sample: int = 0
) -> EmitterTable:
    """Emitters of 2,000 photons of one sample, on in the given ones of its frames."""
    rows = [(sample * n_frames + f, *xy) for frames, xy in zip(on, places_nm, strict=True) for f in frames]
    frame, x, y = np.array(rows).T
    same = {"z_nm": 50.0, "photons": 2000.0, "background": 20.0}
    return EmitterTable.of(frame, x_nm=x, y_nm=y, **{name: np.full(len(x), v) for name, v in same.items()})


def test_precision_counts_on_frames_and_bounds_them_jointly():
    precision = load("precision")
    places = [(1000.0, 1000.0), (2000.0, 2000.0), (3000.0, 1000.0), (3000.0, 3000.0), (500.0, 3000.0)]
    on = [range(2, 3), range(1, 4), range(2, 5), range(5), range(2)]  # the last is off in the middle frame
    truth = EmitterTable.concatenate([movie(on, places, 5, sample) for sample in (0, 1)])
    shuffled = np.random.default_rng(0).permutation(len(truth))  # the order of rows is of no account
    truth = truth.select(shuffled)
    middle = truth.select(truth.frame % 5 == 2)
    predicted = middle.with_columns(x_nm=middle.x_nm + 30.0, z_nm=middle.z_nm - 40.0)
    predicted = predicted.select(predicted.x_nm != 1030.0)  # what is on in one frame is missed
    found = precision.scored(predicted, truth, optics(), (1, 3, 5), apart_nm=700.0)
    order = np.lexsort((found.truth.y_nm, found.truth.x_nm))
    assert found.on_N[3][order].tolist() == [1, 1, 3, 3, 2, 2, 3, 3]
    assert found.on_N[5][order].tolist() == [1, 1, 3, 3, 3, 3, 5, 5]
    assert found.on_N[1].tolist() == [1] * 8 and found.apart_N.all()
    single, three, five = (found.bound_nm_N3[window] for window in (1, 3, 5))
    np.testing.assert_allclose(single / three, np.sqrt(found.on_N[3])[:, None].repeat(3, 1))
    np.testing.assert_allclose(single / five, np.sqrt(found.on_N[5])[:, None].repeat(3, 1))
    rows = {on: precision.on_row(found.select(found.on_N[3] == on)) for on in (1, 2, 3)}
    assert [row["recall"] for row in rows.values()] == [0.0, 1.0, 1.0]
    assert [row["emitters"] for row in rows.values()] == [2, 2, 4]
    np.testing.assert_allclose(found.error_nm_N3[found.found_N], [[30.0, 0.0, -40.0]] * 6)


def test_precision_groups_emitters_of_equal_light(tmp_path):
    precision = load("precision")
    n = 400
    rng = np.random.default_rng(0)
    places = rng.uniform(1500, 2500, (n, 2))
    on = [range(3 - before, 4 + after) for before, after in rng.integers(0, 4, (n, 2))]
    truth = EmitterTable.concatenate([movie([on[i]], [tuple(places[i])], 7, i) for i in range(n)])
    truth = truth.with_columns(photons=rng.uniform(500, 4000, len(truth)))
    middle = truth.select(truth.frame % 7 == 3)
    predicted = middle.with_columns(x_nm=middle.x_nm + 30.0, y_nm=middle.y_nm - 40.0, z_nm=middle.z_nm + 60.0)
    found = precision.scored(predicted, truth, optics(), (1, 3, 7), apart_nm=700.0)
    groups = precision.on_frames(found, n_frames=3, typical_photons=3000.0)
    assert [(one.photons, one.window) for one in groups] == [
        ("500 to 1,000", 3),
        ("1,000 to 2,000", 3),
        ("2,000 to 3,000", 3),
        ("from 3,000", 3),
        ("2,000 to 3,000", 7),
    ]
    assert sum(row["emitters"] for one in groups[:4] for row in one.rows.values()) == n
    assert sum(row["emitters"] for row in groups[2].rows.values()) == sum(
        row["emitters"] for row in groups[4].rows.values()
    )
    row = groups[2].rows[3]
    assert row["lateral"] == pytest.approx(50.0) and row["axial apart"] == pytest.approx(60.0)
    assert row["lateral bound 7"] < row["lateral bound 3"] < row["lateral bound 1"]
    precision.plot_on_frames(groups, (1, 3, 7), 3, tmp_path / "on_frames.png")
    lines = precision.on_frames_table(groups, (1, 3, 7)).splitlines()
    assert len(lines) == 2 + 4 * 3 + 7 and len({line.count("|") for line in lines}) == 1
    assert [one.window for one in precision.on_frames(found, n_frames=1, typical_photons=3000.0)] == [7]


def test_precision_of_emitters_alone_is_the_bound_where_errors_are(tmp_path):
    precision = load("precision")
    n = 4000
    rng = np.random.default_rng(0)
    columns = {"x_nm": rng.uniform(1500, 2500, n), "y_nm": rng.uniform(1500, 2500, n)}
    columns |= {"z_nm": rng.uniform(-500, 500, n), "photons": rng.uniform(1000, 5000, n)}
    truth = EmitterTable.of(np.arange(n), background=np.full(n, 20.0), **columns)
    bound_N3 = precision.scored(truth, truth, optics(), (1,), apart_nm=900.0).bound_nm_N3[1]
    noise = {
        f"{axis}_nm": columns[f"{axis}_nm"] + rng.normal(0, bound_N3[:, i]) for i, axis in enumerate("xyz")
    }
    found = precision.scored(truth.with_columns(**noise), truth, optics(), (1,), apart_nm=900.0)
    rows = precision.alone_rows(found, (-500.0, 500.0))
    assert next(iter(rows["photons"])) == "1,000 to 2,000" and list(rows["z (nm)"])[-1] == "300 to 500"
    for bins in rows.values():
        assert sum(row["emitters"] for row in bins.values()) == n
        for row in bins.values():
            ratios = [row[f"{kind} {axis}"] for kind in ("ratio", "robust") for axis in "xyz"]
            assert ratios == pytest.approx([1.0] * 6, abs=0.12)
    precision.plot_alone({name: rows[name] for name in ("photons", "z (nm)")}, tmp_path / "alone.png")
    assert len(precision.alone_table(rows).splitlines()) == 2 + 4 + 5 + 1


def test_precision_knows_what_stands_apart_and_what_has_no_z():
    precision = load("precision")
    flat = optics(GaussianSettings(), z_range_nm=(0.0, 0.0))
    places = [(1000.0, 1000.0), (1000.0, 1600.0), (200.0, 3000.0), (3000.0, 3000.0)]
    truth = movie([range(1)] * 4, places, 1)
    beside = movie([range(1)], [(3000.0, 3100.0)], 1, sample=1)  # in another frame, so not near
    truth = EmitterTable.concatenate([truth, beside]).with_columns(z_nm=np.zeros(5))
    found = precision.scored(truth, truth, flat, (1,), apart_nm=700.0)
    assert found.apart_N.tolist() == [False, False, False, True, True]
    assert np.isnan(found.error_nm_N3[:, 2]).all() and (found.error_nm_N3[:, :2] == 0).all()
    assert precision.alone_rows(found, flat.simulation.z_range_nm)["z (nm)"] == {}
    nothing = precision.scored(EmitterTable.empty(), EmitterTable.empty(), flat, (1, 3), apart_nm=700.0)
    assert len(nothing) == 0 and np.isnan(precision.on_row(nothing)["recall"])


def test_residuals_are_shared_out_by_class():
    residuals = load("residuals")
    same = {"z_nm": np.zeros(4), "photons": np.array([200.0, 200.0, 5000.0, 5000.0])}
    frame = np.array([0, 0, 0, 1])
    truth = EmitterTable.of(
        frame, x_nm=np.array([500, 600, 2000, 50.0]), y_nm=np.array([500, 500, 2000, 900.0]), **same
    )
    found = truth.select(np.array([0, 2, 3]))
    predicted = found.with_columns(x_nm=found.x_nm + np.array([30.0, 0.0, 10.0]), z_nm=found.z_nm + 10)
    errors = residuals.Errors.of(predicted, truth, (4000.0, 4000.0), axial=True)
    assert errors.neighbour_nm[:2].tolist() == [100, 100] and errors.neighbour_nm[3] > 1e5
    assert errors.edge_nm.tolist() == [500, 500, 2000, 50]
    near = errors.rows("neighbour", "neighbour_nm", (0, 150, np.inf))
    assert near[2] == "| 0 to 150 | 33 % | 90 % | 33 % | 100 % | 0.500 | 30.0 | 10.0 |"
    assert near[3].startswith("| 150 and more | 67 % | 10 % |") and near[3].endswith("| 1.000 | 7.1 | 10.0 |")
    assert len(errors.rows("edge", "edge_nm", (0, 10, 100))) == 3  # none within 10 nm
    flat = residuals.Errors.of(
        found.with_columns(z_nm=found.z_nm + 900), truth, (4000.0, 4000.0), axial=False
    )
    assert flat.rows("edge", "edge_nm", (0, np.inf))[2] == "| 0 and more | 100 % | – | 100 % | 0.750 | 0.0 |"


def test_the_benchmark_of_tables_reads_what_it_makes(tmp_path):
    module = load("tables")
    table = module.a_table(50)
    for name, make in module.FOREIGN.items():
        make(tmp_path / "table", table)
        found = module.read_table(tmp_path / "table", module.PIXEL)
        shift = 50 if name == "smap" else 0  # its columns are written as they are
        assert np.allclose(found.x_nm + shift, table.x_nm, atol=0.1), name
        assert (found.frame == table.frame).all()


def test_movies_that_do_not_fit_differ_as_they_say():
    module = load("mismatches")
    camera = Camera.build(CameraSettings("ideal"))
    simulation = SimulationSettings(
        density_per_um2=(1.0, 3.0), z_range_nm=(0, 0), background=(20, 20), lifetime_frames=None
    )
    psf = build(GaussianSettings(130), camera.pixel_size)
    bundle = Bundle(None, Scaling(), Thresholds(), psf, camera, simulation)

    def seen(**changes):
        """Mean light above the background, and the median pixel."""
        frames = module.simulated(bundle, module.Movie(**changes), 1).read(0, module.N_FRAMES)
        return float(frames.mean()) - 20 * changes.get("background", 1), float(np.median(frames))

    light, dark = seen()
    assert seen(photons=3.0)[0] == pytest.approx(3 * light, rel=0.1)
    assert seen(background=3.0)[1] == pytest.approx(3 * dark, rel=0.1)
    assert seen(pixel=1.3)[0] == pytest.approx(1.3**2 * light, rel=0.25)
    assert seen(density_per_um2=2.0)[0] == pytest.approx(4 * light, rel=0.25)
    assert set(module.changed(bundle)) > {"pixels of 130 nm for 100", "PSF 1.4 times as wide"}


@pytest.mark.parametrize("wider", [0.75, 1.0, 1.4])
def test_a_spline_gets_wider_as_the_gaussian_that_it_samples(wider):
    module = load("mismatches")
    knots, deep = np.arange(-7.5, 8), np.array([1.7, 1.4, 1.5, 2.0])

    def gaussian(x, sigma):
        return np.exp(-(x**2) / (2 * sigma**2)) / (np.sqrt(2 * np.pi) * sigma)

    samples = np.stack([np.outer(gaussian(knots, sigma), gaussian(knots, sigma)) for sigma in deep])
    psf = module.resampled(SplinePSF.from_samples(samples, -150.0, 100.0), wider)
    assert psf.z_range_nm == (-150.0, 150.0) and psf.radius_px == max(7, math.ceil(7 * wider))
    zero = torch.zeros(4, dtype=torch.float64)
    patches = psf.patches(zero, zero + 0.3, torch.linspace(-150, 150, 4, dtype=torch.float64)).numpy()
    pixels = np.arange(-psf.radius_px, psf.radius_px + 1)
    for patch, sigma in zip(patches, deep * wider, strict=True):
        expected = np.outer(gaussian(pixels - 0.3, sigma), gaussian(pixels, sigma))
        assert patch == pytest.approx(expected, abs=0.03 * expected.max())
