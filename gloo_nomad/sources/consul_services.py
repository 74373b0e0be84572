"""Healthy instances of Consul services: of those that somebody wants, and of no other.

Each wanted service has a blocking query of its own as long as there are connections for them. Where more services are
wanted than that, the rest is read again whenever any check or registration of their datacenter changes.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Final

from gloo_nomad.api.refs import Ref
from gloo_nomad.clients.blocking import watch_index
from gloo_nomad.clients.consul import READ_STALE, ConsulClient, Reading
from gloo_nomad.clients.consul_answers import HealthAnswer, HealthEntry
from gloo_nomad.clients.http import WorldError
from gloo_nomad.sources.service_sweep import sweep_services
from gloo_nomad.sources.source import SourceState, cancel
from gloo_nomad.store.change import Change, Entry
from gloo_nomad.store.services import CONSUL_SERVICE, Instance, ServiceInstances

MAX_QUERIES: Final = 90
"""Blocking queries at a time: with those of the KV store and of the catalog below what Consul allows one client."""

_WANTED: Final = "what is wanted"

ServiceKey = tuple[str, str]
"""A service: datacenter ("" for the agent's own) and name."""


class ConsulServicesSource:
    """Watches the instances of wanted services all of whose checks pass."""

    def __init__(
        self,
        client: ConsulClient,
        *,
        wait: float = 60.0,
        reading: Reading = READ_STALE,
        max_queries: int = MAX_QUERIES,
        name: str = "consul-services",
    ) -> None:
        """*wait* is the longest wait of a query in seconds; at most *max_queries* are open at a time."""
        self.name = name
        self.state = SourceState(name, {_WANTED})
        self._client = client
        self._wait = wait
        self._reading = reading
        self._max_queries = max_queries
        self._wanted: frozenset[ServiceKey] = frozenset()
        self._wake = asyncio.Event()
        self._watching: dict[ServiceKey, asyncio.Task[None]] = {}
        self._known: dict[ServiceKey, ServiceInstances] = {}
        self._pending: dict[Ref, Entry | None] = {}

    def want(self, services: frozenset[ServiceKey]) -> None:
        """From now on these services are watched, and no others; to be called in the event loop."""
        for key in services - self._wanted:
            self.state.expect(_part(key))
        self.state.forget(_WANTED)
        for key in self._wanted - services:
            self.state.forget(_part(key))
        self._wanted = services
        self._wake.set()

    async def watch_changes(self) -> AsyncGenerator[Change, None]:
        """Yields the instances of each wanted service as they are and then as they change, bursts in one change.

        A service without healthy instances is an empty one; one that is wanted no more is deleted. Where Consul cannot
        be asked nothing is said, and the instances known before stay.
        """
        sweep = asyncio.create_task(self._sweep(), name=f"{self.name}/sweep")
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._follow_wanted()
                change = self._take_pending()
                if change is not None:
                    yield change
                    self._confirm(change)
                if sweep.done():
                    sweep.result()
        finally:
            await cancel([sweep, *self._watching.values()])
            self._watching.clear()

    def _take_pending(self) -> Change | None:
        pending, self._pending = self._pending, {}
        if not pending:
            return None
        puts = {ref: entry for ref, entry in sorted(pending.items()) if entry is not None}
        deletes = frozenset(ref for ref, entry in pending.items() if entry is None)
        return Change(self.name, CONSUL_SERVICE, puts, deletes)

    def _confirm(self, change: Change) -> None:
        self.state.changes += 1
        for ref in change.puts:
            self.state.parts.discard(_part((ref.namespace, ref.name)))

    async def _follow_wanted(self) -> None:
        """Starts and ends watches until they are those of the wanted services."""
        for key, task in list(self._watching.items()):
            if task.done() and key in self._wanted:
                task.result()  # only a defect of this program ends a watch: it must not stay hidden
        gone = [key for key in self._watching if key not in self._wanted]
        await cancel([self._watching.pop(key) for key in gone])
        for key in self._known.keys() - self._wanted:
            del self._known[key]
            self._pending[Ref(*key)] = None
        for key in sorted(self._wanted - self._watching.keys())[: self._max_queries - len(self._watching)]:
            self._watching[key] = asyncio.create_task(self._watch_service(key), name=f"{self.name}/{_part(key)}")

    async def _watch_service(self, key: ServiceKey) -> None:
        dc, name = key

        async def query(index: int, wait: float) -> HealthAnswer:
            return await self._client.health_service(name, dc, index, wait, self._reading)

        try:
            async with aclosing(watch_index(query, lambda: self._wait, self.state.reporter(_part(key)))) as answers:
                async for seen in answers:
                    self._learn(key, seen.answer)
        finally:
            self._wake.set()

    async def _sweep(self) -> None:
        """Reads what has no query of its own."""

        async def read(key: ServiceKey) -> bool:
            dc, name = key
            try:
                answer = await self._client.health_service(name, dc, reading=self._reading)
            except WorldError as failure:
                if key in self._wanted:
                    self.state.fail(_part(key), str(failure))
                return False
            self.state.succeed(_part(key))
            self._learn(key, answer)
            return True

        def remaining() -> frozenset[ServiceKey]:
            return self._wanted - self._watching.keys()

        try:
            await sweep_services(self._client, remaining, read, self.state)
        finally:
            self._wake.set()

    def _learn(self, key: ServiceKey, answer: HealthAnswer) -> None:
        """Takes an answer over, if it says anything new about a service that is still wanted."""
        instances = read_instances(answer.entries)
        if key not in self._wanted or self._known.get(key) == instances:
            return
        self._known[key] = instances
        self._pending[Ref(*key)] = Entry(instances, version=answer.index)
        self._wake.set()


def read_instances(entries: tuple[HealthEntry, ...]) -> ServiceInstances:
    """Instances as Consul registered them, in order; without an address of their own they have their node's."""
    return ServiceInstances(tuple(sorted(_instances(entries))))


def _instances(entries: tuple[HealthEntry, ...]) -> Iterator[Instance]:
    for entry in entries:
        service, node = entry.service, entry.node
        yield Instance(
            address=service.address or node.address,
            port=service.port,
            id=service.id,
            tags=tuple(sorted(service.tags or ())),
            datacenter=node.datacenter,
            weight=service.weights.passing if service.weights else 1,
        )


def _part(key: ServiceKey) -> str:
    dc, name = key
    return f"{name}@{dc}" if dc else name
