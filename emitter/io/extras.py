"""Packages that only some formats need."""

from __future__ import annotations

import importlib
from typing import Any

from emitter.core.errors import EmitterError


def needed(module: str, extra: str) -> Any:
    """The module of a package that comes with an optional extra of this one.

    Raises:
        EmitterError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise EmitterError(
            f"this movie is read by the package {package}, which is not installed: pip install 'emitter[{extra}]'"
        ) from error
