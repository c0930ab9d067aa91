"""How far a table is written, so that an interrupted program can go on: ``<table>.journal``.

A file of lines in JSON: first what the table is made from, then one line for every finished block with the place in
``<table>.partial`` behind its last row. Each is written after the rows that it speaks of; a line or rows that were cut
off in the middle therefore count as not written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from emitter.core.errors import EmitterError
from emitter.io.thunderstorm import Mark, partial_path


class Journal:
    """The journal of a table.

    Opened, it says what an earlier program of the same making left: ``n_blocks`` and ``mark``. It is removed when the
    ``with`` block ends without an error, or with one before any block was finished.

    Args:
        table: name of the finished table.
        made_from: everything that the table depends on, as plain values by name.
        resume: go on with what is there; False: begin anew.
        redo: so many of the last finished blocks are done again.

    Raises:
        EmitterError: what is there was made from something else.
    """

    def __init__(self, table: Path, made_from: Mapping[str, Any], resume: bool = True, redo: int = 0) -> None:
        self.path = journal_path(table)
        lines = _whole_lines(self.path) if resume and partial_path(table).is_file() else []
        marks = []
        if lines:
            _check_same(table, lines[0], json.loads(json.dumps(made_from)))
            size = partial_path(table).stat().st_size
            marks = [Mark(**line) for line in lines[1:] if line["n_bytes"] <= size]
            marks = marks[: len(marks) - redo] if redo < len(marks) else []
        self.n_blocks = len(marks)
        self.mark = marks[-1] if marks else Mark()
        if (
            not marks
        ):  # the rows are worth nothing without it: first the table goes, then the journal is begun
            partial_path(table).unlink(missing_ok=True)
        self._write_anew([dict(made_from), *(vars(mark) for mark in marks)])
        self._file = self.path.open("a", encoding="utf-8")

    def _write_anew(self, lines: list[dict[str, Any]]) -> None:
        temporary = self.path.with_name(self.path.name + ".tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        temporary.replace(self.path)

    def add(self, mark: Mark) -> None:
        """One more block is finished."""
        self._file.write(json.dumps(vars(mark)) + "\n")
        self._file.flush()
        self.n_blocks += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None or self.n_blocks == 0:
            self.path.unlink(missing_ok=True)


def journal_path(table: Path) -> Path:
    """The name of a table's journal."""
    return table.with_name(table.name + ".journal")


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """Its lines up to the first that was cut off."""
    lines: list[dict[str, Any]] = []
    for line in path.read_bytes().splitlines(keepends=True) if path.is_file() else []:
        try:
            entry = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            break
        if not isinstance(entry, dict):
            break
        lines.append(entry)
    return lines


def _check_same(table: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if changed:
        what = ", ".join(f"{name} (was {before.get(name)}, is {now.get(name)})" for name in changed)
        raise EmitterError(
            f"{partial_path(table)} is an unfinished table with other settings: {what}; give those of before to go on "
            "with it, resume=false to begin anew, or another output="
        )
