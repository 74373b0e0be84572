"""Many services with few connections: each is read once, and again when something says that it may differ."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any, Final

from gloo_nomad.clients.blocking import Pace, Query, Report, watch_index
from gloo_nomad.sources.source import SourceState, cancel, raise_defects

_WORKERS: Final = 8
_RETRY: Final = 1.0
"""Seconds after which a service that could not be read is tried again."""
_PACE: Final = (2.0, 2)
"""How often all services of a place are read again at most: the seconds between, and how many times at once."""

ServiceKey = tuple[str, str]
"""A service: its place (Consul's datacenter, "" for the agent's own; Nomad's namespace) and its name."""
Changed = AsyncGenerator[frozenset[str] | None, None]
"""Names of services that may be different, again and again; None for all of them."""


class ServiceSweep:
    """Reads services, a few at a time.

    *read* says whether one could be read, *watch* follows a place, and *ended* is told when a defect ended a part.
    """

    def __init__(
        self,
        read: Callable[[ServiceKey], Awaitable[bool]],
        watch: Callable[[str], Changed],
        state: SourceState,
        ended: Callable[[], None],
    ) -> None:
        self._read = read
        self._watch_changed = watch
        self._state = state
        self._ended = ended
        self._keys: frozenset[ServiceKey] = frozenset()
        self._queue: asyncio.Queue[ServiceKey] = asyncio.Queue()
        self._queued: set[ServiceKey] = set()
        self._workers: list[asyncio.Task[None]] = []
        self._watches: dict[str, asyncio.Task[None]] = {}

    async def follow(self, keys: frozenset[ServiceKey]) -> None:
        """From now on it is these services."""
        new, self._keys = keys - self._keys, keys
        places = {place for place, _ in keys}
        await cancel([self._watches.pop(place) for place in self._watches.keys() - places])
        for place in sorted(places - self._watches.keys()):
            self._watches[place] = asyncio.create_task(self._watch(place), name=f"{self._state.name}/changed@{place}")
        while keys and len(self._workers) < _WORKERS:
            self._workers.append(asyncio.create_task(self._work(), name=f"{self._state.name}/sweep"))
        self._enqueue(new)

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """What runs; only a defect of this program ends one."""
        return [*self._workers, *self._watches.values()]

    def _enqueue(self, keys: Iterable[ServiceKey]) -> None:
        for key in sorted(keys):
            if key not in self._queued:
                self._queued.add(key)
                self._queue.put_nowait(key)

    async def _work(self) -> None:
        try:
            while True:
                key = await self._queue.get()
                self._queued.discard(key)
                if key in self._keys and not await self._read(key):
                    asyncio.get_running_loop().call_later(_RETRY, self._enqueue, (key,))
        finally:
            self._ended()

    async def _watch(self, place: str) -> None:
        try:
            async with aclosing(self._watch_changed(place)) as found:
                async for names in found:
                    here = [key for key in self._keys if key[0] == place]
                    self._enqueue(here if names is None else (key for key in here if key[1] in names))
        finally:
            self._ended()


async def watch_any(
    queries: Mapping[str, Query[Any]], state: SourceState, wait: float
) -> AsyncGenerator[frozenset[str] | None, None]:
    """All services of a place may be different whenever one of these queries is answered; they are parts of *state*."""
    moved = asyncio.Event()
    tasks = [
        asyncio.create_task(_follow(query, wait, state.reporter(part), moved), name=f"{state.name}/{part}")
        for part, query in queries.items()
    ]
    pace = Pace(*_PACE)
    try:
        while True:
            await moved.wait()
            moved.clear()
            raise_defects(tasks)
            yield None
            await pace.wait()
    finally:
        await cancel(tasks)
        for part in queries:
            state.forget(part)


async def _follow(query: Query[Any], wait: float, report: Report, moved: asyncio.Event) -> None:
    try:
        async with aclosing(watch_index(query, lambda: wait, report)) as answers:
            async for _ in answers:
                moved.set()
    finally:
        moved.set()
