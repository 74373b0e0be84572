"""Reading many services with few connections: all of them again, whenever anything in their datacenter changed."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Final

from gloo_nomad.clients.blocking import Pace, watch_index
from gloo_nomad.clients.consul import ConsulClient
from gloo_nomad.clients.consul_answers import HealthAnswer, NamesAnswer
from gloo_nomad.sources.source import SourceState

_CONCURRENCY: Final = 8
_REST: Final = 2.0
"""Seconds between two sweeps at least; and no shorter than the last sweep took, so that half of the time is rest."""
_WAIT: Final = 60.0
_CHECK: Final = 1.0
"""Seconds between looks at whether there is anything to sweep."""

ServiceKey = tuple[str, str]


async def sweep_services(
    client: ConsulClient,
    remaining: Callable[[], frozenset[ServiceKey]],
    read: Callable[[ServiceKey], Awaitable[bool]],
    state: SourceState,
) -> None:
    """Calls *read* for ever for each of the *remaining* services: at once for new ones, then after each change.

    *read* says whether it could be read; otherwise it is tried again soon.

    The wake-ups are two blocking queries per datacenter, one for checks and one for registrations, as long as there
    are services to sweep.
    """
    wakers: dict[str, list[asyncio.Task[None]]] = {}
    wake = asyncio.Event()
    read_once: frozenset[ServiceKey] = frozenset()
    try:
        while True:
            keys = remaining()
            _follow(client, wakers, {dc for dc, _ in keys}, wake, state)
            due = keys if wake.is_set() else keys - read_once
            wake.clear()
            began = time.monotonic()
            failed = await _read_all(due, read)
            read_once = keys - failed
            await asyncio.sleep(max(_REST, time.monotonic() - began) if due else _CHECK)
    finally:
        _follow(client, wakers, set(), wake, state)


def _follow(
    client: ConsulClient,
    wakers: dict[str, list[asyncio.Task[None]]],
    datacenters: set[str],
    wake: asyncio.Event,
    state: SourceState,
) -> None:
    """Starts and ends the wake-ups until they are those of *datacenters*."""
    for dc in wakers.keys() - datacenters:
        for task in wakers.pop(dc):
            task.cancel()
        for part in (f"checks@{dc}", f"names@{dc}"):
            state.forget(part)
    for dc in sorted(datacenters - wakers.keys()):
        wakers[dc] = [
            asyncio.create_task(_wake_on_checks(client, dc, wake, state), name=f"{state.name}/checks@{dc}"),
            asyncio.create_task(_wake_on_names(client, dc, wake, state), name=f"{state.name}/names@{dc}"),
        ]


async def _wake_on_checks(client: ConsulClient, dc: str, wake: asyncio.Event, state: SourceState) -> None:
    async def query(index: int, wait: float) -> HealthAnswer:
        return await client.checks_index(dc, index, wait)

    async with aclosing(watch_index(query, lambda: _WAIT, state.reporter(f"checks@{dc}"), Pace(1.0, 2))) as answers:
        async for _ in answers:
            wake.set()


async def _wake_on_names(client: ConsulClient, dc: str, wake: asyncio.Event, state: SourceState) -> None:
    async def query(index: int, wait: float) -> NamesAnswer:
        return await client.catalog_services(dc, index, wait)

    async with aclosing(watch_index(query, lambda: _WAIT, state.reporter(f"names@{dc}"), Pace(1.0, 2))) as answers:
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
