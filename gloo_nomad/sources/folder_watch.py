"""Being told that something below a folder changed: pushed by the kernel, not polled."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from watchfiles import _rust_notify

_DEBOUNCE_MS: Final = 200
"""A burst is handed over after this long at the latest."""
_STEP_MS: Final = 25
"""A burst is over when nothing happened for this long."""


@contextmanager
def watch_folder(folder: Path) -> Iterator[asyncio.Event]:
    """The event is set when something in *folder* or below it changes, or the folder itself is exchanged.

    Events are collected from the beginning of the context on, so that nothing is lost between a first look and the
    first wait. Raises ``OSError`` if there is no such folder, or if the system has no more watches to give.
    """
    wake = asyncio.Event()
    with ExitStack() as stack:
        stack.enter_context(_notify(folder, wake, recursive=True))
        if folder.is_symlink():  # its target may be exchanged, which nobody tells those who watch the target
            stack.enter_context(_notify(folder.absolute().parent, wake, recursive=False))
        yield wake


@contextmanager
def watch_for_folder(folder: Path) -> Iterator[asyncio.Event]:
    """The event is set when *folder*, or one of those above it, may have appeared."""
    above = next((parent for parent in folder.absolute().parents if parent.is_dir()), Path("/"))
    wake = asyncio.Event()
    with _notify(above, wake, recursive=False):
        yield wake


def identity(folder: Path) -> tuple[int, int] | None:
    """Which folder this is; None if there is none. A folder that was removed and made again is another one."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if folder.is_dir() else None


@contextmanager
def _notify(folder: Path, wake: asyncio.Event, *, recursive: bool) -> Iterator[None]:
    """Sets *wake* from a thread of its own: asyncio's pool is small, and this would keep a thread of it for ever."""
    loop = asyncio.get_running_loop()
    stop = threading.Event()
    notify = _rust_notify.RustNotify([str(folder)], False, False, 300, recursive, True)

    def run() -> None:
        with notify:
            while notify.watch(_DEBOUNCE_MS, _STEP_MS, 0, stop) not in {"stop", "signal"}:
                if loop.is_closed():
                    return
                loop.call_soon_threadsafe(wake.set)

    threading.Thread(target=run, name=f"watch {folder}", daemon=True).start()
    try:
        yield
    finally:
        stop.set()
