"""The shipped configuration and the programs' settings agree: every option of every group composes and builds."""

from __future__ import annotations

import importlib
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

PROGRAMS = ("calibrate", "train", "localize", "evaluate", "simulate")


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
