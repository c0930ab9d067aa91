"""Packages that only some formats need."""

from __future__ import annotations

import importlib
from typing import Any

from emitter.core.errors import EmitterError


def needed(package: str, extra: str) -> Any:
    """The package, which comes with an optional extra of this one.

    Raises:
        EmitterError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise EmitterError(
            f"this movie is read by the package {package}, which is not installed: pip install 'emitter[{extra}]'"
        ) from error
