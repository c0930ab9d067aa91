"""Which settings a command line gives itself, apart from all that the files of the configuration fill in."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from emitter.simulation.settings import FluxSettings

log = logging.getLogger(__name__)


def given_here(conf: Path) -> set[str]:
    """``given`` of this program's command line; nothing where Hydra has not started it."""
    return given(HydraConfig.get().overrides.task, conf) if HydraConfig.initialized() else set()


def given(overrides: Sequence[str], conf: Path) -> set[str]:
    """Dotted names: ``training.seed=3`` gives ``training.seed``, ``weighting=static`` all of ``training.weighting``."""
    names: set[str] = set()
    for override in overrides:
        name, _, value = override.lstrip("+~").partition("=")
        file = conf / name / f"{value}.yaml"
        names |= _filled_by(file, name, conf) if file.is_file() else {name}
    return names


def warn_of_unused_flux(flux: FluxSettings, names: set[str]) -> None:
    """One sentence where the command line gives a setting of the flux that its distribution does not go by."""
    unused = {"mean", "std", "range"} - set(flux.used)
    for name in sorted(f"simulation.flux.{one}" for one in unused):
        if name in names:
            log.warning(
                "%s has no effect with simulation.flux.distribution=%s, which goes by %s: give these, or another "
                "distribution",
                *(name, flux.distribution, " and ".join(flux.used)),
            )


def _filled_by(option: Path, group: str, conf: Path) -> set[str]:
    """What an option of a group fills: the place that its first line names, or the group's own."""
    package = re.match(r"# @package (\S+)", option.read_text())
    if package is None or package[1] != "_global_":
        return {package[1] if package else group}
    plain = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(option), resolve=False))
    entries = [entry for entry in plain.pop("defaults", []) if isinstance(entry, Mapping)]
    others = [f"{name.removeprefix('override /')}={one}" for entry in entries for name, one in entry.items()]
    return {*_leaves(plain), *given(others, conf)}


def _leaves(node: Any, where: str = "") -> Iterator[str]:
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _leaves(value, f"{where}.{name}".lstrip("."))
    else:
        yield where
