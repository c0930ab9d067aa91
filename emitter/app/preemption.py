"""A job that the scheduler is about to end puts itself back into the queue, at a step from which it goes on exactly.

submitit, by itself, does that in the middle of a step (on SIGUSR2, a while before the time limit or a preemption).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

WARNING = signal.SIGUSR2


@contextmanager
def requeued_when_warned() -> Iterator[None]:
    """At the scheduler's warning the training ends as at SIGTERM, with its checkpoint; then submitit has the signal.

    Does nothing outside of submitit. What comes before the first step has nothing to lose: submitit has it at once.
    """
    requeue = signal.getsignal(WARNING)
    if not callable(requeue):
        yield
        return
    without_training, process = signal.getsignal(signal.SIGTERM), os.getpid()
    warned = False

    def warn(number: int, frame: Any) -> None:
        nonlocal warned
        if os.getpid() != process:  # of a loader of samples
            return
        warned = True
        if signal.getsignal(signal.SIGTERM) == without_training:
            requeue(number, frame)
        else:
            signal.raise_signal(signal.SIGTERM)

    signal.signal(WARNING, warn)
    try:
        yield
    except SystemExit:
        if warned:
            requeue(WARNING, None)  # on the first rank it does not return
        raise
    finally:
        signal.signal(WARNING, requeue)
