"""A training that has lost one of its processes ends by itself; only where it cannot, it is killed.

Lightning kills the first rank at once (SIGKILL, within five seconds) when another one has not ended well, and with it
a whole sweep. By then the first rank mostly knows: its next exchange with the lost one fails, and the run with a
sentence. It cannot know while it waits in NCCL, or for processes that have yet to begin.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lightning_fabric.strategies.launchers import subprocess_script

PATIENCE_SECONDS = 60.0  # for the first rank to meet the others once more, and to end
_END_SECONDS = 15.0  # for the others, once the first has ended


@contextmanager
def ended_with_the_first(run_dir: Path) -> Iterator[None]:
    """Within it, the first rank outlives those that Lightning starts for a while; after it, none of these is left."""
    ended = threading.Event()
    children: list[subprocess.Popen[bytes]] = []
    impatient = subprocess_script._ChildProcessObserver

    class Patient(impatient):  # type: ignore[misc, valid-type]
        """Lightning's thread that looks after the processes that it has started."""

        def __init__(self, main_pid: int, child_processes: list[subprocess.Popen[bytes]]) -> None:
            super().__init__(main_pid, child_processes, sleep_period=1)
            children.extend(child_processes)

        def _terminate_all(self) -> None:
            if not ended.wait(PATIENCE_SECONDS):
                sys.stderr.write(
                    f"error: another process of the run in '{run_dir}' is gone and this one waits for it in vain, so "
                    f"it is killed: go on from the last checkpoint with resume={run_dir}\n"
                )
                super()._terminate_all()

    subprocess_script._ChildProcessObserver = Patient  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        ended.set()
        subprocess_script._ChildProcessObserver = impatient  # type: ignore[misc]
        for child in children:
            with suppress(subprocess.TimeoutExpired):
                child.wait(_END_SECONDS)
            child.kill()  # does nothing to one that has ended
