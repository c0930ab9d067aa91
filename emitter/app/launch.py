"""Hydra around every program: finds ``conf/``, composes, builds the settings, runs, and words the errors.

An error that a user can act on ends the program with one sentence on stderr and exit code 2; with
``EMITTER_TRACEBACK=1`` in the environment the whole traceback comes first.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich import get_console
from rich.logging import RichHandler

import emitter
from emitter.app.config_errors import sentence
from emitter.app.schema import build
from emitter.core.errors import EmitterError
from emitter.core.memory import keep_freed_memory

# What a user can act on; anything else is a bug and keeps its traceback.
USER_ERRORS = (EmitterError, HydraException, OmegaConfBaseException, OSError)

_FREE_TEXT = ("where",)  # settings that are expressions


def conf_dir() -> Path:
    """Folder of the configuration files: inside an installed package, beside it in a checkout."""
    package = Path(emitter.__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def commented_settings(program: str) -> str:
    """The settings of a program's own file with their comments, for its --help."""
    text = (conf_dir() / f"{program}.yaml").read_text(encoding="utf-8")
    return text.partition("  - _self_\n")[2].partition("\nhydra:\n")[0].strip().replace("$", "$$")


def choices(program: str) -> str:
    """The groups that a program's own file names, each with its options, for its --help."""
    defaults = yaml.safe_load((conf_dir() / f"{program}.yaml").read_text(encoding="utf-8"))["defaults"]
    named = (name for one in defaults if isinstance(one, dict) for name in one)
    groups = sorted(name for name in named if not name.startswith("override "))
    return "\n".join(f"{group}: {_options(group)}" for group in groups)


def _options(group: str) -> str:
    return ", ".join(sorted(option.stem for option in (conf_dir() / group).glob("*.yaml")))


OmegaConf.register_new_resolver("commented_settings", commented_settings, replace=True)
OmegaConf.register_new_resolver("choices", choices, replace=True)


def log_handler() -> logging.Handler:
    """Log messages in colour above the progress bars on a terminal, as plain lines elsewhere."""
    console = get_console()
    if console.is_terminal:
        return RichHandler(console=console, show_time=False, show_path=False)
    return logging.StreamHandler(sys.stdout)


def launch(program: str) -> None:
    """Run one program with the settings of its configuration and of the command line.

    ``emitter.app.<program>`` has the frozen dataclass ``Settings`` and ``run(settings)``.
    """
    # before torch comes in: a thread that waits for the others stops spinning sooner, a quarter less CPU time a step
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    keep_freed_memory()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then lets its errors through, to be worded here
    for argument in sys.argv[1:]:
        if argument.startswith("="):  # Hydra itself fails on it
            end(program, EmitterError(f"'{argument}' has no name: write name=value, without blanks"))
        group, _, option = argument.partition("=")
        if option == "null" and group and (conf_dir() / group).is_dir():  # and on this, in every program
            advice = f"leave it out, or give one of {_options(group)}"
            end(program, EmitterError(f"'{argument}' is no option: {advice}"))
    sys.argv[1:] = [as_text(argument) for argument in sys.argv[1:]]
    main = hydra.main(config_path=str(conf_dir()), config_name=program, version_base="1.3")
    try:
        main(lambda config: _job(program, config))()
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except USER_ERRORS as error:
        end(program, error)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


def as_text(argument: str) -> str:
    """The argument, quoted for Hydra where its value is free text: Hydra would read < and > as its own."""
    name, equals, value = argument.partition("=")
    quoted = len(value) > 1 and value[0] in "'\"" and value[-1] == value[0]
    if name not in _FREE_TEXT or not value.strip() or quoted:
        return argument
    escaped = value.replace("'", "\\'")
    return f"{name}{equals}'{escaped}'"


def _job(program: str, config: DictConfig) -> Any:
    """One job: the only one of a plain run, or one of a multirun."""
    try:
        module = importlib.import_module(f"emitter.app.{program}")
        plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        if HydraConfig.get().mode is RunMode.MULTIRUN and "sweep" in plain:
            plain["sweep"]["folder"] = HydraConfig.get().sweep.dir
        return module.run(build(module.Settings, plain))
    except USER_ERRORS as error:
        if HydraConfig.get().mode is RunMode.MULTIRUN:
            raise  # Hydra goes on with the other jobs; see emitter.app.sweep for the end of it
        end(program, error)  # here, because Hydra would write lines of its own first


def wants_traceback() -> bool:
    """Whether the user asked for more than a sentence."""
    return os.environ.get("EMITTER_TRACEBACK", "0") not in ("", "0")


def worded(program: str, error: Exception) -> str:
    """One sentence for an error that a user can act on."""
    if isinstance(error, (HydraException, OmegaConfBaseException)):  # some are OSErrors too
        message = sentence(error, conf_dir(), program, sys.argv[1:])
    elif isinstance(error, OSError) and error.errno is not None:
        message = f"{error.strerror}" + (f": '{error.filename}'" if error.filename else "")
    else:
        message = str(error)
    return " ".join(message.split())


def end(program: str, error: Exception) -> NoReturn:
    """Leave the program with one sentence."""
    if isinstance(error, OSError) and error.errno is None and not isinstance(error, HydraException):
        raise error  # by no system call: a bug
    if wants_traceback():
        traceback.print_exception(error)
    sys.stderr.write(f"error: {worded(program, error)}\n")
    sys.exit(2)
