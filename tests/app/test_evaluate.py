"""evaluate.py from files to metrics.json, on real tables and on wrong input."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from emitter.app import evaluate
from emitter.app.evaluate import Settings, changed, run
from emitter.app.scoring import conditions, describe, score, write_report
from emitter.core.decoding import Thresholds
from emitter.core.errors import EmitterError, SettingsError
from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize
from emitter.inference.bundle import Bundle
from emitter.io.tables import read_table, write_table
from emitter.metrics.crlb import table_crlb
from emitter.metrics.protocol import PROTOCOLS
from emitter.psf.gaussian import AstigmaticPSF, AstigmaticSettings
from emitter.simulation.settings import SimulationSettings

REPOSITORY = Path(__file__).resolve().parents[2]
FIGURES = {  # what DESIGN.md lists
    *("jaccard", "precision", "recall", "f1", "efficiency_lateral", "efficiency_axial", "efficiency_3d"),
    *("rmse_lateral_nm", "rmse_axial_nm", "rmse_volume_nm", "bias_x_nm", "bias_y_nm", "bias_z_nm"),
    *("photon_ratio_median", "n_truth", "n_predicted", "n_matched", "protocol"),
}


def some_truth(n: int = 300, n_frames: int = 30) -> EmitterTable:
    rng = np.random.default_rng(0)
    lateral = {axis: rng.uniform(0, 6400, n) for axis in ("x_nm", "y_nm")}
    frame = np.concatenate((np.arange(n_frames), rng.integers(0, n_frames, n - n_frames)))
    return EmitterTable.of(
        frame, **lateral, z_nm=rng.uniform(-400, 400, n), photons=rng.uniform(500, 5000, n)
    )


@pytest.fixture
def truth_csv(tmp_path: Path) -> Path:
    write_table(tmp_path / "truth.csv", some_truth())
    return tmp_path / "truth.csv"


def evaluated(tmp_path: Path, predicted: EmitterTable | Path, truth: Path, **settings: Any) -> dict[str, Any]:
    """What metrics.json holds afterwards."""
    if isinstance(predicted, EmitterTable):
        write_table(tmp_path / "locs.csv", predicted)
        predicted = tmp_path / "locs.csv"
    output = tmp_path / "scores"
    run(Settings(output=output, localizations=predicted, truth=truth, **settings))
    assert {file.name for file in output.iterdir()} - {"report"} == {"metrics.json", "report.html"}
    return json.loads((output / "metrics.json").read_text())


@pytest.mark.parametrize(
    ("file", "is_3d"),
    [("bthd2013/positions_demo1.csv", False), ("c16_mt0n1ld_as/activations_LD_frames_01-32.csv", True)],
)
@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_real_tables_against_themselves(
    data_dir: Path, tmp_path: Path, file: str, is_3d: bool, protocol: str
) -> None:
    result = evaluated(
        tmp_path, data_dir / file, data_dir / file, protocol=protocol, field_size_nm=(6400.0, 6400.0)
    )
    assert set(result) >= FIGURES
    assert (result["jaccard"], result["efficiency_lateral"], result["rmse_lateral_nm"]) == (1, 1, 0)
    assert (result["protocol"], result["photon_ratio_median"]) == (protocol, 1)
    axial = (
        result["efficiency_axial"],
        result["efficiency_3d"],
        result["rmse_axial_nm"],
        result["bias_z_nm"],
    )
    assert axial == ((1, 1, 0, 0) if is_3d else (None,) * 4)
    table = read_table(data_dir / file)
    if protocol == "plain":
        assert result["n_truth"] == result["n_predicted"] == len(table)
    else:
        inside = (np.abs(table.x_nm - 3200) <= 2750) & (np.abs(table.y_nm - 3200) <= 2750)
        photons = table.photons[inside]
        assert result["n_truth"] == (photons >= np.quantile(photons, 0.25)).sum()


def test_perturbed_copy_of_a_real_table(data_dir: Path, tmp_path: Path) -> None:
    truth_path = data_dir / "bthd2013" / "positions_demo1.csv"
    truth = read_table(truth_path)
    rng = np.random.default_rng(0)
    n = len(truth)
    moved = truth.with_columns(x_nm=truth.x_nm + rng.normal(0, 5, n), y_nm=truth.y_nm + rng.normal(3, 5, n))
    kept = moved.select(rng.random(n) < 0.8)
    result = evaluated(tmp_path, kept, truth_path, protocol="plain")
    assert result["recall"] == result["jaccard"] == pytest.approx(len(kept) / n)
    # A few of the 0.6 neighbours within reach are nearer than the true partner.
    assert result["rmse_lateral_nm"] == pytest.approx(np.sqrt(5**2 + 5**2 + 3**2), rel=0.05)
    assert result["bias_y_nm"] == pytest.approx(3, abs=0.5)


def test_offset_is_reported_and_taken_off_on_request(tmp_path: Path, truth_csv: Path) -> None:
    truth = some_truth()
    rng = np.random.default_rng(1)
    errors = {axis: getattr(truth, axis) + rng.normal(0, 20, len(truth)) for axis in ("x_nm", "y_nm", "z_nm")}
    predicted = truth.with_columns(**{**errors, "x_nm": errors["x_nm"] + 40})
    left = evaluated(tmp_path, predicted, truth_csv, field_size_nm=6400.0)
    assert left["offset_removed_nm"] is None
    assert left["bias_x_nm"] == pytest.approx(40, abs=5)
    assert any("shifted by a constant (x +" in note for note in left["notes"])
    off = evaluated(tmp_path, predicted, truth_csv, field_size_nm=6400.0, remove_offset=True)
    assert off["offset_removed_nm"][0] == pytest.approx(40, abs=5)
    assert left["rmse_lateral_nm"] > 45
    for value in (left["rmse_lateral_nm_unbiased"], off["rmse_lateral_nm"]):
        assert value == pytest.approx(np.hypot(20, 20), rel=0.15)


def test_two_dimensions_on_request(tmp_path: Path, truth_csv: Path) -> None:
    truth = some_truth()
    result = evaluated(
        tmp_path, truth.with_columns(z_nm=truth.z_nm + 900), truth_csv, protocol="plain", axial=False
    )
    assert (result["jaccard"], result["rmse_axial_nm"], result["efficiency_3d"]) == (1, None, None)


def test_no_localizations_are_a_valid_result(tmp_path: Path, truth_csv: Path) -> None:
    result = evaluated(tmp_path, EmitterTable.empty(), truth_csv)
    assert (result["jaccard"], result["recall"], result["n_predicted"]) == (0, 0, 0)
    assert (result["rmse_lateral_nm"], result["precision"], result["efficiency_3d"]) == (None, None, None)
    assert any("no localizations" in note for note in result["notes"])


def test_truth_frames_that_the_table_lacks_count_as_missed(
    tmp_path: Path, truth_csv: Path, caplog: pytest.LogCaptureFixture
) -> None:
    truth = some_truth()
    seen = truth.select(truth.frame >= 10)
    with caplog.at_level(logging.WARNING):
        result = evaluated(tmp_path, seen, truth_csv, protocol="plain")
    assert result["recall"] == pytest.approx(len(seen) / len(truth))
    n_missed = len(truth) - len(seen)
    assert f"lack 10 of the truth's 30 frames: their {n_missed} emitters count as missed" in caplog.text


def test_localizations_beyond_the_truths_frames_are_false_unless_frames_are_chosen(
    tmp_path: Path, truth_csv: Path
) -> None:
    truth = some_truth()
    later = truth.select(truth.frame < 5).with_columns(frame=np.full((truth.frame < 5).sum(), 500))
    predicted = EmitterTable.concatenate([truth, later])
    result = evaluated(tmp_path, predicted, truth_csv, protocol="plain")
    assert result["precision"] == pytest.approx(len(truth) / len(predicted))
    assert any(f"{len(later)} localizations" in note and "frames=[0,29]" in note for note in result["notes"])
    chosen = evaluated(tmp_path, predicted, truth_csv, protocol="plain", frames=(0, 29))
    assert (chosen["jaccard"], chosen["notes"]) == (1, [])
    part = evaluated(tmp_path, predicted, truth_csv, protocol="plain", frames=(3, 4))
    assert part["n_truth"] == ((truth.frame == 3) | (truth.frame == 4)).sum()


def test_unknown_field_is_estimated_and_said(tmp_path: Path, truth_csv: Path) -> None:
    truth = some_truth()
    result = evaluated(tmp_path, truth, truth_csv, pixel_size_nm=160.0)
    expected = [160 * np.ceil(axis.max() / 160) for axis in (truth.x_nm, truth.y_nm)]
    assert result["protocol_settings"]["field_size_nm"] == expected
    assert any("field_size_nm is not given" in note for note in result["notes"])


def test_rows_outside_of_the_field_are_counted() -> None:
    truth = EmitterTable.of([0, 0, 1], x_nm=[100.0, 2000, 500], y_nm=[100.0, 100, -5])
    found = EmitterTable.of([0, 1], x_nm=[9000.0, 9000], y_nm=[9000.0, 9000])
    of_truth, of_found = evaluate.field_notes(found, truth, (1000.0, 1000.0))
    assert of_truth.startswith("2 of 3 true emitters lie outside of the field of 1000 × 1000 nm")
    assert of_found.startswith("2 of 2 localizations lie outside")
    assert evaluate.field_notes(truth, truth, (2000.0, 1000.0))[0].startswith("1 of 3")
    assert evaluate.field_notes(truth, truth, None) == []


def test_empty_truth_is_refused(tmp_path: Path, truth_csv: Path) -> None:
    write_table(tmp_path / "empty.csv", EmitterTable.empty())
    with pytest.raises(EmitterError, match=r"empty\.csv has no emitters: give a truth"):
        run(Settings(output=tmp_path / "o", localizations=truth_csv, truth=tmp_path / "empty.csv"))
    with pytest.raises(EmitterError, match="no emitters in frames 700 to 800"):
        run(Settings(output=tmp_path / "o/o", localizations=truth_csv, truth=truth_csv, frames=(700, 800)))
    assert not (tmp_path / "o").exists()
    (tmp_path / "o").mkdir()  # one that was there stays
    with pytest.raises(EmitterError, match="no emitters in frames 700 to 800"):
        run(Settings(output=tmp_path / "o/o", localizations=truth_csv, truth=truth_csv, frames=(700, 800)))
    assert (tmp_path / "o").exists() and not (tmp_path / "o/o").exists()


def test_truth_that_the_border_empties_is_refused(tmp_path: Path, truth_csv: Path) -> None:
    with pytest.raises(EmitterError, match="leaves no true emitter"):
        evaluated(tmp_path, some_truth(), truth_csv, field_size_nm=800.0)


def test_taking_off_an_offset_that_is_none_is_said(tmp_path: Path, truth_csv: Path) -> None:
    result = evaluated(
        tmp_path, EmitterTable.empty(), truth_csv, field_size_nm=6400.0, remove_offset=True, protocol="plain"
    )
    assert any("no offset could be found" in note for note in result["notes"])


def test_missing_file_is_named(tmp_path: Path, truth_csv: Path) -> None:
    with pytest.raises(EmitterError, match=r"no\.csv does not exist"):
        run(Settings(output=tmp_path / "o", localizations=tmp_path / "no.csv", truth=truth_csv))


def test_output_that_cannot_be_written(tmp_path: Path, truth_csv: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EmitterError, match="cannot be written"):
        run(Settings(output=tmp_path / "file" / "o", localizations=truth_csv, truth=truth_csv))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "either a table or a checkpoint"),
        ({"localizations": "a", "truth": "b", "checkpoint": "c"}, "either a table or a checkpoint"),
        ({"localizations": "a"}, "belong together"),
        ({"checkpoint": "c", "truth": "b"}, "belong together"),
        ({"localizations": "a", "truth": "b", "protocol": "chalenge2016"}, "did you mean 'challenge2016'"),
        ({"localizations": "a", "truth": "b", "field_size_nm": (6400.0, -1.0)}, "field_size_nm is"),
        ({"localizations": "a", "truth": "b", "frames": (5, 3)}, r"frames is \[5, 3\]"),
        ({"localizations": "a", "truth": "b", "pixel_size_nm": 0.1}, "pixel_size_nm in x is 0.1"),
        ({"localizations": "a", "truth": "b", "simulation": {"lifetime_frames": None}}, "leave it out"),
        ({"localizations": "a", "truth": "b", "turned": True}, "turned says how a checkpoint predicts"),
        ({"localizations": "a", "truth": "b", "threshold": 0.5}, "threshold says how a checkpoint predicts"),
        ({"checkpoint": "c", "threshold": 1.5}, "the threshold is 1.5: give a probability between 0 and 1"),
    ],
)
def test_wrong_settings_are_one_sentence(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as error:
        Settings(output=Path("o"), **settings)
    assert "\n" not in str(error.value)


def test_a_failed_write_leaves_the_old_report(tmp_path: Path) -> None:
    path = write_report({"jaccard": float("nan"), "n": 1, "nested": {"list": [float("inf"), 2.0]}}, tmp_path)
    text = path.read_text()
    assert json.loads(text) == {"jaccard": None, "n": 1, "nested": {"list": [None, 2.0]}}
    assert '\n  "jaccard"' in text
    with pytest.raises(TypeError):
        write_report({"jaccard": object()}, tmp_path)
    assert (path.read_text(), [file.name for file in tmp_path.iterdir()]) == (text, ["metrics.json"])


def test_crlb_ratios_appear_where_the_bound_is_known() -> None:
    truth = some_truth(3000)
    truth = truth.with_columns(background=np.full(len(truth), 20.0))
    pixel = PixelSize.of(100.0)
    psf = AstigmaticPSF(AstigmaticSettings(), pixel)

    def bound(table: EmitterTable) -> Any:
        return table_crlb(table, psf, lambda photons: photons, pixel)

    rng = np.random.default_rng(0)
    moved = {
        axis: getattr(truth, axis) + 1.5 * rng.normal(0, getattr(bound(truth), axis).numpy())
        for axis in ("x_nm", "y_nm", "z_nm")
    }
    result = score(truth.with_columns(**moved), truth, PROTOCOLS["plain"], None, bound)
    assert [result[f"crlb_ratio_{axis}"] for axis in "xyz"] == pytest.approx([1.5] * 3, rel=0.1)


def test_a_checkpoint_is_scored_on_other_frames_than_its_own_on_request() -> None:
    trained = SimulationSettings()
    other = changed(trained, {"density_per_um2": [2, 2], "lifetime_frames": None, "flux": {"mean": 500.0}})
    assert (other.density_per_um2, other.lifetime_frames, other.flux.mean) == ((2, 2), None, 500.0)
    assert (other.background, other.flux.std) == (trained.background, trained.flux.std)
    assert changed(trained, {}) == trained
    for settings, message in (
        ({"n_frames": 5}, "the network sees 3 frames"),
        ({"densty": 1.0}, "unknown setting 'simulation.densty', did you mean"),
        ({"density_per_um2": [3, 2]}, r"simulation.density_per_um2 is \[3.0, 2.0\]"),
    ):
        with pytest.raises(SettingsError, match=message):
            changed(trained, settings)


@dataclass
class Loaded:
    """As much of a bundle as is read before the work."""

    simulation: SimulationSettings = field(default_factory=SimulationSettings)
    correction: object = "known"
    thresholds: Thresholds = field(default_factory=Thresholds)
    with_threshold = Bundle.with_threshold


def test_a_checkpoint_predicts_turned_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def tables(bundle: object, n_samples: int, turned: bool, refiner: object) -> None:
        asked.append(turned)
        raise EmitterError("that was all")

    monkeypatch.setattr(evaluate, "load_bundle", lambda source: Loaded())
    monkeypatch.setattr(evaluate, "held_out_tables", tables)
    for turned in (False, True):
        with pytest.raises(EmitterError, match="that was all"):
            run(Settings(output=tmp_path, checkpoint=tmp_path / "x.ckpt", turned=turned))
    assert asked == [False, True]


def test_a_checkpoint_is_scored_at_another_threshold_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Thresholds] = []

    def tables(bundle: Loaded, n_samples: int, **how: object) -> None:
        asked.append(bundle.thresholds)
        raise EmitterError("that was all")

    trained = Thresholds(0.4, one_cell_each=True)
    monkeypatch.setattr(evaluate, "load_bundle", lambda source: Loaded(thresholds=trained))
    monkeypatch.setattr(evaluate, "held_out_tables", tables)
    for threshold in (None, 0.55):
        with pytest.raises(EmitterError, match="that was all"):
            run(Settings(output=tmp_path, checkpoint=tmp_path / "x.ckpt", threshold=threshold))
    assert asked == [trained, Thresholds(0.55, one_cell_each=True)]


def test_how_a_network_predicted_is_told_beside_the_protocol() -> None:
    metrics = score(some_truth(), some_truth(), PROTOCOLS["plain"], None)
    assert [line.partition(":")[0] for line in conditions(metrics)] == ["Protocol plain"]
    how = {"threshold": 0.4, "turned": False, "refine": None}
    assert conditions(metrics | {"predicted_with": how})[1:] == [
        "Predicted with threshold=0.4, turned=false, refine=null."
    ]


def test_the_protocol_is_described_with_every_number() -> None:
    settings = score(some_truth(), some_truth(), PROTOCOLS["challenge2016"], (6400.0, 3200.0))[
        "protocol_settings"
    ]
    for part in (
        "greedy",
        "250 nm lateral",
        "500 nm axial",
        "border 450 nm of 6400 × 3200 nm",
        "25 % quantile",
    ):
        assert part in describe(settings)


def test_configuration_and_settings_agree() -> None:
    keys = set(OmegaConf.load(REPOSITORY / "conf" / "evaluate.yaml")) - {"defaults", "hydra"}
    assert keys == set(Settings.__dataclass_fields__)


def test_program_from_the_command_line(tmp_path: Path, truth_csv: Path) -> None:
    overrides = (f"localizations={truth_csv}", f"truth={truth_csv}", "output=o", "field_size_nm=[6400,6400]")
    command = [sys.executable, str(REPOSITORY / "evaluate.py"), *overrides]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    for part in ("Jaccard index", "1.000", "Protocol challenge2016: greedy matching", "wrote o/metrics.json"):
        assert part in done.stdout
    assert {file.name for file in tmp_path.iterdir()} == {"truth.csv", "o"}
