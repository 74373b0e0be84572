"""A server as a child process: started in a process group of its own, waited for, stopped with all its children."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from gloo_nomad.demo import families, reaper

START_SECONDS: Final = 60.0
"""How long a server may take until its probe says yes."""
STOP_SECONDS: Final = 10.0
"""How long a server may take to end by itself after SIGTERM."""
_POLL_SECONDS: Final = 0.05
_LOG_LINES: Final = 15


class ServerError(Exception):
    """A server or its program is missing, not ready or ended; the text says what to do, or what it logged."""


@dataclass(frozen=True)
class ServerProcess:
    """A running server; a context manager that stops it."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        """The process id, which is the process group's too."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def log_tail(self, lines: int = _LOG_LINES) -> str:
        """The last *lines* of what it wrote."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def stop(self, grace: float = STOP_SECONDS) -> None:
        """Ends it and everything it started: SIGTERM, and SIGKILL for what is left after *grace* seconds."""
        below = families.descendants(self.pid)
        if self.running:
            families.signal_group(self.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(grace)
        families.kill(self.pid, below)
        self.process.wait()
        reaper.forget(self.pid)

    def kill(self) -> None:
        """Ends it at once, as a crash would."""
        self.stop(grace=0.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_process(
    name: str,
    command: Sequence[str | Path],
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> ServerProcess:
    """Starts *command* with its output appended to *log*; *env* replaces the whole environment.

    Raises ``ServerError`` if the program cannot be started.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        try:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as failure:
            raise ServerError(f"{name} cannot be started: {failure}") from failure
    reaper.remember(process.pid)
    return ServerProcess(name, process, log)


def neutral_environment() -> dict[str, str]:
    """This process's environment without what leads a client to a Consul, Nomad or Vault of the user's."""
    foreign = ("CONSUL_", "NOMAD_", "VAULT_", "BAO_")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}


def wait_ready(server: ServerProcess, probe: Callable[[], bool], seconds: float = START_SECONDS) -> None:
    """Returns when *probe* says yes; an ``OSError`` of the probe is a no.

    Stops the server and raises ``ServerError`` with the last log lines if it ends, or is not ready within *seconds*.
    Whatever else ends the waiting, such as Ctrl-C, stops the server too: nobody else knows of it yet.
    """
    try:
        _wait_ready(server, probe, time.monotonic() + seconds)
    except TimeoutError:
        server.stop()
        raise ServerError(f"{server.name} was not ready after {seconds:g} s:\n{server.log_tail()}") from None
    except BaseException:
        server.stop()
        raise


def _wait_ready(server: ServerProcess, probe: Callable[[], bool], deadline: float) -> None:
    while True:
        if not server.running:
            raise ServerError(f"{server.name} ended with code {server.process.returncode}:\n{server.log_tail()}")
        with contextlib.suppress(OSError):
            if probe():
                return
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(_POLL_SECONDS)


def wait_until(condition: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Returns when *condition* holds; raises ``ServerError`` that says *what* did not happen within *seconds*."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if condition():
                return
        if time.monotonic() > deadline:
            raise ServerError(f"{what} did not happen within {seconds:g} s")
        time.sleep(_POLL_SECONDS)
