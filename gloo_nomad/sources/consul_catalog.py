"""The names of all services that Consul knows, with their tags: what discovery makes upstreams of."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from typing import Final

from gloo_nomad.clients.blocking import watch_index
from gloo_nomad.clients.consul import READ_STALE, Blocking, ConsulClient, Reading, Scope
from gloo_nomad.clients.consul_answers import NamesAnswer
from gloo_nomad.clients.http import WorldError
from gloo_nomad.sources.source import SourceState, cancel, raise_defects

Names = Mapping[str, tuple[str, ...]]
"""Tags of services, by name."""
_DATACENTERS: Final = 60.0
"""Seconds between looks at which datacenters there are; Consul cannot push that."""
_RETRY: Final = 3.0
_PART: Final = "datacenters"


class ConsulCatalog:
    """Watches the names of the services of all datacenters, or of those that are given."""

    def __init__(
        self,
        client: ConsulClient,
        datacenters: Iterable[str] = (),
        *,
        wait: float = 60.0,
        reading: Reading = READ_STALE,
        name: str = "consul-catalog",
    ) -> None:
        """*wait* is the longest wait of a query in seconds."""
        self.name = name
        self.state = SourceState(name, {_PART})
        self._client = client
        self._datacenters = tuple(sorted(set(datacenters)))
        self._wait = wait
        self._reading = reading
        self._known: dict[str, Names] = {}
        self._watching: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()

    async def watch_names(self) -> AsyncGenerator[Mapping[str, Names], None]:
        """Yields the services by datacenter, all again whenever a name or a tag of one is different.

        The first time when each datacenter was read once. A datacenter that cannot be read keeps what was known of it.
        """
        keeper = asyncio.create_task(self._follow_datacenters(), name=f"{self.name}/{_PART}")
        sent: Mapping[str, Names] | None = None
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                raise_defects([keeper, *self._watching.values()])
                now = dict(sorted(self._known.items()))
                if now.keys() == self._watching.keys() and now != sent:
                    sent = now
                    yield now
                    self.state.sent(_PART)
        finally:
            await cancel([keeper, *self._watching.values()])
            self._watching.clear()

    async def _follow_datacenters(self) -> None:
        """Starts and ends watches until they are those of the datacenters, again and again."""
        report = self.state.reporter(_PART)
        try:
            while True:
                try:
                    datacenters = self._datacenters or await self._client.datacenters()
                    report(None)
                    await self._watch_exactly(datacenters)
                    await asyncio.sleep(_DATACENTERS)
                except WorldError as failure:
                    report(failure)
                    await asyncio.sleep(_RETRY)
        finally:
            self._wake.set()

    async def _watch_exactly(self, datacenters: tuple[str, ...]) -> None:
        gone = self._watching.keys() - set(datacenters)
        await cancel([self._watching.pop(dc) for dc in gone])
        for dc in gone:
            self._known.pop(dc, None)
            self.state.forget(dc)
        for dc in datacenters:
            if dc not in self._watching:
                task = asyncio.create_task(self._watch_datacenter(dc), name=f"{self.name}/{dc}")
                self._watching[dc] = task
        self._wake.set()

    async def _watch_datacenter(self, dc: str) -> None:
        async def query(index: int, wait: float) -> NamesAnswer:
            return await self._client.catalog_services(Scope(dc), Blocking(index, wait), self._reading)

        try:
            async with aclosing(watch_index(query, lambda: self._wait, self.state.reporter(dc))) as answers:
                async for seen in answers:
                    self._known[dc] = seen.answer.names
                    self._wake.set()
        finally:
            self._wake.set()
