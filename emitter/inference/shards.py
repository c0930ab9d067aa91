"""Several processes predict one movie, each every n-th block; the process that started them puts the blocks in order.

The table is the one of a single process: every block is predicted as it would be there.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import torch

from emitter.core.errors import EmitterError
from emitter.core.memory import keep_freed_memory
from emitter.core.table import EmitterTable
from emitter.inference.checks import FrameChecks
from emitter.inference.localizer import Localizer, Tables
from emitter.io.movie import Movie

_ENDS = {1: "its error stands above", -9: "often a lack of memory"}  # by exit code

Answer = tuple[int, EmitterTable, int]  # frames of a block, its emitters, constant frames until then


def sharded(
    localizer: Localizer,
    open_again: Callable[[], Movie],
    blocks: Sequence[range],
    devices: int,
    checks: FrameChecks,
) -> Tables:
    """As ``localizer.predicted`` of a checked movie.

    Args:
        localizer: on the CPU or, for one GPU each, on any.
        open_again: opens the movie, in every process.
        blocks: what is to be predicted.
        devices: number of processes; the CPU's threads are shared out.
        checks: counts what the processes count.

    Raises:
        EmitterError: as there, or a process ended.
    """
    context = multiprocessing.get_context("spawn")
    threads = max(1, torch.get_num_threads() // devices)
    on_gpu = localizer.compute.device != "cpu"
    here = localizer.on("cpu")  # what is sent to the processes
    workers: list[tuple[BaseProcess, Connection]] = []
    n_constant = [0] * devices
    try:
        for rank in range(devices):
            ours, theirs = context.Pipe(duplex=False)
            device = f"cuda:{rank}" if on_gpu else "cpu"
            task = (here, device, open_again, blocks[rank::devices], threads, rank == 0, theirs)
            process: BaseProcess = context.Process(
                target=_work, args=task, daemon=True, name=f"device {rank}"
            )
            with _interrupts_held():
                process.start()
            theirs.close()  # so that its end shows here
            workers.append((process, ours))
        for rank in itertools.islice(itertools.cycle(range(devices)), len(blocks)):
            n_frames, table, n_constant[rank] = _receive(*workers[rank])
            yield n_frames, table
        checks.n_constant += sum(n_constant)
    finally:
        for process, ours in workers:
            ours.close()
            process.terminate()
            process.join()


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C waits, and a process that is started within never sees it: who started it ends it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _receive(process: BaseProcess, ours: Connection) -> Answer:
    """The next answer of a worker; its error is raised here."""
    try:
        answer = ours.recv()
    except (EOFError, OSError):
        process.join()
        raise EmitterError(
            f"the process of {process.name} ended before its work was done (exit code {process.exitcode}: "
            f"{_ENDS.get(process.exitcode or 0, 'it crashed')}): give the same command again to go on where the table "
            "ends"
        ) from None
    if isinstance(answer, EmitterError):
        raise answer
    found: Answer = answer
    return found


def _work(
    localizer: Localizer,
    device: str,
    open_again: Callable[[], Movie],
    blocks: Sequence[range],
    threads: int,
    speaks: bool,
    theirs: Connection,
) -> None:
    """Predict blocks and send their tables."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all: who started this one ends it
    keep_freed_memory()
    torch.set_num_threads(threads)
    logging.basicConfig(format="%(message)s", level=logging.INFO if speaks else logging.ERROR)
    with contextlib.suppress(BrokenPipeError), theirs:  # nobody wants it any more
        try:
            with open_again() as movie:
                checks = FrameChecks(movie.name)
                for n_frames, table in localizer.on(device).predicted(movie, blocks, checks):
                    theirs.send((n_frames, table, checks.n_constant))
        except EmitterError as error:
            theirs.send(error)
