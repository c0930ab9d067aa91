"""Hydra's and OmegaConf's errors as one sentence: what is wrong, where, and what to write instead."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from emitter.core.errors import nearest

# plugins of Hydra's that are extras of this package: what they are called there, and the extra
_EXTRAS = {"submitit_slurm": "slurm", "submitit_local": "slurm", "joblib": "joblib", "optuna": "optuna"}


def sentence(error: Exception, conf: Path, program: str, arguments: Sequence[str]) -> str:
    """One sentence for an error of Hydra's while it composed ``program``'s configuration from ``conf``."""
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override)
    if isinstance(error, MissingConfigException) and error.options is not None:
        return _unknown_option(error)
    unknown = re.match(r"Could not (?:override|delete from config|.*?) ?'([^']+)'\.", str(error))
    if isinstance(error, HydraException) and unknown:
        return unknown_setting(unknown[1], known_settings(conf, program, arguments))
    if isinstance(error, MissingMandatoryValue):
        return f"the setting '{error.full_key}' is missing: give it as {error.full_key}=…"
    number = re.search(r"interpolation '\$\{(trainer\.\w+)\}'.*Value '([^']*)'", str(error))
    if isinstance(error, OmegaConfBaseException) and number:  # hydra.launcher.…
        return (
            f"{number[1]} is '{number[2]}' and as many are asked of the cluster: give a number, {number[1]}=4"
        )
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        return f"the setting '{error.full_key}' cannot be used: {str(error).splitlines()[0]}"
    return str(error)


def unknown_setting(name: str, known: Sequence[str]) -> str:
    """The sentence for a setting that does not exist, with the nearest that does."""
    parent = name.rpartition(".")[0]
    if parent in known and not any(one.startswith(f"{parent}.") for one in known):  # filled by the user alone
        return f"'{name}' is not among the settings yet: write +{name}=…"
    ending = [one for one in known if one.endswith("." + name)]
    near = ending or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if not near:  # a typo in a short name such as 'minuts' is far from 'budget.minutes'
        by_end = {one.rpartition(".")[2]: one for one in known}
        near = [by_end[one] for one in difflib.get_close_matches(name, list(by_end), n=1, cutoff=0.6)]
    hint = f", did you mean '{near[0]}'?" if near else ": '--help' lists all settings"
    return f"unknown setting '{name}'{hint}"


def known_settings(conf: Path, program: str, arguments: Sequence[str]) -> list[str]:
    """Dotted names of every setting and group, with the groups chosen as in ``arguments`` where possible."""
    groups = sorted(folder.relative_to(conf).as_posix() for folder in conf.rglob("*/") if folder.is_dir())
    groups = [group for group in groups if not group.startswith("hydra")]
    groups = [group for group in groups if group in _groups_of(conf / f"{program}.yaml")]
    chosen = [one for one in arguments if one.partition("=")[0].lstrip("+") in groups and "," not in one]
    with initialize_config_dir(str(conf), version_base="1.3"):
        try:
            config = compose(program, overrides=chosen)
        except HydraException:
            config = compose(program)
    plain = OmegaConf.to_container(config, resolve=False)
    return [*_dotted(plain), *groups]


def _groups_of(path: Path) -> set[str]:
    """The groups that a program's defaults list chooses from."""
    entries = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(path), resolve=False)).get(
        "defaults", []
    )
    chosen = [str(next(iter(entry))) for entry in entries if isinstance(entry, Mapping)]
    return {one.removeprefix("override ").removeprefix("optional ").partition("@")[0] for one in chosen}


def _dotted(node: Any, prefix: str = "") -> list[str]:
    if not isinstance(node, Mapping):
        return []
    names = []
    for key, value in node.items():
        names += [f"{prefix}{key}", *_dotted(value, f"{prefix}{key}.")]
    return names


def _unreadable(override: str) -> str:
    name, equals, value = override.partition("=")
    if not equals:
        return f"'{override}' is not a setting: write name=value"
    return f"cannot read '{override}': quote a value with special characters, as in '{name}=\"{value}\"'"


def _unknown_option(error: MissingConfigException) -> str:
    group, _, option = str(error.missing_cfg_file).rpartition("/")
    if group in ("hydra/launcher", "hydra/sweeper") and option in _EXTRAS:
        extra, choice = _EXTRAS[option], group.rpartition("/")[2]
        return f"{choice}={extra} needs a package that is not installed: pip install 'emitter[{extra}]'"
    options = [f"{group}={one}" for one in sorted(error.options or ())]
    hint = nearest(f"{group}={option}", options) or f": there is {', '.join(options)}"
    return f"unknown option '{group}={option}'{hint}"
