"""CPU time of a run: of this process, and of the processes that simulate for it.

A process's own clock knows nothing of its children before they end, so each sends its time with every batch.
"""

from __future__ import annotations

import time

_of_workers: dict[int, float] = {}  # seconds by process id, those that have ended included


def note_worker(process_id: int, seconds: float) -> None:
    """What a worker has spent since it began."""
    _of_workers[process_id] = seconds


def cpu_seconds() -> float:
    """Seconds since this process began; only differences mean something to a run."""
    return time.process_time() + sum(_of_workers.values())
