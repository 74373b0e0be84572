"""Runs the sources that the settings ask for, and starts them anew when the settings ask for others.

Configuration, secrets and services are exchanged apart from each other: to switch service discovery on is no reason to
read the objects again. What was read stays in service meanwhile: the new sources say what is different.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog

from gloo_nomad.api.kinds import ARTIFACT, CONFIG_KINDS, PROXY, SECRET, SETTINGS, Kind
from gloo_nomad.api.refs import Ref
from gloo_nomad.app.consul_settings import blocking_wait, dns_interval
from gloo_nomad.app.data_loss import was_emptied
from gloo_nomad.app.engine import Engine, Services
from gloo_nomad.app.kv_cutting import cutting_for
from gloo_nomad.app.secret_sources import (
    all_listed,
    certificate_problems,
    follow_requests,
    open_secret_sources,
    secrets_key,
)
from gloo_nomad.app.service_watch import ServiceWatch
from gloo_nomad.app.surviving import keep_running
from gloo_nomad.clients.consul import ConsulClient
from gloo_nomad.settings import RuntimeSettings, SettingsError
from gloo_nomad.sources.consul_kv import ConsulKvSource
from gloo_nomad.sources.directory import DirectorySource
from gloo_nomad.sources.source import Source, SourceState
from gloo_nomad.store.change import Change, Entry

log = structlog.get_logger(__name__)

RETRY_SECONDS: Final = 5.0
ALL_KINDS: Final = (*CONFIG_KINDS, SETTINGS)
_CONFIG: Final = "configuration"
_SECRETS: Final = "secrets"
_ARTIFACTS: Final = "artifacts"
KEPT_SECONDS: Final = 2.0
"""How long sources may take to list before what was kept on disk is served in place of what they have."""
_PARTS: Final = {
    _CONFIG: frozenset(kind.name for kind in (*ALL_KINDS, PROXY)),
    _SECRETS: frozenset({SECRET.name}),
    _ARTIFACTS: frozenset({ARTIFACT.name}),
}
"""The kinds that each part is about."""

Key = tuple[Any, ...]


@dataclass(slots=True)
class Sources:
    """The running sources of one process. ``kinds`` says what a configuration source is read for."""

    engine: Engine
    consul: ConsulClient | None
    kinds: Sequence[Kind] = ALL_KINDS
    with_secrets: bool = True
    watches: Sequence[ServiceWatch] = ()
    """Of services."""
    other_states: list[SourceState] = field(default_factory=list)
    """Of sources that run elsewhere, such as the catalog that discovery follows."""
    kept: set[tuple[str, str]] = field(default_factory=set)
    """Sources and kinds whose objects were kept on disk and were not listed since."""
    kept_parts: frozenset[str] = frozenset()
    """What may be served as it was kept."""
    serving_states: list[SourceState] = field(default_factory=list)
    """Of what serving needs; without it this process is not ready."""
    _states: dict[str, list[SourceState]] = field(default_factory=dict)
    _running: dict[str, Key] = field(default_factory=dict)
    """What the sources of a part were built from."""
    _sent: set[tuple[str, str]] = field(default_factory=set)
    """Sources and kinds of which something is in the store."""

    @property
    def states(self) -> list[SourceState]:
        """How the sources of configuration and secrets are."""
        return [state for states in self._states.values() for state in states]

    @property
    def service_states(self) -> list[SourceState]:
        """How those of services are: watched once routes want them, they list later and do not hold a translation."""
        return [state for watch in self.watches for state in watch.states]

    def take_kept(self, kept: Iterable[tuple[str, str]], *, objects: bool) -> None:
        """Of these sources and kinds the store has what was kept on disk; to be called before ``run``.

        *Objects* are served without the secrets and artifacts that could not be kept, but not the other way round.
        """
        known = frozenset().union(*_PARTS.values())
        self.kept.update(key for key in kept if key[1] in known)
        self._sent |= self.kept
        self.kept_parts |= frozenset(_PARTS if objects else {_SECRETS})

    def want(self, services: Services) -> Services:
        """Endpoints of these services are needed from now on; the answer is which of them are watched."""
        return frozenset().union(*(watch.want(services) for watch in self.watches))

    async def run(self) -> None:
        """Reads for ever."""
        for part in _PARTS if self.with_secrets else (_CONFIG,):
            self._states[part] = [SourceState(part, {part})]
        self.engine.reporters.append(partial(certificate_problems, self.engine))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(_CONFIG, _config_key, self._read_config), name="configuration")
            if self.with_secrets:
                tasks.create_task(self._follow(_SECRETS, secrets_key, self._read_secrets), name="secrets")
                tasks.create_task(self._follow(_ARTIFACTS, _artifacts_key, self._read_artifacts), name="artifacts")
            for watch in self.watches:
                name, key = watch.provider.name, partial(_service_key, watch)
                tasks.create_task(self._follow(name, key, watch.run), name=name)
            tasks.create_task(self._open_gate(), name="sources listed")
            tasks.create_task(self._open_config_gate(), name="configuration listed")
            if self.kept_parts:
                tasks.create_task(self._serve_kept(), name="serve what was kept")

    async def _follow(
        self,
        part: str,
        key_of: Callable[[RuntimeSettings], Key],
        read: Callable[[RuntimeSettings], Coroutine[Any, Any, None]],
    ) -> None:
        """Runs *read* for ever, anew whenever the part of the settings that it is built from changes."""
        live = self.engine.live
        while True:
            settings = live.settings
            key = self._running[part] = key_of(settings)
            reading = asyncio.create_task(keep_running(part, partial(read, settings)), name=f"read {part}")
            try:
                while key_of(live.settings) == key:
                    live.changed.clear()
                    await live.changed.wait()
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
            log.info("sources_restart", part=part)

    async def _read_config(self, settings: RuntimeSettings) -> None:
        namespaces, consul = settings.watch_namespaces, self.consul
        kinds = (*self.kinds, PROXY) if self._reads_proxies(settings) else self.kinds
        if PROXY not in kinds:
            await self._forget(PROXY)
        if settings.config_directory:
            folder = Path(settings.config_directory)
            await self._pump_all(_CONFIG, [DirectorySource(folder, kinds, namespaces, root_key=settings.root_key)])
        elif consul is not None:
            wait, cutting = blocking_wait(settings), cutting_for(len(kinds), self.watches)
            while True:  # anew after Consul has lost its data
                source = ConsulKvSource(consul, settings.root_key, kinds, namespaces, wait=wait, cutting=cutting)
                await self._pump_all(_CONFIG, [source])

    def _reads_proxies(self, settings: RuntimeSettings) -> bool:
        return self.with_secrets and not settings.translates_gateways

    async def _forget(self, kind: Kind) -> None:
        """Of a kind that is not read any more."""
        for name, sent in sorted(self._sent):
            if sent == kind.name:
                await self._take_away(name, sent)

    async def _take_away(self, source: str, kind: str) -> None:
        await self.engine.changes.put(Change(source, kind, complete=True))
        self._sent.discard((source, kind))
        self.kept.discard((source, kind))

    async def _read_artifacts(self, settings: RuntimeSettings) -> None:
        message, consul = settings.message, self.consul
        if message.WhichOneof("artifact_source") == "consul_kv_artifact_source" and consul is not None:
            root, wait = message.consul_kv_artifact_source.root_key or settings.root_key, blocking_wait(settings)
            while True:  # anew after Consul has lost its data
                await self._pump_all(
                    _ARTIFACTS, [ConsulKvSource(consul, root, (ARTIFACT,), settings.watch_namespaces, wait=wait)]
                )
        folder = message.directory_artifact_source.directory
        source = DirectorySource(Path(folder), (ARTIFACT,), settings.watch_namespaces, name="artifacts")
        await self._pump_all(_ARTIFACTS, [source] if folder else [])

    async def _read_secrets(self, settings: RuntimeSettings) -> None:
        async with AsyncExitStack() as stack:
            while True:
                try:
                    opened = open_secret_sources(settings, self.engine, stack, self._kept_secrets)
                except SettingsError as failure:  # a file of its TLS settings went away
                    log.warning("secrets_unreadable", reason=str(failure))
                    await asyncio.sleep(RETRY_SECONDS)
                else:
                    break
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump_all(_SECRETS, opened.all), name="stored secrets")
                tasks.create_task(follow_requests(self.engine, opened), name="wanted certificates")

    async def _pump_all(self, part: str, sources: list[Source]) -> None:
        """Hands over what these sources say; what earlier ones said and none of these is forgotten once all listed.

        Returns when everything is to be read anew, whether all was listed or not; without sources, at once.
        """
        self._states[part] = [source.state for source in sources]
        async with asyncio.TaskGroup() as tasks:
            others = tasks.create_task(self._forget_others(part, sources), name=f"others {part}")
            pumps = [tasks.create_task(self._pump(source), name=f"source {source.name}") for source in sources]
            if pumps:
                await asyncio.wait(pumps)
                others.cancel()

    async def _forget_others(self, part: str, sources: list[Source]) -> None:
        names = {source.name for source in sources}
        await all_listed(lambda: self._states[part])
        for name, kind in sorted(self._sent):
            if kind in _PARTS[part] and name not in names:
                await self._take_away(name, kind)

    async def _pump(self, source: Source) -> None:
        """Hands over what a source of configuration or secrets says; returns when everything is to be read anew."""
        engine, root = self.engine, self.engine.base.root_key
        async with aclosing(source.watch_changes()) as changes:  # type: ignore[type-var]  # async generators in practice
            async for change in changes:
                kv = self.consul if isinstance(source, ConsulKvSource) else None
                if kv is not None and await was_emptied(kv, root, change, engine.store.entries, source.state):
                    return
                await engine.changes.put(change)
                self._sent.add((source.name, change.kind))
                self.kept.discard((source.name, change.kind))

    def _kept_secrets(self, source: str) -> Mapping[Ref, Entry]:
        """Secrets of a source that were kept on disk and not read since."""
        return self.engine.store.sources(SECRET.name)[source] if (source, SECRET.name) in self.kept else {}

    async def _open_gate(self) -> None:
        """Lets the engine begin when everything was read once, with the settings that were among it."""
        while not self.engine.sources_listed.is_set():
            await all_listed(lambda: self.states)
            await self.engine.changes.join()
            if self._is_current() and all(state.listed for state in self.states):
                await self.engine.begin()

    async def _open_config_gate(self) -> None:
        await all_listed(lambda: self._states[_CONFIG])
        await self.engine.changes.join()
        self.engine.config_listed.set()

    async def _serve_kept(self) -> None:
        """Lets the engine begin with what was kept on disk in place of what sources do not say in time."""
        await asyncio.sleep(KEPT_SECONDS)
        await all_listed(
            lambda: [state for part, states in self._states.items() if part not in self.kept_parts for state in states]
        )
        await self.engine.changes.join()
        await self.engine.begin(listed=False)

    def _is_current(self) -> bool:
        settings = self.engine.settings
        keys = {
            _CONFIG: _config_key(settings),
            _SECRETS: secrets_key(settings),
            _ARTIFACTS: _artifacts_key(settings),
        }
        return all(self._running[part] == keys[part] for part in self._running if part in keys)


def _config_key(settings: RuntimeSettings) -> Key:
    return (
        settings.config_directory,
        settings.root_key,
        settings.watch_namespaces,
        settings.translates_gateways,
        blocking_wait(settings),
    )


def _artifacts_key(settings: RuntimeSettings) -> Key:
    message = settings.message
    return (
        settings.root_key,
        settings.watch_namespaces,
        message.WhichOneof("artifact_source"),
        message.consul_kv_artifact_source.root_key,
        message.directory_artifact_source.directory,
        blocking_wait(settings),
    )


def _service_key(watch: ServiceWatch, settings: RuntimeSettings) -> Key:
    consul = settings.message.consul
    return watch.provider.key(settings), consul.dns_address, dns_interval(settings)
