"""The discovery role: what Consul and Nomad know becomes Upstream objects in Consul KV."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from gloo_nomad.api import codec
from gloo_nomad.api.kinds import UPSTREAM
from gloo_nomad.api.refs import Ref
from gloo_nomad.app.engine import Engine
from gloo_nomad.clients.consul import ConsulClient
from gloo_nomad.clients.consul_cas import Write, txn_cas
from gloo_nomad.clients.http import WorldError
from gloo_nomad.discovery.upstreams import Plan
from gloo_nomad.settings import RuntimeSettings
from gloo_nomad.sources.source import SourceState
from gloo_nomad.store.change import Entry
from gloo_nomad.store.leader import Leader

log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0

Scope = tuple[str, ...]
Planner = Callable[[Mapping[Ref, Entry], RuntimeSettings], Plan]
"""What follows from the names that were read, from what is stored and from the settings."""


class Catalog(Protocol):
    """Where names of services are read."""

    name: str

    def scope(self, settings: RuntimeSettings) -> Scope | None:
        """Which of them (none given: all); None while nothing is to be written for them."""

    def open(self, scope: Scope, settings: RuntimeSettings) -> tuple[SourceState, AsyncGenerator[Planner, None]]:
        """Follows them: a planner for the names as they are now, again whenever they are different."""


def writes_upstreams(settings: RuntimeSettings) -> bool:
    """Whether Upstreams are to be written: UDS is not switched off."""
    uds = settings.message.discovery.uds_options
    return not (uds.HasField("enabled") and not uds.enabled.value)


@dataclass(slots=True)
class Discovery:
    """What was found, and what follows from it."""

    engine: Engine
    client: ConsulClient
    leader: Leader
    states: list[SourceState] = field(default_factory=list)
    """How the catalogs are read, while they are."""
    planners: dict[Catalog, Planner] = field(default_factory=dict)
    """Of each catalog that was read once."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    rounds: asyncio.Event = field(init=False)

    def __post_init__(self) -> None:
        self.rounds = self.engine.listener()

    def take(self, catalog: Catalog, planner: Planner | None) -> None:
        """A catalog as it is now; None when nobody watches it any more."""
        if planner is None:
            self.planners.pop(catalog, None)
        else:
            self.planners[catalog] = planner
        self.changed.set()

    async def run(self) -> None:
        """Writes for ever what differs, as long as this process is the leader."""
        await self.engine.config_listed.wait()
        self.changed.set()
        while True:
            await self._wait()
            await self.leader.held.wait()
            try:
                await self._write_all()
            except WorldError as failure:
                log.warning("upstreams_not_written", reason=str(failure))
                await asyncio.sleep(RETRY_SECONDS)
                self.changed.set()

    async def _write_all(self) -> None:
        settings = self.engine.settings
        for catalog, planner in list(self.planners.items()):
            if catalog.scope(settings) is not None:
                await self._write(planner(self.engine.store.entries(UPSTREAM.name), settings))

    async def _wait(self) -> None:
        """Until the catalog or the stored objects are different."""
        waits = {asyncio.create_task(event.wait()) for event in (self.rounds, self.changed)}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        self.rounds.clear()
        self.changed.clear()

    async def _write(self, plan: Plan) -> None:
        if not plan.puts and not plan.deletes:
            return
        root = self.engine.settings.root_key
        stored = self.engine.store.entries(UPSTREAM.name)
        writes = []
        for ref, (upstream, version) in plan.puts.items():
            entry = stored.get(ref)
            document = codec.encode(upstream, entry.status if entry else None, kind=UPSTREAM)
            writes.append(Write(UPSTREAM.key(root, ref), codec.to_yaml(document).encode(), version))
        deletes = [Write(UPSTREAM.key(root, ref), None, version) for ref, version in plan.deletes.items()]
        outcomes = await txn_cas(self.client, [*writes, *deletes], self.leader.fence())
        gone = {delete.key for delete in deletes}
        done = [key for key, outcome in outcomes.items() if outcome.index]
        log.info(
            "upstreams_written", written=len([key for key in done if key not in gone]), deleted=len(gone & {*done})
        )


async def watch_catalog(discovery: Discovery, catalog: Catalog) -> None:
    """Follows a catalog while that is asked for, and forgets it when it is not; for ever."""
    rounds = discovery.engine.listener()
    while True:
        scope = catalog.scope(discovery.engine.settings)
        watching = None
        if scope is not None:
            watching = asyncio.create_task(_follow(discovery, catalog, scope), name=f"{catalog.name} names")
        try:
            while catalog.scope(discovery.engine.settings) == scope:
                await _either(rounds, watching)
        finally:
            if watching is not None:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
        discovery.take(catalog, None)


async def _either(rounds: asyncio.Event, watching: asyncio.Task[None] | None) -> None:
    """Until the next round; a defect that ends the watching ends this too."""
    wait = asyncio.create_task(rounds.wait())
    try:
        await asyncio.wait({wait, *((watching,) if watching else ())}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        wait.cancel()
    if watching is not None and watching.done():
        watching.result()
    rounds.clear()


async def _follow(discovery: Discovery, catalog: Catalog, scope: Scope) -> None:
    state, planners = catalog.open(scope, discovery.engine.settings)
    discovery.states.append(state)
    try:
        async with aclosing(planners):
            async for planner in planners:
                discovery.take(catalog, planner)
    finally:
        discovery.states.remove(state)
