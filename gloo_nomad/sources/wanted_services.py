"""Instances of services that somebody wants, and of no other: what Consul's and Nomad's services have in common.

Each wanted service has a blocking query of its own as long as there are connections for them. Where more services are
wanted than that, the rest is read again whenever anything in their place changes.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from typing import Any, Final, Generic

from gloo_nomad.api.refs import Ref
from gloo_nomad.clients.blocking import A, Query, watch_index
from gloo_nomad.clients.http import WorldError
from gloo_nomad.sources.service_sweep import sweep_services
from gloo_nomad.sources.source import SourceState, cancel
from gloo_nomad.store.change import Change, Entry
from gloo_nomad.store.services import ServiceInstances

_WANTED: Final = "what is wanted"

ServiceKey = tuple[str, str]
"""A service: its place (Consul's datacenter, "" for the agent's own; Nomad's namespace) and its name."""


class WantedServices(ABC, Generic[A]):
    """Watches the instances of wanted services. A subclass says how one is read, and what an answer means."""

    def __init__(self, name: str, kind: str, *, wait: float, max_queries: int) -> None:
        """*wait* is the longest wait of a query in seconds; at most *max_queries* are open at a time."""
        self.name = name
        self.state = SourceState(name, {_WANTED})
        self._kind = kind
        self._wait = wait
        self._max_queries = max_queries
        self._wanted: frozenset[ServiceKey] = frozenset()
        self._wake = asyncio.Event()
        self._watching: dict[ServiceKey, asyncio.Task[None]] = {}
        self._known: dict[ServiceKey, ServiceInstances] = {}
        self._pending: dict[Ref, Entry | None] = {}

    @abstractmethod
    async def _ask(self, key: ServiceKey, index: int, wait: float) -> A:
        """Reads a service; with an index it waits for a newer answer."""

    @abstractmethod
    def _take(self, key: ServiceKey, answer: A) -> None:
        """Calls ``_learn`` with what an answer means, now or later."""

    @abstractmethod
    def _wakers(self, place: str) -> Mapping[str, Query[Any]]:
        """Queries that are answered when anything in a place changed, by their names in the state."""

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
                _raise_defects(tasks)
        finally:
            await cancel([*tasks, *self._watching.values()])
            self._watching.clear()

    def _start_tasks(self) -> list[asyncio.Task[None]]:
        """What runs beside the watches of single services; each wakes the source when it ends."""
        return [asyncio.create_task(self._sweep(), name=f"{self.name}/sweep")]

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
        _raise_defects(task for key, task in self._watching.items() if key in self._wanted)
        gone = [key for key in self._watching if key not in self._wanted]
        await cancel([self._watching.pop(key) for key in gone])
        for key in {*gone, *self._known} - self._wanted:
            self._forget(key)
        for key in sorted(self._wanted - self._watching.keys())[: self._max_queries - len(self._watching)]:
            self._watching[key] = asyncio.create_task(self._watch_service(key), name=f"{self.name}/{_part(key)}")

    async def _watch_service(self, key: ServiceKey) -> None:
        async def query(index: int, wait: float) -> A:
            return await self._ask(key, index, wait)

        try:
            async with aclosing(watch_index(query, lambda: self._wait, self.state.reporter(_part(key)))) as answers:
                async for seen in answers:
                    self._take(key, seen.answer)
        finally:
            self._wake.set()

    async def _sweep(self) -> None:
        """Reads what has no query of its own."""

        async def read(key: ServiceKey) -> bool:
            try:
                answer = await self._ask(key, 0, 0)
            except WorldError as failure:
                if key in self._wanted:
                    self.state.fail(_part(key), str(failure))
                return False
            self.state.succeed(_part(key))
            self._take(key, answer)
            return True

        def remaining() -> frozenset[ServiceKey]:
            return self._wanted - self._watching.keys()

        try:
            await sweep_services(self._wakers, remaining, read, self.state)
        finally:
            self._wake.set()


def _raise_defects(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Only a defect of this program ends a task: it must not stay hidden."""
    for task in tasks:
        if task.done():
            task.result()


def _part(key: ServiceKey) -> str:
    place, name = key
    return f"{name}@{place}" if place else name
