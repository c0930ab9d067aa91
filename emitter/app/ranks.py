"""How the other processes of a training on several devices are started.

Lightning starts them with the command line of this program, which in a sweep would begin the sweep once more in each
of them. Here they get the run's folder instead (``emitter.app.other_rank``).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig

from emitter.training.rank_watch import ended_with_the_first

_MODULE = "emitter.app.other_rank"
_SET_BY_LIGHTNING = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_RANKS = ("RANK", "NODE_RANK", "LOCAL_RANK", "SLURM_PROCID")


def is_first() -> bool:
    """Whether this process, of a training on several devices, is the one that writes."""
    return all(os.environ.get(name, "0") in ("", "0") for name in _RANKS)


@contextmanager
def other_ranks_train(run_dir: Path, checkpoint: Path | None) -> Iterator[None]:
    """Within it, Lightning starts the other ranks with this run; after it, nothing is left of what they shared."""
    main, hydra = sys.modules["__main__"], HydraConfig.instance()
    before = sys.argv, main.__spec__, hydra.cfg
    environment = {name: os.environ.get(name) for name in _SET_BY_LIGHTNING}
    sys.argv = [sys.argv[0], str(run_dir), *([str(checkpoint)] if checkpoint else [])]
    main.__spec__ = ModuleSpec(_MODULE, None)  # Lightning's command is python -m, this name, sys.argv[1:]
    hydra.cfg = None  # else it adds settings of Hydra's
    try:
        with ended_with_the_first(run_dir), _own_process_group():
            yield
    finally:
        sys.argv, main.__spec__, hydra.cfg = before
        for name, value in environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _own_process_group() -> Iterator[None]:
    """Nothing is left of it, so that the next run begins another, and who waits for this process sees it go."""
    try:
        yield
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
