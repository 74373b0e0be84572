"""What the checks of Nomad's allocations say: whether an instance that is registered may get requests.

Nomad registers an instance before its tasks are started, and leaves it registered while a check of it fails: nothing
but the Nomad client that runs the allocation knows what its checks say, and that cannot push. So it is asked again and
again: often while an instance is about to become ready, rarely where there are no checks, never faster than the pace.
https://developer.hashicorp.com/nomad/docs/networking/service-discovery
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from gloo_nomad.clients.blocking import Pace
from gloo_nomad.clients.http import ForbiddenError, TimedOutError, WorldError
from gloo_nomad.clients.nomad import CheckResult, NomadClient
from gloo_nomad.sources.source import SourceState

Allocation = tuple[str, str]
"""Nomad's namespace and the allocation's id."""

REFRESH: Final = 2.0
"""Seconds between two readings of checks, where the pace allows it."""
STARTING: Final = 0.3
"""The same while an instance is about to become ready."""
WITHOUT_CHECKS: Final = 30.0
"""The same of an allocation without checks; an update in place can give it some."""
FAILED: Final = 3.0
"""Seconds until an allocation is asked again after a failure."""
PATIENCE: Final = 10.0
"""Seconds after which an instance whose checks could never be read counts as what it is registered for: ready."""
TIMEOUT: Final = 5.0
_CONCURRENCY: Final = 8
_PER_SECOND: Final = 50
_PART: Final = "checks"


@dataclass(slots=True, eq=False)
class _Watched:
    """An allocation, and what is known of it. Times are of the monotonic clock."""

    since: float
    due: float
    ready: dict[str, bool] = field(default_factory=dict)
    """By service, those that have checks."""
    others_ready: bool | None = None
    """Of services without checks; None until it was read once."""
    error: str = ""


class NomadChecks:
    """Follows the checks of some allocations."""

    def __init__(self, client: NomadClient, state: SourceState, changed: Callable[[Allocation], None]) -> None:
        """*changed* is told each allocation of which ``is_ready`` may answer something else."""
        self._client = client
        self._state = state
        self._changed = changed
        self._watched: dict[Allocation, _Watched] = {}
        self._reading: set[Allocation] = set()
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(_CONCURRENCY)
        self._pace = Pace(1 / _PER_SECOND, _PER_SECOND)

    def follow(self, allocations: Iterable[Allocation]) -> None:
        """From now on exactly these allocations are asked."""
        wanted, now = set(allocations), time.monotonic()
        for gone in self._watched.keys() - wanted:
            del self._watched[gone]
        for allocation in wanted - self._watched.keys():
            self._watched[allocation] = _Watched(now, now)
        self._tell()
        self._wake.set()

    def is_ready(self, allocation: Allocation, service: str) -> bool | None:
        """Whether the instance of a service in an allocation may get requests; None as long as nobody knows."""
        watched = self._watched.get(allocation)
        return watched.ready.get(service, watched.others_ready) if watched else None

    async def run(self) -> None:
        """Asks for ever."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                now = time.monotonic()
                for allocation, watched in self._watched.items():
                    if watched.due <= now and allocation not in self._reading:
                        self._reading.add(allocation)
                        tasks.create_task(self._refresh(allocation, watched), name=f"checks of {allocation[1]}")
                await self._rest()

    async def _rest(self) -> None:
        idle = [watched.due for allocation, watched in self._watched.items() if allocation not in self._reading]
        try:
            async with asyncio.timeout(max(min(idle) - time.monotonic(), 0) if idle else None):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    async def _refresh(self, allocation: Allocation, watched: _Watched) -> None:
        before = (dict(watched.ready), watched.others_ready)
        try:
            async with self._slots:
                await self._pace.wait()
                await self._read(allocation, watched)
            watched.error = ""
        except WorldError as failure:
            watched.error = str(failure)
            watched.due = time.monotonic() + FAILED
            if isinstance(failure, ForbiddenError) or time.monotonic() - watched.since > PATIENCE:
                watched.others_ready = watched.others_ready is not False
        finally:
            self._reading.discard(allocation)
            self._wake.set()
        self._tell()
        if before != (watched.ready, watched.others_ready):
            self._changed(allocation)

    async def _read(self, allocation: Allocation, watched: _Watched) -> None:
        namespace, name = allocation
        try:
            async with asyncio.timeout(TIMEOUT):
                started = watched.others_ready or await self._client.allocation_status(name, namespace) != "pending"
                results = await self._client.read_checks(name, namespace)
        except TimeoutError:
            raise TimedOutError(f"Nomad: no answer about an allocation within {TIMEOUT:g} s") from None
        watched.ready = judge(results, watched.ready)
        watched.others_ready = started
        watched.due = time.monotonic() + _delay(watched, results)

    def _tell(self) -> None:
        errors = [watched.error for watched in self._watched.values() if watched.error]
        if errors:
            self._state.fail(_PART, f"{errors[0]}; what is known of checks stays as it is")
        else:
            self._state.succeed(_PART)


def judge(results: Iterable[CheckResult], before: dict[str, bool]) -> dict[str, bool]:
    """For each service with checks whether all of them pass.

    A check that has said nothing yet keeps a new instance out, and leaves one in service that was there before.
    """
    ready: dict[str, bool] = {}
    for result in results:
        passes = result.status == "success" or (result.status == "pending" and before.get(result.service, False))
        ready[result.service] = ready.get(result.service, True) and passes
    return ready


def _delay(watched: _Watched, results: tuple[CheckResult, ...]) -> float:
    if not watched.others_ready or any(result.status == "pending" for result in results):
        return STARTING
    return REFRESH if results else WITHOUT_CHECKS
