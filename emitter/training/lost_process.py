"""One of a run's processes is gone: the others end with a sentence.

Raised by torch as a ``DistError`` from NCCL and the store, as a plain RuntimeError that names its source file from
gloo, and as a ``ProcessExitedException`` where this process waits for those that train (ddp_fork).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import distributed
from torch.multiprocessing import ProcessExitedException

from emitter.core.errors import EmitterError


@contextmanager
def lost_process_in_words(run_dir: Path) -> Iterator[None]:
    """Ends a run that has lost another of its processes with a sentence.

    Raises:
        EmitterError: in place of torch's error.
    """
    try:
        yield
    except (RuntimeError, ProcessExitedException) as error:
        if not _tells_of_a_lost_process(error):
            raise
        first_line = str(error).partition("\n")[0]
        raise EmitterError(
            f"another process of this run does not answer (killed, or its machine is gone; {first_line}): "
            f"go on from the last checkpoint with resume={run_dir}"
        ) from error


def _tells_of_a_lost_process(error: Exception) -> bool:
    if isinstance(error, ProcessExitedException) or "gloo" in str(error):
        return True
    return distributed.is_available() and isinstance(error, distributed.DistError)
