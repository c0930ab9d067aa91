"""localize.py over several processes: each predicts every n-th block, and one puts them in order.

The table is the one of a single process: it is written by the process that was started, in the order of the frames,
and every block is predicted as it would be there.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import multiprocessing
import os
import signal
from collections.abc import Generator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import torch

from emitter.app.localize_settings import Settings, build_localizer, open_part
from emitter.core.errors import EmitterError
from emitter.core.memory import keep_freed_memory
from emitter.core.table import EmitterTable
from emitter.inference.bundle import load_bundle
from emitter.inference.checks import FrameChecks

Answer = tuple[int, EmitterTable, int]  # frames of a block, its emitters, constant frames until then


def sharded_tables(
    settings: Settings, done: int, checks: FrameChecks
) -> Generator[tuple[int, EmitterTable], None, None]:
    """As ``Localizer.tables`` of all blocks but the first ``done``, by ``settings.devices`` processes.

    Raises:
        EmitterError: as there, or a process ended.
    """
    context = multiprocessing.get_context("spawn")
    threads = max(1, torch.get_num_threads() // settings.devices)
    workers: list[tuple[BaseProcess, Connection]] = []
    n_constant = [0] * settings.devices
    try:
        for rank in range(settings.devices):
            ours, theirs = context.Pipe(duplex=False)
            process: BaseProcess = context.Process(
                target=_work, args=(settings, rank, done, threads, theirs), daemon=True, name=f"device {rank}"
            )
            process.start()
            theirs.close()  # so that its end shows here
            workers.append((process, ours))
        for rank in itertools.cycle(range(settings.devices)):
            answer = _receive(*workers[rank])
            if answer is None:  # no more blocks: none of the others has any either
                break
            n_frames, table, n_constant[rank] = answer
            yield n_frames, table
        checks.n_constant += sum(n_constant)
    finally:
        for process, ours in workers:
            ours.close()
            process.terminate()
            process.join()


def _receive(process: BaseProcess, ours: Connection) -> Answer | None:
    """The next answer of a worker; its error is raised here."""
    try:
        answer = ours.recv()
    except (EOFError, OSError):
        process.join()
        raise EmitterError(
            f"the process of {process.name} ended before its work was done (exit code {process.exitcode}; "
            "-9 is often a lack of memory): give the same command again to go on where the table ends"
        ) from None
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _work(settings: Settings, rank: int, done: int, threads: int, theirs: Connection) -> None:
    """Predict the blocks done + rank, done + rank + devices … and send their tables."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches all: the process that was started ends this one
    keep_freed_memory()
    torch.set_num_threads(threads)
    logging.basicConfig(format="%(message)s", level=logging.INFO if rank == 0 else logging.ERROR)
    try:
        bundle = load_bundle(settings.checkpoint)
        movie, _ = open_part(settings, bundle)
        with movie:
            localizer, checks = build_localizer(bundle, settings, rank), FrameChecks(movie.name)
            todo = itertools.islice(
                localizer.spans(movie, settings.frames), done + rank, None, settings.devices
            )
            for n_frames, table in localizer.tables(movie, todo, checks):
                theirs.send((n_frames, table, checks.n_constant))
        theirs.send(None)
    except EmitterError as error:
        theirs.send(error)
    except BrokenPipeError:  # nobody wants it any more
        pass
    with contextlib.suppress(OSError):
        theirs.close()
    os._exit(0)  # the reader's thread may wait for a slow disk
