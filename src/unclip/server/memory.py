"""Keep the memory of a long-lived server from growing: glibc does not give back what its many threads have freed."""

import ctypes
import sys
import time

MAX_ARENAS = 2
"""Separate heaps of the process. Each keeps what was once needed in it, and the default is eight for each core."""
TRIM_SECONDS = 10.0
"""How often, at most, freed memory goes back to the system."""
_M_ARENA_MAX = -8


class Trimmer:
    """Returns freed memory to the system, now and then; without glibc nothing happens."""

    def __init__(self) -> None:
        self._trim = getattr(_c_library(), "malloc_trim", None)
        self._last = time.monotonic()

    def __call__(self) -> None:
        """Return what is free if the last time was a while ago; it takes some milliseconds."""
        if self._trim is not None and (now := time.monotonic()) - self._last >= TRIM_SECONDS:
            self._trim(0)
            self._last = now


def bound_arenas() -> None:
    """Let the threads of this process share few heaps; for a process that is a server and nothing else."""
    if (set_option := getattr(_c_library(), "mallopt", None)) is not None:
        set_option(_M_ARENA_MAX, MAX_ARENAS)


def _c_library() -> object:
    return ctypes.CDLL(None) if sys.platform == "linux" else None
