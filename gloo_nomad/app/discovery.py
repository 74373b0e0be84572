"""The discovery role: what Consul knows becomes Upstream objects in Consul KV."""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

import structlog

from gloo_nomad.api import codec
from gloo_nomad.api.kinds import UPSTREAM
from gloo_nomad.app.consul_settings import blocking_wait
from gloo_nomad.app.engine import Engine
from gloo_nomad.clients.consul import ConsulClient
from gloo_nomad.clients.consul_cas import Write, txn_cas
from gloo_nomad.clients.http import WorldError
from gloo_nomad.discovery.upstreams import FoundService, Plan, plan_upstreams
from gloo_nomad.settings import RuntimeSettings
from gloo_nomad.sources.consul_catalog import ConsulCatalog, Names
from gloo_nomad.sources.source import SourceState
from gloo_nomad.store.leader import Leader

log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0


def is_enabled(settings: RuntimeSettings) -> bool:
    """Whether Upstreams are to be written: service discovery is on, and UDS is not switched off."""
    uds = settings.message.discovery.uds_options
    return settings.discovers_services and not (uds.HasField("enabled") and not uds.enabled.value)


@dataclass(slots=True)
class Discovery:
    """What was found, and what follows from it. ``found`` is None until the catalog was read once."""

    engine: Engine
    client: ConsulClient
    leader: Leader
    states: list[SourceState] = field(default_factory=list)
    """How the catalog is read, while it is."""
    found: dict[str, FoundService] | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    rounds: asyncio.Event = field(init=False)
    catalog_rounds: asyncio.Event = field(init=False)

    def __post_init__(self) -> None:
        self.rounds, self.catalog_rounds = self.engine.listener(), self.engine.listener()

    def take(self, found: dict[str, FoundService] | None) -> None:
        """The catalog as it is now; None when nobody watches it any more."""
        self.found = found
        self.changed.set()

    async def run(self) -> None:
        """Writes for ever what differs, as long as this process is the leader."""
        await self.engine.sources_listed.wait()
        self.changed.set()
        while True:
            await self._wait()
            await self.leader.held.wait()
            if self.found is None or not is_enabled(self.engine.settings):
                continue
            try:
                await self._write(self._plan())
            except WorldError as failure:
                log.warning("upstreams_not_written", reason=str(failure))
                await asyncio.sleep(RETRY_SECONDS)
                self.changed.set()

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

    def _plan(self) -> Plan:
        settings = self.engine.settings
        stored = self.engine.store.entries(UPSTREAM.name)
        return plan_upstreams(self.found or {}, stored, settings.message, settings.write_namespace)

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
        outcomes = await txn_cas(self.client, writes)
        for ref, version in plan.deletes.items():
            with suppress(ValueError):  # a key that no client of ours can name
                await self.client.kv_delete(UPSTREAM.key(root, ref), cas=version)
        written = sum(1 for outcome in outcomes.values() if outcome.index)
        log.info("upstreams_written", written=written, deleted=len(plan.deletes))


async def watch_catalog(discovery: Discovery) -> None:
    """Follows Consul's catalog while discovery is enabled, and forgets it when it is not; for ever."""
    rounds = discovery.catalog_rounds
    while True:
        scope = _scope(discovery.engine.settings)
        watching = None
        if scope is not None:
            watching = asyncio.create_task(_follow(discovery, scope), name="catalog names")
        try:
            while _scope(discovery.engine.settings) == scope:
                await _either(rounds, watching)
        finally:
            if watching is not None:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
        discovery.take(None)


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


def _scope(settings: RuntimeSettings) -> tuple[str, ...] | None:
    """The datacenters to look at (none given: all of them); None while discovery is off."""
    if not is_enabled(settings):
        return None
    return tuple(sorted(set(settings.message.consul.service_discovery.data_centers)))


async def _follow(discovery: Discovery, datacenters: tuple[str, ...]) -> None:
    catalog = ConsulCatalog(discovery.client, datacenters, wait=blocking_wait(discovery.engine.settings))
    discovery.states[:] = [catalog.state]
    try:
        async with aclosing(catalog.watch_names()) as answers:
            async for by_datacenter in answers:
                discovery.take(merge_datacenters(by_datacenter))
    finally:
        discovery.states.clear()


def merge_datacenters(by_datacenter: Mapping[str, Names]) -> dict[str, FoundService]:
    """Each service once, with its tags and datacenters united."""
    tags: dict[str, set[str]] = {}
    where: dict[str, set[str]] = {}
    for datacenter, names in by_datacenter.items():
        for name, found in names.items():
            tags.setdefault(name, set()).update(found)
            where.setdefault(name, set()).add(datacenter)
    return {name: FoundService(name, frozenset(tags[name]), frozenset(where[name])) for name in sorted(tags)}
