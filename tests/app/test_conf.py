"""The shipped configuration and the programs' settings agree: every option of every group composes and builds."""

from __future__ import annotations

import importlib
import re
import traceback
from collections.abc import Iterator
from typing import Any, cast

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict

from emitter.app.launch import conf_dir
from emitter.app.schema import build
from emitter.core.errors import SettingsError

WHAT_ONLY_THE_USER_KNOWS = {
    "calibrate": ["beads=a.tif", "pixel_size_nm=100", "z_step_nm=10", "output=psf.h5"],
    "train": ["name=a"],
    "localize": ["checkpoint=a.ckpt", "movie=a.tif", "output=a.csv"],
    "evaluate": ["localizations=a.csv", "truth=b.csv", "output=a"],
    "simulate": ["output=a.tif"],
    "export": ["checkpoint=a.ckpt", "output=a.onnx"],
    "diagnose": ["movie=a.tif"],
    "convert": ["table=a.csv", "output=b.hdf5"],
    "render": ["localizations=a.csv", "output=b.png"],
    "link": ["localizations=a.csv", "output=b.csv"],
    "resolution": ["localizations=a.csv", "output=b.json"],
    "drift": ["localizations=a.csv", "output=b.csv"],
    "filter": ["localizations=a.csv", "where='photons > 1'", "output=b.csv"],
}
PROGRAMS = tuple(WHAT_ONLY_THE_USER_KNOWS)


def choices() -> Iterator[tuple[str, str]]:
    """(program, override) for every option of every group that a program's defaults name."""
    for program in PROGRAMS:
        yield program, ""
        path = conf_dir() / f"{program}.yaml"
        for entry in OmegaConf.load(path).get("defaults", []) if path.is_file() else []:
            if isinstance(entry, str):
                continue
            group = next(iter(entry)).removeprefix("optional ").removeprefix("override ").partition("@")[0]
            if not str(group).startswith("hydra/"):
                for option in sorted((conf_dir() / group).glob("*.yaml")):
                    yield program, f"{group}={option.stem}"


def composed(program: str, overrides: list[str]) -> dict[str, Any]:
    """The program's configuration, resolved as within a run."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose(program, overrides=overrides, return_hydra_config=True)
    with open_dict(config):
        config.hydra.runtime.output_dir = "runs/test"
    HydraConfig.instance().set_config(config)
    try:
        with open_dict(config):
            del config["hydra"]
        return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    finally:
        HydraConfig.instance().cfg = None


@pytest.mark.parametrize(("program", "override"), list(choices()))
def test_configuration_matches_settings(program: str, override: str) -> None:
    """What only the user knows may be missing (a file); no setting may be unknown or of a wrong type."""
    config = composed(program, [override] if override else [])
    settings = importlib.import_module(f"emitter.app.{program}").Settings
    try:
        built = build(settings, config)
    except SettingsError as error:
        checked = (
            error.__cause__ is not None or traceback.extract_tb(error.__traceback__)[-1].name == "require"
        )
        assert checked, f"not refused by the settings' own check: {error}"
    else:
        assert isinstance(built, settings)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_leaves_nothing_behind_unasked(program: str) -> None:
    """Relative paths are the user's, and only train has a run folder."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        hydra = compose(program, return_hydra_config=True).hydra
    assert not hydra.job.chdir
    assert "file" not in hydra.job_logging.handlers
    assert hydra.runtime.choices["hydra/job_logging"] == "plain"
    assert hydra.runtime.choices["hydra/help"] in ("plain", "choices")
    if program != "train":
        assert hydra.run.dir == "." and hydra.output_subdir is None
    assert OmegaConf.select(hydra, "help.header", throw_on_missing=True).strip()


@pytest.mark.parametrize(
    ("program", "override", "named"),
    [
        ("train", "training.batch_size=0", "batch_size"),
        ("train", "training.optimizer.learning_rate=-1", "learning_rate"),
        ("train", "training.precision=float8", "precision"),
        ("train", "training.channel_weights.x=-1", "x"),
        ("train", "simulation.density_per_um2=[0,1]", "density_per_um2"),
        ("train", "simulation.z_range_nm=[500,-500]", "z_range_nm"),
        ("train", "simulation.n_frames=2", "n_frames"),
        ("train", "simulation.frame_size_px=[40]", "frame_size_px"),
        ("train", "simulation.flux.distribution=gamma", "distribution"),
        ("train", "camera.em_gain=-1", "em_gain"),
        ("train", "camera.quantum_efficiency=2", "quantum_efficiency"),
        ("train", "camera.pixel_size_nm=0", "pixel_size_nm"),
        ("train", "psf.sigma_nm=-130", "sigma_nm"),
        ("train", "budget.minutes=-1", "minutes"),
        ("train", "model.widths=[0,0,0]", "widths"),
        ("simulate", "n_frames=0", "n_frames"),
        ("calibrate", "z_step_nm=0", "z_step_nm"),
        ("localize", "threshold=2", "threshold"),
        ("localize", "superres_nm=-1", "superres_nm"),
        ("evaluate", "protocol=challenge2061", "protocol"),
        ("export", "output=net.pt", "output"),
        ("convert", "output=b.mat", "output"),
        ("convert", "output=a.csv", "output"),
        ("convert", "n_frames=0", "n_frames"),
        ("convert", "frame_size_px=[0,9]", "frame_size_px"),
        ("convert", "pixel_size_nm=0", "pixel_size_nm"),
    ],
)
def test_value_out_of_range_is_named(program: str, override: str, named: str) -> None:
    config = composed(program, [*WHAT_ONLY_THE_USER_KNOWS[program], override])
    settings = importlib.import_module(f"emitter.app.{program}").Settings
    with pytest.raises(SettingsError) as caught:
        build(settings, config)
    assert re.search(rf"\b{named}\b", str(caught.value)), caught.value
    assert re.search("give|choose|did you mean", str(caught.value)), caught.value


def test_simulate_takes_the_microscope_of_an_experiment() -> None:
    simulated, trained = (
        composed(program, [*WHAT_ONLY_THE_USER_KNOWS[program], "experiment=scmos"])
        for program in ("simulate", "train")
    )
    for group in ("psf", "camera", "simulation"):
        assert simulated[group] == trained[group]
    assert composed("simulate", ["output=a.tif"])["camera"] != simulated["camera"]
