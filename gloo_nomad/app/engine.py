"""The engine: changes in, Envoy resources out. It owns the store and the pipeline, and decides when to run them.

Configuration takes the long way, in a worker thread, in batches. Endpoints take a short way of their own and never wait
for a translation. Nothing is published before every source has listed once, or what was kept on disk stands in for
those that do not answer: an empty beginning is not a configuration.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import structlog

from gloo_nomad.api.kinds import SETTINGS
from gloo_nomad.api.refs import Ref
from gloo_nomad.app import memory
from gloo_nomad.app.coalesce import batches, merged
from gloo_nomad.app.live_settings import LiveSettings
from gloo_nomad.envoy.clusters import ClusterSet
from gloo_nomad.envoy.endpoints import endpoint_problems, translate_endpoints
from gloo_nomad.pipeline import Pipeline, Translation
from gloo_nomad.reports import Problem, Problems
from gloo_nomad.resources import ENDPOINTS, Resources, XdsSnapshot
from gloo_nomad.settings import RuntimeSettings
from gloo_nomad.store.change import Change
from gloo_nomad.store.memo import Memo
from gloo_nomad.store.mesh import MESH_IDENTITY, MESH_SERVICE
from gloo_nomad.store.services import CONSUL_SERVICE, NOMAD_SERVICE
from gloo_nomad.store.store import Store

log = structlog.get_logger(__name__)

FIRST_ENDPOINTS_SECONDS: Final = 5.0
"""How long the very first publication waits for the endpoints of reachable services, unless the Settings say it."""
NEW_ENDPOINTS_SECONDS: Final = 1.0
"""How long a later one waits for those of services that no route could reach before."""
REST_SECONDS: Final = (0.01, 0.25)
"""Rest for each service that was heard of for the first time, and at most: each publication looks at every cluster."""
SILENCE_SECONDS: Final = 2.0
"""Where no service was heard of for so long, those that are missing are not to be expected soon."""
MOST_SILENCES: Final = 60
"""How often that long is waited for the first ones."""

MOST_ROUNDS: Final = 3
"""How often one publication is translated at most; a change meanwhile is another publication."""
MANY_OBJECTS: Final = 500
"""Reading so many leaves much free memory behind, all at once or one after the other, as when statuses are written."""

Services = frozenset[tuple[str, Ref]]


@dataclass(slots=True)
class Outputs:
    """Where results go; each may be left out. ``want_services`` answers which of them are watched at all."""

    publish: Callable[[Mapping[str, XdsSnapshot]], None] = lambda _snapshots: None
    publish_endpoints: Callable[[Mapping[str, XdsSnapshot]], None] = lambda _snapshots: None
    want_services: Callable[[Services], Services] = lambda _services: frozenset()
    translated: Callable[[float, Translation], None] = lambda _seconds, _translation: None


@dataclass(slots=True)
class Engine:
    """One copy of the whole configuration, translated. All methods belong to the event loop."""

    base: RuntimeSettings
    translates: bool = True
    """False for a role that only needs the objects."""
    outputs: Outputs = field(default_factory=Outputs)
    store: Store = field(default_factory=Store)
    pipeline: Pipeline = field(default_factory=Pipeline)
    changes: asyncio.Queue[Change] = field(default_factory=lambda: asyncio.Queue(maxsize=10_000))
    services: asyncio.Queue[Change] = field(default_factory=lambda: asyncio.Queue(maxsize=10_000))
    sources_listed: asyncio.Event = field(default_factory=asyncio.Event)
    """Everything that the sources have was read once, and is in the store."""
    config_listed: asyncio.Event = field(default_factory=asyncio.Event)
    """So were the objects of the configuration; secrets may be missing, or be those that were kept on disk."""
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    """What is in the store is to be served."""
    kept_services: dict[tuple[str, Ref], str] = field(default_factory=dict)
    """Services (kind, name) whose instances were kept on disk and were not read since, with their sources."""
    published: asyncio.Event = field(default_factory=asyncio.Event)
    translation: Translation | None = None
    failure: str = ""
    """The defect that kept the last round from being served; empty if none did."""
    failing_since: float = 0.0
    reporters: list[Callable[[], Problems]] = field(default_factory=list)
    """Who else knows problems of objects, such as what Envoys reject."""
    live: LiveSettings = field(init=False)
    _endpoint_memo: Memo = field(default_factory=Memo)
    _seen_endpoints: tuple[tuple[object, ...], Problems] | None = None
    _listeners: list[asyncio.Event] = field(default_factory=list)
    _services_changed: asyncio.Event = field(default_factory=asyncio.Event)
    _awaited: Services = frozenset()
    """Services whose endpoints some publication waited for already."""
    _round_awaiting: list[asyncio.Event] = field(default_factory=list)
    """Of whoever waits for the next round."""
    _silent: set[tuple[str, Ref]] = field(default_factory=set)
    """Those of them that were not heard of yet."""
    _waiting: set[tuple[str, Ref]] = field(default_factory=set)
    """The same of those that the next publication waits for."""
    _read: int = 0
    """Objects that were read since free memory was given back."""
    _stale: bool = False
    """Whether something else than an object changed that translation reads."""

    def __post_init__(self) -> None:
        self.live = LiveSettings(self.base)

    @property
    def settings(self) -> RuntimeSettings:
        """The settings in force, the object of Consul KV laid on top."""
        return self.live.settings

    def listener(self) -> asyncio.Event:
        """An event that is set after each round; whoever waits for it clears it."""
        event = asyncio.Event()
        event.set()
        self._listeners.append(event)
        return event

    @contextmanager
    def listening(self) -> Iterator[asyncio.Event]:
        """The same for as long as the block lasts."""
        event = self.listener()
        try:
            yield event
        finally:
            self._listeners.remove(event)

    def wake(self) -> None:
        """Tells the listeners that problems or objects may be different."""
        for event in self._listeners:
            event.set()

    def problems(self) -> Problems:
        """Everything that is wrong with any object right now."""
        found: list[Problem] = [*self.store.problems(), *self.live.problems]
        if self.translation is not None:
            found.extend(self.translation.problems)
            found.extend(self._endpoint_problems(self.translation.clusters))
        for reporter in self.reporters:
            found.extend(reporter())
        return tuple(dict.fromkeys(found))

    def _endpoint_problems(self, clusters: ClusterSet) -> Problems:
        """What is wrong with instances; looked for again only if clusters or instances are others."""
        snapshot = self.store.snapshot
        seen = (clusters, *(snapshot.of(kind) for kind in (CONSUL_SERVICE, MESH_SERVICE, NOMAD_SERVICE)))
        if self._seen_endpoints is None or any(
            new is not old for new, old in zip(seen, self._seen_endpoints[0], strict=True)
        ):
            self._seen_endpoints = (seen, endpoint_problems(clusters, snapshot))
        return self._seen_endpoints[1]

    async def run(self) -> None:
        """Takes changes for ever."""
        if self.store.snapshot.collections and self.translates:
            with self._surviving("translation"):
                await self._prime()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._take_services(), name="engine-services")
            tasks.create_task(self._take_changes(), name="engine-changes")

    async def begin(self, *, listed: bool = True) -> None:
        """Says that what is in the store is to be served: because it is complete, or without *listed* for want of it.

        Without *listed* some of it is what was kept on disk.
        """
        if listed:
            self.sources_listed.set()
        if not self.begun.is_set():
            self.begun.set()
            await self.changes.put(Change("engine", "begin"))

    async def heard_of_services(self) -> None:
        """Returns when no more is to be expected of the services that are not known since the first publication."""
        await self.published.wait()
        missing = len(self._silent) + 1
        for _ in range(MOST_SILENCES):
            if not 0 < len(self._silent) < missing:
                return
            missing = len(self._silent)
            await asyncio.sleep(SILENCE_SECONDS)

    async def translate_again(self) -> None:
        """Returns when everything that is in the store now was translated and published."""
        done = asyncio.Event()
        self._round_awaiting.append(done)
        self._stale = True
        await self.changes.put(Change("engine", "again"))
        await done.wait()

    async def _prime(self) -> None:
        """Translates what was kept on disk, for nobody: then last good versions and wanted services are known."""
        translation = await asyncio.to_thread(self.pipeline.translate, self.store.snapshot, self.settings.message)
        self.outputs.want_services(translation.services)

    async def _take_changes(self) -> None:
        pending = False
        async for batch in batches(self.changes):
            awaiting, self._round_awaiting = self._round_awaiting, []
            for change in batch:
                with self._surviving("change"):
                    pending = self.store.apply(change) or pending
            with self._surviving("settings"):
                entry = self.store.entries(SETTINGS.name).get(self.base.ref)
                pending = self.live.take(entry.value if entry else None) or pending
            pending = pending or self._stale
            for _ in batch:
                self.changes.task_done()
            pending = pending or self.translation is None
            if pending and self.translates and self.begun.is_set():
                with self._surviving("translation"):
                    await self._translate()
                pending = False
            self.wake()
            for event in awaiting:
                event.set()
            self._read += sum(len(change.puts) for change in batch)
            if self._read >= MANY_OBJECTS:
                self._read = 0
                memory.trim()

    async def _translate(self) -> None:
        """Publishes what is in the store; what was waited for may have to be translated itself, such as who we are."""
        first = self.translation is None
        for _ in range(MOST_ROUNDS):
            self._stale = False
            started = time.perf_counter()
            settings = self.settings.message
            translation = await asyncio.to_thread(self.pipeline.translate, self.store.snapshot, settings)
            took = time.perf_counter() - started
            watched = self.outputs.want_services(translation.services)
            self._drop_unwanted(watched)
            await self._wait_for_endpoints(watched - self._awaited, self._patience(first=first))
            self._awaited, self._silent = watched, set(self._unknown(watched))
            if not self._stale:
                break
        self.translation = translation
        if first:
            memory.settle()
        self.outputs.publish(self._with_endpoints(translation))
        self.published.set()
        self.outputs.translated(took, translation)

    def _patience(self, *, first: bool) -> float:
        if not first:
            return NEW_ENDPOINTS_SECONDS
        gloo = self.settings.message.gloo
        if not gloo.HasField("endpoints_warming_timeout"):
            return FIRST_ENDPOINTS_SECONDS
        return gloo.endpoints_warming_timeout.seconds + gloo.endpoints_warming_timeout.nanos / 1e9

    async def _wait_for_endpoints(self, services: Services, seconds: float) -> None:
        """Holds a publication until these services are known, for a bounded time.

        A restarted ``gloo`` would otherwise tell running Envoys that there are no endpoints, and a route that moves to
        another service would have none for a moment.
        """
        self._waiting = missing = set(self._unknown(services))
        try:
            async with asyncio.timeout(seconds):
                while missing := self._waiting | self._kept(services):
                    self._services_changed.clear()
                    await self._services_changed.wait()
        except TimeoutError:
            names = sorted(str(ref) for _, ref in missing)
            log.warning("endpoints_late", waited_seconds=seconds, services=names[:20], count=len(names))
        self._waiting = set()

    def _kept(self, services: Services) -> Services:
        """Those that are known from the disk alone although the world answers."""
        return frozenset(self.kept_services.keys() & services) if self.sources_listed.is_set() else frozenset()

    def _drop_unwanted(self, watched: Services) -> None:
        """Forgets services that were kept on disk and that no route can reach any more."""
        for kind, ref in self.kept_services.keys() - watched:
            source = self.kept_services.pop((kind, ref))
            self.store.apply(Change(source, kind, deletes=frozenset({ref})))

    def _unknown(self, services: Services) -> Services:
        snapshot = self.store.snapshot
        return frozenset((kind, ref) for kind, ref in services if ref not in snapshot.of(kind))

    def _with_endpoints(self, translation: Translation) -> Mapping[str, XdsSnapshot]:
        endpoints = translate_endpoints(translation.clusters, self.store.snapshot, self._endpoint_memo)
        if self._silent:
            endpoints = _without_unknown(endpoints, translation.clusters, self._silent)
        return {role: snapshot.with_type(ENDPOINTS, endpoints) for role, snapshot in translation.xds.items()}

    async def _take_services(self) -> None:
        while True:
            changes = [await self.services.get()]
            began, unheard = time.monotonic(), len(self._silent) + len(self._waiting)
            while not self.services.empty():
                changes.append(self.services.get_nowait())
            changed = False
            for change in merged(changes):
                with self._surviving("endpoints"):
                    changed = self._take_service(change) or changed
            self._services_changed.set()
            if changed and self.translation is not None:
                with self._surviving("endpoints"):
                    self.outputs.publish_endpoints(self._with_endpoints(self.translation))
            heard = unheard - len(self._silent) - len(self._waiting)
            each, most = REST_SECONDS  # what comes meanwhile is one publication
            await asyncio.sleep(max(time.monotonic() - began, min(each * heard, most)))

    def _take_service(self, change: Change) -> bool:
        """Takes a change over; True if it concerns endpoints. What clusters are made of has to be translated anew."""
        changed = self.store.apply(change)
        for key in [key for key in self.kept_services if key[0] == change.kind and _tells_of(change, key[1])]:
            del self.kept_services[key]
        for missing in (self._silent, self._waiting):
            missing.difference_update((change.kind, ref) for ref in change.puts)
        if change.complete or change.deletes:
            self._silent = set(self._unknown(self._awaited))
        if changed and change.kind == MESH_IDENTITY:
            self._stale = True
            if self.changes.empty():
                self.changes.put_nowait(Change("engine", "identity"))
        return changed and change.kind != MESH_IDENTITY

    @contextmanager
    def _surviving(self, what: str) -> Iterator[None]:
        """A defect of this program must not take away what is served: it is told, and the next change is a new try."""
        try:
            yield
        except Exception as defect:
            log.exception("not_served", what=what)
            self.failing_since = self.failing_since if self.failure else time.time()
            self.failure = f"{what}: {type(defect).__name__}"
        else:
            self.failure = "" if self.failure.startswith(what) else self.failure


def _tells_of(change: Change, ref: Ref) -> bool:
    return change.complete or ref in change.puts or ref in change.deletes


def _without_unknown(endpoints: Resources, clusters: ClusterSet, unknown: set[tuple[str, Ref]]) -> Resources:
    """Without those of clusters none of whose services was answered for yet: not known is not the same as empty.

    A running Envoy keeps the endpoints that it has, a new one goes on without.
    """
    silent = {
        served.cluster
        for served in clusters.dynamic
        if served.services and served.services[0] in unknown and unknown.issuperset(served.services)
    }
    return MappingProxyType({name: resource for name, resource in endpoints.items() if name not in silent})
