"""Instances of services that somebody wants, and of no other: what Consul's and Nomad's services have in common.

Each wanted service has a blocking query of its own as long as there are connections for them. Where more services are
wanted than that, the rest is read once, and again when something in their place changed.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Final, Generic, Protocol

from gloo_nomad.api.refs import Ref
from gloo_nomad.clients.blocking import A, Query, watch_index
from gloo_nomad.clients.http import WorldError
from gloo_nomad.sources.service_sweep import Changed, ServiceKey, ServiceSweep, watch_any
from gloo_nomad.sources.source import Source, SourceState, cancel, raise_defects
from gloo_nomad.store.change import Change, Entry
from gloo_nomad.store.services import ServiceInstances

_WANTED: Final = "what is wanted"


class WantedSource(Source, Protocol):
    """A source that reads what is wanted."""

    def want(self, services: frozenset[ServiceKey]) -> None:
        """From now on these are read, and no others; to be called in the event loop."""


class WantedServices(ABC, Generic[A]):
    """Watches the instances of wanted services. A subclass says how one is read, and what an answer means."""

    QUERIES_OF_PLACE = 2
    """Blocking queries that tell of changes in one place."""

    def __init__(self, name: str, kind: str, *, wait: float, max_queries: int) -> None:
        """*wait* is the longest wait of a query in seconds; at most *max_queries* are open at a time."""
        self.name = name
        self.state = SourceState(name, {_WANTED})
        self._kind = kind
        self._wait = wait
        self._max_queries = max_queries
        self._wanted: frozenset[ServiceKey] = frozenset()
        self._wake = asyncio.Event()
        self._sweep = ServiceSweep(self._read_again, self._watch_changed, self.state, self._wake.set)
        self._followed: frozenset[ServiceKey] = frozenset()
        """The wanted services that are watched already."""
        self._watching: dict[ServiceKey, asyncio.Task[None]] = {}
        self._known: dict[ServiceKey, ServiceInstances] = {}
        self._pending: dict[Ref, Entry | None] = {}

    @abstractmethod
    async def _ask(self, key: ServiceKey, index: int, wait: float) -> A:
        """Reads a service; with an index it waits for a newer answer."""

    @abstractmethod
    def _take(self, key: ServiceKey, answer: A) -> None:
        """Calls ``_learn`` with what an answer means, now or later."""

    async def _ask_again(self, key: ServiceKey) -> A:
        """Reads a service that may be different."""
        return await self._ask(key, 0, 0)

    def _wakers(self, place: str) -> Mapping[str, Query[Any]]:
        """Queries that are answered when anything in a place changed, by their names in the state."""
        return {}

    def _watch_changed(self, place: str) -> Changed:
        """The names of services that may be different; by default all of a place after each answer of its wakers."""
        return watch_any(self._wakers(place), self.state, self._wait)

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

        A service without usable instances is an empty one; one that is wanted no more is deleted. Where the server
        cannot be asked nothing is said, and the instances known before stay.
        """
        tasks = self._start_tasks()
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._follow_wanted()
                change = self._take_pending()
                if change is not None:
                    yield change
                    self._confirm(change)
                raise_defects(tasks)
        finally:
            await cancel([*tasks, *self._sweep.tasks, *self._watching.values()])
            self._watching.clear()

    def _start_tasks(self) -> list[asyncio.Task[None]]:
        """What runs beside the watches of single services; each wakes the source when it ends."""
        return []

    def _forget(self, key: ServiceKey) -> None:
        """Takes note that a service is wanted no more."""
        if self._known.pop(key, None) is not None:
            self._pending[Ref(*key)] = None

    def _learn(self, key: ServiceKey, instances: ServiceInstances, version: int) -> None:
        """Takes instances over, if they say anything new about a service that is still wanted."""
        if key not in self._wanted or self._known.get(key) == instances:
            return
        self._known[key] = instances
        self._pending[Ref(*key)] = Entry(instances, version=version)
        self._wake.set()

    def _take_pending(self) -> Change | None:
        pending, self._pending = self._pending, {}
        if not pending:
            return None
        puts = {ref: entry for ref, entry in sorted(pending.items()) if entry is not None}
        deletes = frozenset(ref for ref, entry in pending.items() if entry is None)
        return Change(self.name, self._kind, puts, deletes)

    def _confirm(self, change: Change) -> None:
        self.state.changes += 1
        for ref in change.puts:
            self.state.parts.discard(_part((ref.namespace, ref.name)))

    async def _follow_wanted(self) -> None:
        """Starts and ends watches until they are those of the wanted services."""
        raise_defects([*self._watching.values(), *self._sweep.tasks])
        if self._followed is self._wanted:
            return
        before, self._followed = self._followed, self._wanted
        apart = self._pick_apart()
        await cancel([self._watching.pop(key) for key in self._watching.keys() - apart])
        for key in before - self._wanted:
            self._forget(key)
        for key in sorted(apart - self._watching.keys()):
            self._watching[key] = asyncio.create_task(self._watch_service(key), name=f"{self.name}/{_part(key)}")
        await self._sweep.follow(self._followed - apart)

    def _pick_apart(self) -> frozenset[ServiceKey]:
        """The services with a query of their own: all if there are few, else those that have one already first."""
        if len(self._followed) <= self._max_queries:
            return self._followed
        places = {place for place, _ in self._followed}
        most = max(0, self._max_queries - self.QUERIES_OF_PLACE * len(places))
        return frozenset(sorted(self._followed, key=lambda key: (key not in self._watching, key))[:most])

    async def _watch_service(self, key: ServiceKey) -> None:
        async def query(index: int, wait: float) -> A:
            return await self._ask(key, index, wait)

        try:
            async with aclosing(watch_index(query, lambda: self._wait, self.state.reporter(_part(key)))) as answers:
                async for seen in answers:
                    self._take(key, seen.answer)
        finally:
            self._wake.set()

    async def _read_again(self, key: ServiceKey) -> bool:
        """Reads what has no query of its own; whether it could be read."""
        try:
            answer = await self._ask_again(key)
        except WorldError as failure:
            if key in self._wanted:
                self.state.fail(_part(key), str(failure))
            return False
        self.state.succeed(_part(key))
        self._take(key, answer)
        return True


def _part(key: ServiceKey) -> str:
    place, name = key
    return f"{name}@{place}" if place else name
