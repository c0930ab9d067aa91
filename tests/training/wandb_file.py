"""Reading an offline W&B run back: the one place that knows how."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def history(run_dir: Path) -> list[dict[str, Any]]:
    """What was logged, one mapping for each record, in order. Pictures and tables have their ``._type`` alone."""
    (path,) = run_dir.glob("wandb/offline-run-*/run-*.wandb")
    command = [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--json", path]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    records = (json.loads(line) for line in printed.splitlines())
    return [record["history"]["item"] for record in records if record["type"] == "history"]
