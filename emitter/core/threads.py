"""How many threads torch works with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Operations on small tensors, which threads would spend longer waiting for each other than working on.

    On two busy cores the uncertainties took eight times the CPU time with two threads.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
