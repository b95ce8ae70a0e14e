"""Keeping freed memory in the process, because fresh pages are the hidden cost of a forward pass on a CPU."""

import ctypes
import os

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_LARGEST, _TOP_PAD = 2**31 - 1, 256 * 2**20


def keep_freed_memory() -> bool:
    """Make glibc serve large tensors from its heap, and keep freed memory in the process.

    Process-wide and lasting. Does nothing, and returns False, off glibc or where the environment variable
    ``MIXTRAL_PROBE_ALLOCATOR`` is ``system``.
    """
    if os.environ.get("MIXTRAL_PROBE_ALLOCATOR") == "system":
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_M_MMAP_THRESHOLD, _LARGEST), (_M_TRIM_THRESHOLD, _LARGEST), (_M_TOP_PAD, _TOP_PAD))
    accepted = [mallopt(name, value) == 1 for name, value in settings]  # all of them, also after a refusal
    return all(accepted)
