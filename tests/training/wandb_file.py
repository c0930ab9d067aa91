"""Reading a run's W&B files back, one a life: the one place that knows how."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

STEP = "trainer/global_step"


def files(run_dir: Path) -> list[Path]:
    """The records of a run's lives, offline or online, in their order."""
    return sorted(run_dir.glob("wandb/*run-*/run-*.wandb"), key=lambda path: path.stat().st_mtime)


def records(run_dir: Path, kind: str) -> list[dict[str, Any]]:
    """The records of one kind (run, config, history, artifact, exit …), of all lives, in order."""
    found = []
    for path in files(run_dir):
        command = [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--json", path]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found += [json.loads(line) for line in printed.splitlines()]
    return [record[kind] for record in found if record["type"] == kind]


def history(run_dir: Path) -> list[dict[str, Any]]:
    """What was logged, one mapping for each record, in order. Pictures and tables have their ``._type`` alone."""
    return [record["item"] for record in records(run_dir, "history")]


def numbers(run_dir: Path) -> list[tuple[int, str, float]]:
    """Every number that was logged: its step, its name, its value."""
    return [
        (int(row[STEP]), name, float(value))
        for row in history(run_dir)
        for name, value in row.items()
        if name != STEP and not name.startswith("_") and f"{name.partition('.')[0]}._type" not in row
    ]


def media(run_dir: Path) -> dict[str, tuple[int, str]]:
    """Of every picture and table that was logged, by its name: the step and the type of the first."""
    found: dict[str, tuple[int, str]] = {}
    for row in history(run_dir):
        for name, value in row.items():
            if name.endswith("._type"):
                found.setdefault(name.removesuffix("._type"), (int(row[STEP]), value))
    return found


def config(run_dir: Path) -> dict[str, Any]:
    """The run's settings, without W&B's own."""
    merged: dict[str, Any] = {}
    for record in [*records(run_dir, "run"), *records(run_dir, "config")]:
        merged |= record.get("update", record.get("config", {}).get("update", {}))
    return {name: value for name, value in merged.items() if name != "_wandb"}
