"""A process and all it started, also what has a process group of its own (Linux)."""

import contextlib
import os
import signal
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

Member = tuple[int, str]
"""A process id with its start time, so that a reused id is not mistaken."""


def signal_group(group: int, number: signal.Signals) -> None:
    """Sends a signal to a process group; none of that id is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def kill(pid: int, known: Iterable[Member]) -> None:
    """Kills the process group of *pid*, what is below it now, and those of *known* that are still there."""
    members = descendants(pid) | set(known)
    signal_group(pid, signal.SIGKILL)
    for member, started in members:
        if _started(member) == started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)


def descendants(pid: int) -> set[Member]:
    """The children of *pid* and theirs. Nomad's tasks are such that a signal to Nomad's group does not reach."""
    children: dict[int, set[int]] = defaultdict(set)
    for entry in Path("/proc").glob("[0-9]*"):
        fields = _stat(int(entry.name))
        if fields:
            children[int(fields[1])].add(int(entry.name))
    found: set[Member] = set()
    pending = list(children[pid])
    while pending:
        child = pending.pop()
        started = _started(child)
        if started is not None:
            found.add((child, started))
        pending.extend(children[child])
    return found


def is_running(pid: int) -> bool:
    """Whether there is a process of this id that has not ended."""
    fields = _stat(pid)
    return bool(fields) and fields[0] != "Z"


def _started(pid: int) -> str | None:
    fields = _stat(pid)
    return fields[19] if fields else None


def _stat(pid: int) -> list[str]:
    """The fields of ``/proc/PID/stat`` after the command's name (proc_pid_stat(5)); empty for a process that ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
