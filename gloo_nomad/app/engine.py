"""The engine: changes in, Envoy resources out. It owns the store and the pipeline, and decides when to run them.

Configuration takes the long way, in a worker thread, in batches. Endpoints take a short way of their own and never wait
for a translation. Nothing is published before every source has listed once: an empty beginning is not a configuration.
"""

import asyncio
import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import structlog

from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.kinds import SETTINGS
from gloo_nomad.api.refs import Ref
from gloo_nomad.app.coalesce import batches
from gloo_nomad.envoy.endpoints import translate_endpoints
from gloo_nomad.pipeline import Pipeline, Translation
from gloo_nomad.reports import Problem, Problems
from gloo_nomad.resources import ENDPOINTS, XdsSnapshot
from gloo_nomad.settings import RuntimeSettings
from gloo_nomad.store.change import Change
from gloo_nomad.store.memo import Memo
from gloo_nomad.store.store import Store

log = structlog.get_logger(__name__)

FIRST_ENDPOINTS_TIMEOUT: Final = 5.0
"""Seconds that the very first publication waits for the endpoints of reachable services."""


@dataclass(slots=True)
class Outputs:
    """Where results go; each may be left out."""

    publish: Callable[[Mapping[str, XdsSnapshot]], None] = lambda _snapshots: None
    publish_endpoints: Callable[[Mapping[str, XdsSnapshot]], None] = lambda _snapshots: None
    want_services: Callable[[frozenset[tuple[str, Ref]]], None] = lambda _services: None
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
    settings_changed: asyncio.Event = field(default_factory=asyncio.Event)
    published: asyncio.Event = field(default_factory=asyncio.Event)
    translation: Translation | None = None
    extra_problems: dict[str, Problems] = field(default_factory=dict)
    """Problems from outside the pipeline (NACKs, settings), by where they come from."""
    _settings: RuntimeSettings | None = None
    _overlay: settings_pb2.Settings | None = None
    _endpoint_memo: Memo = field(default_factory=Memo)
    _listeners: list[asyncio.Event] = field(default_factory=list)

    @property
    def settings(self) -> RuntimeSettings:
        """The settings in force, the object of Consul KV laid on top."""
        return self._settings or self.base

    def listener(self) -> asyncio.Event:
        """An event that is set after each round; whoever waits for it clears it."""
        event = asyncio.Event()
        event.set()
        self._listeners.append(event)
        return event

    def wake(self) -> None:
        """Tells the listeners that problems or objects may be different."""
        for event in self._listeners:
            event.set()

    def problems(self) -> Problems:
        """Everything that is wrong with any object right now."""
        found: list[Problem] = list(self.store.problems())
        if self.translation is not None:
            found.extend(self.translation.problems)
        for problems in self.extra_problems.values():
            found.extend(problems)
        return tuple(dict.fromkeys(found))

    async def run(self) -> None:
        """Takes changes for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._take_services(), name="engine-services")
            tasks.create_task(self._take_changes(), name="engine-changes")
            tasks.create_task(self._begin(), name="engine-begin")

    async def _begin(self) -> None:
        await self.sources_listed.wait()
        await self.changes.put(Change("engine", "begin"))

    async def _take_changes(self) -> None:
        pending = False
        async for batch in batches(self.changes):
            for change in batch:
                pending = self.store.apply(change) or pending
            pending = self._refresh_settings() or pending or self.translation is None
            if pending and self.translates and self.sources_listed.is_set():
                await self._translate()
                pending = False
            self.wake()

    def _refresh_settings(self) -> bool:
        """Lays the Settings of Consul KV on top; True if that changed anything."""
        entry = self.store.entries(SETTINGS.name).get(self.base.ref)
        overlay = entry.value if entry is not None else None
        if overlay is self._overlay and self._settings is not None:
            return False
        self._overlay = overlay
        self._settings = self.base.overlaid(overlay)
        self.settings_changed.set()
        return True

    async def _translate(self) -> None:
        started = time.perf_counter()
        settings = self.settings.message
        translation = await asyncio.to_thread(self.pipeline.translate, self.store.snapshot, settings)
        first = self.translation is None
        self.translation = translation
        self.outputs.want_services(translation.services)
        if first:
            await self._wait_for_endpoints(translation)
            gc.collect()
            gc.freeze()
        self._publish()
        self.outputs.translated(time.perf_counter() - started, translation)

    async def _wait_for_endpoints(self, translation: Translation) -> None:
        """Holds the first publication until the reachable services are known, for a bounded time.

        A restarted ``gloo`` would otherwise tell running Envoys that there are no endpoints.
        """
        deadline = time.monotonic() + FIRST_ENDPOINTS_TIMEOUT
        while time.monotonic() < deadline:
            snapshot = self.store.snapshot
            if all(ref in snapshot.of(kind) for kind, ref in translation.services):
                return
            await asyncio.sleep(0.02)
        log.warning("endpoints_late", waited_seconds=FIRST_ENDPOINTS_TIMEOUT)

    def _publish(self) -> None:
        if self.translation is None:
            return
        self.outputs.publish(self._with_endpoints(self.translation))
        self.published.set()

    def _with_endpoints(self, translation: Translation) -> Mapping[str, XdsSnapshot]:
        endpoints = translate_endpoints(translation.clusters, self.store.snapshot, self._endpoint_memo)
        return {role: snapshot.with_type(ENDPOINTS, endpoints) for role, snapshot in translation.xds.items()}

    async def _take_services(self) -> None:
        while True:
            changed = self.store.apply(await self.services.get())
            while not self.services.empty():
                changed = self.store.apply(self.services.get_nowait()) or changed
            if changed and self.translation is not None and self.published.is_set():
                self.outputs.publish_endpoints(self._with_endpoints(self.translation))
