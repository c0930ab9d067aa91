"""Errors that a user can act on."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EmitterError(Exception):
    """A wrong input or setting. The message is one sentence: what is wrong, where, and what to do."""


class SettingsError(EmitterError, ValueError):
    """A setting out of its range or of a wrong kind."""


def require(condition: bool, message: str) -> None:
    """Raise ``SettingsError(message)`` unless ``condition`` holds."""
    if not condition:
        raise SettingsError(message)


def nearest(name: str, known: Iterable[str]) -> str:
    """``", did you mean 'x'?"`` for the known name nearest to ``name``, or an empty string."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f", did you mean '{matches[0]}'?" if matches else ""
