"""Reading many services with few connections: all of them again, whenever anything in their place changed."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any, Final

from gloo_nomad.clients.blocking import Pace, Query, watch_index
from gloo_nomad.sources.source import SourceState

_CONCURRENCY: Final = 8
_REST: Final = 2.0
"""Seconds between two sweeps at least; and no shorter than the last sweep took, so that half of the time is rest."""
_WAIT: Final = 60.0
_CHECK: Final = 1.0
"""Seconds between looks at whether there is anything to sweep."""

ServiceKey = tuple[str, str]
Wakers = Callable[[str], Mapping[str, Query[Any]]]
"""For a place the queries that are answered when anything there changed, by their names in the state."""


async def sweep_services(
    wakers: Wakers,
    remaining: Callable[[], frozenset[ServiceKey]],
    read: Callable[[ServiceKey], Awaitable[bool]],
    state: SourceState,
) -> None:
    """Calls *read* for ever for each of the *remaining* services: at once for new ones, then after each change.

    *read* says whether it could be read; otherwise it is tried again soon. Places have their *wakers* as long as there
    are services to sweep in them.
    """
    waking: dict[str, dict[str, asyncio.Task[None]]] = {}
    wake = asyncio.Event()
    read_once: frozenset[ServiceKey] = frozenset()
    try:
        while True:
            keys = remaining()
            _follow(wakers, waking, {place for place, _ in keys}, wake, state)
            due = keys if wake.is_set() else keys - read_once
            wake.clear()
            began = time.monotonic()
            failed = await _read_all(due, read)
            read_once = keys - failed
            await asyncio.sleep(max(_REST, time.monotonic() - began) if due else _CHECK)
    finally:
        _follow(wakers, waking, set(), wake, state)


def _follow(
    wakers: Wakers,
    waking: dict[str, dict[str, asyncio.Task[None]]],
    places: set[str],
    wake: asyncio.Event,
    state: SourceState,
) -> None:
    """Starts and ends the wake-ups until they are those of *places*."""
    for place in waking.keys() - places:
        for part, task in waking.pop(place).items():
            task.cancel()
            state.forget(part)
    for place in sorted(places - waking.keys()):
        waking[place] = {
            part: asyncio.create_task(_wake_on(query, part, wake, state), name=f"{state.name}/{part}")
            for part, query in wakers(place).items()
        }


async def _wake_on(query: Query[Any], part: str, wake: asyncio.Event, state: SourceState) -> None:
    async with aclosing(watch_index(query, lambda: _WAIT, state.reporter(part), Pace(1.0, 2))) as answers:
        async for _ in answers:
            wake.set()


async def _read_all(keys: Iterable[ServiceKey], read: Callable[[ServiceKey], Awaitable[bool]]) -> frozenset[ServiceKey]:
    """Reads each, a few at a time; those that could not be read."""
    queue = sorted(keys, reverse=True)
    failed: set[ServiceKey] = set()

    async def work() -> None:
        while queue:
            key = queue.pop()
            if not await read(key):
                failed.add(key)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(_CONCURRENCY, len(queue))):
            group.create_task(work())
    return frozenset(failed)
