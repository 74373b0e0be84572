"""Runs the sources that the settings ask for, and starts them anew when the settings ask for others.

Configuration, secrets and services are exchanged apart from each other: to switch service discovery on is no reason to
read the objects again. What was read stays in service meanwhile: the new sources say what is different.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog

from gloo_nomad.api.kinds import ARTIFACT, CONFIG_KINDS, PROXY, SECRET, SETTINGS, Kind
from gloo_nomad.app.clients import vault_client
from gloo_nomad.app.consul_settings import blocking_wait, dns_interval
from gloo_nomad.app.data_loss import was_emptied
from gloo_nomad.app.engine import Engine, Services
from gloo_nomad.app.service_watch import ServiceWatch
from gloo_nomad.app.surviving import keep_running
from gloo_nomad.clients.consul import ConsulClient
from gloo_nomad.clients.vault import VaultClient
from gloo_nomad.settings import RuntimeSettings, SettingsError
from gloo_nomad.sources.consul_kv import ConsulKvSource
from gloo_nomad.sources.directory import DirectorySource
from gloo_nomad.sources.source import Source, SourceState
from gloo_nomad.sources.vault_secrets import VaultPlace, VaultSecretsSource
from gloo_nomad.store.change import Change

log = structlog.get_logger(__name__)

GATE_SECONDS: Final = 0.01
RETRY_SECONDS: Final = 5.0
ALL_KINDS: Final = (*CONFIG_KINDS, SETTINGS)
_CONFIG: Final = "configuration"
_SECRETS: Final = "secrets"
_ARTIFACTS: Final = "artifacts"
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

    def want(self, services: Services) -> Services:
        """Endpoints of these services are needed from now on; the answer is which of them are watched."""
        return frozenset().union(*(watch.want(services) for watch in self.watches))

    async def run(self) -> None:
        """Reads for ever."""
        for part in _PARTS if self.with_secrets else (_CONFIG,):
            self._states[part] = [SourceState(part, {part})]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(_CONFIG, _config_key, self._read_config), name="configuration")
            if self.with_secrets:
                tasks.create_task(self._follow(_SECRETS, _secrets_key, self._read_secrets), name="secrets")
                tasks.create_task(self._follow(_ARTIFACTS, _artifacts_key, self._read_artifacts), name="artifacts")
            for watch in self.watches:
                name, key = watch.provider.name, partial(_service_key, watch)
                tasks.create_task(self._follow(name, key, watch.run), name=name)
            tasks.create_task(self._open_gate(), name="sources listed")

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
            while True:  # anew after Consul has lost its data
                source = ConsulKvSource(consul, settings.root_key, kinds, namespaces, wait=blocking_wait(settings))
                await self._pump_all(_CONFIG, [source])

    def _reads_proxies(self, settings: RuntimeSettings) -> bool:
        return self.with_secrets and not settings.translates_gateways

    async def _forget(self, kind: Kind) -> None:
        """Of a kind that is not read any more."""
        for name, sent in sorted(self._sent):
            if sent == kind.name:
                await self.engine.changes.put(Change(name, sent, complete=True))
                self._sent.discard((name, sent))

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

            def open_vault(vault: Any) -> VaultClient:
                client = vault_client(vault, settings)
                stack.push_async_callback(client.close)
                return client

            while True:
                try:
                    sources = list(_secret_sources(settings, open_vault))
                except SettingsError as failure:  # a file of its TLS settings went away
                    log.warning("secrets_unreadable", reason=str(failure))
                    await asyncio.sleep(RETRY_SECONDS)
                else:
                    break
            await self._pump_all(_SECRETS, sources)

    async def _pump_all(self, part: str, sources: list[Source]) -> None:
        """Hands over what these sources say; what earlier ones said and none of these is forgotten at the end."""
        self._states[part] = [source.state for source in sources]
        async with asyncio.TaskGroup() as tasks:
            for source in sources:
                tasks.create_task(self._pump(source), name=f"source {source.name}")
            tasks.create_task(self._forget_others(part, sources), name=f"others {part}")

    async def _forget_others(self, part: str, sources: list[Source]) -> None:
        names = {source.name for source in sources}
        await _all_listed(lambda: self._states[part])
        for name, kind in sorted(self._sent):
            if kind in _PARTS[part] and name not in names:
                await self.engine.changes.put(Change(name, kind, complete=True))
                self._sent.discard((name, kind))

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

    async def _open_gate(self) -> None:
        """Lets the engine begin when everything was read once, with the settings that were among it."""
        while not self.engine.sources_listed.is_set():
            await _all_listed(lambda: self.states)
            await self.engine.changes.join()
            if self._is_current() and all(state.listed for state in self.states):
                await self.engine.begin()

    def _is_current(self) -> bool:
        settings = self.engine.settings
        keys = {
            _CONFIG: _config_key(settings),
            _SECRETS: _secrets_key(settings),
            _ARTIFACTS: _artifacts_key(settings),
        }
        return all(self._running[part] == keys[part] for part in self._running if part in keys)


async def _all_listed(states: Callable[[], Iterable[SourceState]]) -> None:
    """Returns when each of these was read once; only at the beginning, so a short look now and then will do."""
    await asyncio.sleep(GATE_SECONDS)
    while not all(state.listed for state in states()):  # noqa: ASYNC110  # states are read, nothing to wait for
        await asyncio.sleep(GATE_SECONDS)


def _config_key(settings: RuntimeSettings) -> Key:
    return (
        settings.config_directory,
        settings.root_key,
        settings.watch_namespaces,
        settings.translates_gateways,
        blocking_wait(settings),
    )


def _secrets_key(settings: RuntimeSettings) -> Key:
    message = settings.message
    return (
        settings.watch_namespaces,
        message.WhichOneof("secret_source"),
        message.secret_options.SerializeToString(deterministic=True),
        message.vault_secret_source.SerializeToString(deterministic=True),
        message.directory_secret_source.SerializeToString(deterministic=True),
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


def _secret_sources(settings: RuntimeSettings, open_vault: Callable[[Any], VaultClient]) -> Iterable[Source]:
    """Where secrets come from: ``secretOptions`` if it names sources, else ``secretSource``."""
    message = settings.message
    if message.secret_options.sources:
        for number, source in enumerate(message.secret_options.sources):
            if source.HasField("directory"):
                folder = Path(source.directory.directory)
                yield DirectorySource(folder, (SECRET,), settings.watch_namespaces, bare=True, name=f"secrets-{number}")
            elif source.HasField("vault"):
                yield _vault_source(source.vault, open_vault(source.vault), settings, f"vault-{number}")
    elif message.WhichOneof("secret_source") == "directory_secret_source":
        folder = Path(message.directory_secret_source.directory)
        yield DirectorySource(folder, (SECRET,), settings.watch_namespaces, name="secrets")
    elif message.WhichOneof("secret_source") == "vault_secret_source":
        vault = message.vault_secret_source
        yield _vault_source(vault, open_vault(vault), settings, "vault")


def _vault_source(vault: Any, client: VaultClient, settings: RuntimeSettings, name: str) -> VaultSecretsSource:
    place = VaultPlace(vault.path_prefix or "secret", vault.root_key or "gloo")
    return VaultSecretsSource(client, place, settings.watch_namespaces, name=name)
