"""A progress bar for one piece of work of unknown kind: it is told the share that is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich import get_console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from emitter.core.progress import Report


@contextmanager
def progress(text: str) -> Iterator[Report]:
    """A bar on a terminal, with the text before it; it moves to and fro until the function given is told a share."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, transient=True, disable=not get_console().is_terminal) as bar:
        task = bar.add_task(text, total=None)
        yield lambda share: bar.update(task, total=1.0, completed=share)
