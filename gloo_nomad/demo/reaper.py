"""A small process that ends the servers of a demo or a test run which was killed before it could stop them.

``python -m gloo_nomad.demo.reaper`` reads lines ``+PID`` and ``-PID`` from a pipe whose other end only the parent has.
The end of the pipe is the parent's end.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterable
from typing import Final

from gloo_nomad.demo import families

GRACE_SECONDS: Final = 5.0

_pipes: dict[int, int] = {}
"""The writing end, by the process that opened it: a forked process has a reaper of its own."""
_lock = threading.Lock()


def remember(pid: int) -> None:
    """From now on *pid* is ended when this process is killed."""
    _tell(f"+{pid}\n")


def forget(pid: int) -> None:
    """*pid* was stopped."""
    _tell(f"-{pid}\n")


def _tell(line: str) -> None:
    with _lock:
        if os.getpid() not in _pipes:
            _pipes[os.getpid()] = _start()
        os.write(_pipes[os.getpid()], line.encode())


def _start() -> int:
    reading, writing = os.pipe()
    os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "gloo_nomad.demo.reaper"],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, reading, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    os.close(reading)
    return writing


def main() -> None:
    """Waits for the parent's end, then ends what is left: SIGTERM first, so that servers can end their own."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    left: set[int] = set()
    for line in sys.stdin:
        sign, pid = line[0], int(line[1:])
        (left.add if sign == "+" else left.discard)(pid)
    _end(left)


def _end(pids: Iterable[int]) -> None:
    below = {pid: families.descendants(pid) for pid in pids}
    for pid in below:
        families.signal_group(pid, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < deadline and any(families.is_running(pid) for pid in below):
        time.sleep(0.05)
    for pid, members in below.items():
        families.kill(pid, members)


if __name__ == "__main__":
    main()
