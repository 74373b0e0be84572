"""Which services of one place of Consul may be different from before, without asking for each of them.

Two blocking queries wake this up: one brings all checks that do not pass, the other one moves with every registration,
after which what is registered on each node is compared with what was there. Only services that differ are named: a
datacenter with thousands of services costs a few requests for a change, and not one for each service.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Final

from gloo_nomad.clients.blocking import A, Pace, watch_index
from gloo_nomad.clients.consul import Blocking, ConsulClient, Scope
from gloo_nomad.clients.consul_answers import Check, ChecksAnswer, NamesAnswer, NodeEntry, NodesAnswer, Registered
from gloo_nomad.clients.http import WorldError
from gloo_nomad.sources.source import SourceState, cancel, raise_defects

_CONCURRENCY: Final = 8
_RETRY: Final = 1.0
_PACE: Final = (0.25, 8)
"""How often a query is asked at most: the seconds between, and how many times at once."""
QUERIES: Final = 3
"""Blocking queries that are open for one place."""

Node = tuple[NodeEntry, frozenset[Registered]]


class ServiceChanges:
    """Follows one place of Consul."""

    def __init__(self, client: ConsulClient, scope: Scope, state: SourceState, label: str, wait: float = 60.0) -> None:
        """*label* names the place in *state*; *wait* is the longest wait of a query in seconds."""
        self._client = client
        self._scope = scope
        self._state = state
        self._label = label
        self._wait = wait
        self._wake = asyncio.Event()
        self._checks: frozenset[Check] | None = None
        self._nodes: tuple[NodeEntry, ...] | None = None
        self._registrations_moved = False
        self._seen_checks: frozenset[Check] = frozenset()
        self._seen_nodes: Mapping[str, Node] | None = None
        self._rest = 0.0
        """Seconds to do nothing after a comparison: as long as it took, however many nodes there are."""

    async def watch_changed(self) -> AsyncGenerator[frozenset[str] | None, None]:
        """Yields for ever the names of services that may differ; None, once at first, for all of them."""
        watches = [
            asyncio.create_task(watch, name=f"{self._state.name}/{self._part(what)}")
            for what, watch in {
                "checks": self._watch("checks", self._client.failing_checks, self._take_checks),
                "nodes": self._watch("nodes", self._client.nodes, self._take_nodes),
                "names": self._watch("names", self._client.catalog_services, self._take_names),
            }.items()
        ]
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                raise_defects(watches)
                if self._checks is None or self._nodes is None:
                    continue
                first = self._seen_nodes is None
                changed = await self._compare()
                if first or changed:
                    yield None if first else changed
                await asyncio.sleep(self._rest)
        finally:
            await cancel(watches)
            for what in ("checks", "nodes", "names", "registrations"):
                self._state.forget(self._part(what))

    def _part(self, what: str) -> str:
        return f"{what}@{self._label}"

    async def _compare(self) -> frozenset[str]:
        """What differs from the last time; after that, now is the last time."""
        changed: set[str] = set()
        self._rest = 0.0
        if self._registrations_moved or self._seen_nodes is None:
            self._registrations_moved = False
            changed |= await self._compare_registrations()
        checks = self._checks or frozenset()
        changed |= _services_of(checks ^ self._seen_checks, self._seen_nodes or {})
        self._seen_checks = checks
        return frozenset(changed)

    async def _compare_registrations(self) -> set[str]:
        before, now = self._seen_nodes or {}, await self._read_nodes()
        self._seen_nodes = now
        return {
            service.name
            for node in before.keys() | now.keys()
            if before.get(node) != now.get(node)
            for service in _difference(before.get(node), now.get(node))
        }

    async def _read_nodes(self) -> Mapping[str, Node]:
        """What is registered on each node; tried until it could be read. Only the last try makes up the rest."""
        while True:
            began = time.monotonic()
            queue, found = list(self._nodes or ()), dict[str, Node]()
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(_CONCURRENCY, len(queue))):
                        group.create_task(self._read_some(queue, found))
            except* WorldError as failures:
                self._state.fail(self._part("registrations"), str(failures.exceptions[0]))
            else:
                self._state.succeed(self._part("registrations"))
                self._rest = time.monotonic() - began
                return found
            await asyncio.sleep(_RETRY)

    async def _read_some(self, queue: list[NodeEntry], found: dict[str, Node]) -> None:
        while queue:
            node = queue.pop()
            found[node.node] = node, frozenset(await self._client.node_services(node.node, self._scope))

    async def _watch(
        self, what: str, ask: Callable[[Scope, Blocking], Awaitable[A]], take: Callable[[A], None]
    ) -> None:
        """Takes each answer, and wakes up whoever compares; also when it ends."""

        async def query(index: int, wait: float) -> A:
            return await ask(self._scope, Blocking(index, wait))

        report = self._state.reporter(self._part(what))
        try:
            async with aclosing(watch_index(query, lambda: self._wait, report, Pace(*_PACE))) as answers:
                async for seen in answers:
                    take(seen.answer)
                    self._wake.set()
        finally:
            self._wake.set()

    def _take_checks(self, answer: ChecksAnswer) -> None:
        self._checks = answer.checks

    def _take_nodes(self, answer: NodesAnswer) -> None:
        self._nodes = answer.nodes
        self._registrations_moved = True

    def _take_names(self, _: NamesAnswer) -> None:
        self._registrations_moved = True


def _services_of(checks: frozenset[Check], nodes: Mapping[str, Node]) -> set[str]:
    """The services that these checks belong to: for a check of a node, all that are on it."""
    changed = {check.service for check in checks if check.service}
    for check in checks:
        if not check.service and check.node in nodes:
            changed |= {service.name for service in nodes[check.node][1]}
    return changed


def _difference(before: Node | None, now: Node | None) -> frozenset[Registered]:
    """Services that came, went or changed; all of a node that itself is another one."""
    if before is None or now is None:
        return (before or now or (None, frozenset[Registered]()))[1]
    return now[1] | before[1] if before[0].address != now[0].address else before[1] ^ now[1]
