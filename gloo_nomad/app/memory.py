"""Keeps the memory of a long-running process near what it uses.

glibc gives every thread an arena of its own, and what was freed in one is not used by another: a translation runs in
whatever worker thread is free, so that after a while each arena holds the peak of one. One arena is enough where
threads take turns anyway.
https://man7.org/linux/man-pages/man3/mallopt.3.html, https://man7.org/linux/man-pages/man3/malloc_trim.3.html
"""

import ctypes
import gc
from contextlib import suppress
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_THRESHOLD: Final = 128 * 1024
"""Bytes: glibc's own at a start, which it would raise to 64 MiB by itself after large buffers were freed."""


_SELDOM: Final = (20_000, 20, 50)
"""Thresholds of ``gc`` until the first configuration is in service."""
_USUAL: Final = (700, 10, 10)
"""Python's own, for afterwards: without what stays, a collection is short, and garbage does not pile up."""


def collect_seldom() -> None:
    """Most of what is made at a start is there to stay: to look through it again and again finds no garbage."""
    gc.set_threshold(*_SELDOM)


def use_one_arena() -> None:
    """To be called before threads are started; does nothing where the C library is not glibc."""
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_TRIM_THRESHOLD, _THRESHOLD)
        mallopt(_M_MMAP_THRESHOLD, _THRESHOLD)


def settle() -> None:
    """Collects garbage, takes what is left out of later collections, and gives free memory back."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_USUAL)
    trim()


def trim() -> None:
    """Gives free memory back to the system."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
