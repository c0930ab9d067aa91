"""How the C library gives memory back.

A forward pass frees maps of many megabytes and asks for them again a moment later. glibc returns freed memory to the
system at once, which then has to hand out zeroed pages anew: that took 14 to 53 % of a prediction's CPU time.
"""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD = -1  # parameters of mallopt(3)
_MMAP_THRESHOLD = -3
_KEPT_BYTES = 2**31 - 1  # the largest that it takes


def keep_freed_memory() -> bool:
    """Let the process keep what it frees, for its next request; whether the C library could be told.

    The process then holds the memory of its peak until it ends. Anything but glibc stays as it is.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return mallopt(_TRIM_THRESHOLD, _KEPT_BYTES) == mallopt(_MMAP_THRESHOLD, _KEPT_BYTES) == 1
