"""Runs the sources that the settings ask for, and starts them anew when the settings ask for others.

What was read stays in service while sources are exchanged: the new ones say what is different.
"""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from gloo_nomad.api.kinds import ARTIFACT, CONFIG_KINDS, SECRET, SETTINGS, Kind
from gloo_nomad.api.refs import Ref
from gloo_nomad.app.clients import vault_client
from gloo_nomad.app.engine import Engine
from gloo_nomad.clients.consul import ConsulClient
from gloo_nomad.settings import RuntimeSettings
from gloo_nomad.sources.consul_kv import ConsulKvSource
from gloo_nomad.sources.consul_services import ConsulServicesSource
from gloo_nomad.sources.directory import DirectorySource
from gloo_nomad.sources.source import Source, SourceState
from gloo_nomad.sources.vault_secrets import VaultPlace, VaultSecretsSource
from gloo_nomad.store.change import Change
from gloo_nomad.store.services import CONSUL_SERVICE

log = structlog.get_logger(__name__)

DEFAULT_WAIT = 60.0
GATE_SECONDS = 0.01
ALL_KINDS = (*CONFIG_KINDS, SETTINGS)


@dataclass(slots=True)
class Sources:
    """The running sources of one process. ``kinds`` says what a configuration source is read for."""

    engine: Engine
    consul: ConsulClient | None
    kinds: Sequence[Kind] = ALL_KINDS
    with_secrets: bool = True
    with_services: bool = True
    states: list[SourceState] = field(default_factory=list)
    service_states: list[SourceState] = field(default_factory=list)
    """Services are watched once routes want them: they list later, and do not hold the first translation."""
    _services: ConsulServicesSource | None = None
    _wanted: frozenset[tuple[str, str]] = frozenset()

    def want(self, services: frozenset[tuple[str, Ref]]) -> None:
        """The services whose endpoints are needed from now on."""
        self._wanted = frozenset((ref.namespace, ref.name) for kind, ref in services if kind == CONSUL_SERVICE)
        if self._services is not None:
            self._services.want(self._wanted)

    async def run(self) -> None:
        """Reads for ever."""
        while True:
            key = _key(self.engine.settings)
            async with asyncio.TaskGroup() as tasks:
                running = [
                    tasks.create_task(self._pump(source, self.engine.changes), name=f"source {source.name}")
                    for source in self._build()
                ]
                running.append(tasks.create_task(self._run_services(), name="source services"))
                running.append(tasks.create_task(self._open_gate(), name="sources listed"))
                await self._until_other(key)
                for task in running:
                    task.cancel()
            log.info("sources_restart")

    async def _until_other(self, key: tuple[Any, ...]) -> None:
        while _key(self.engine.settings) == key:
            self.engine.settings_changed.clear()
            await self.engine.settings_changed.wait()

    def _build(self) -> list[Source]:
        settings = self.engine.settings
        sources = [*self._config_sources(settings), *(_secret_sources(settings) if self.with_secrets else ())]
        self.states[:] = [source.state for source in sources]
        return sources

    def _config_sources(self, settings: RuntimeSettings) -> Iterable[Source]:
        namespaces = settings.watch_namespaces
        if settings.config_directory:
            yield DirectorySource(Path(settings.config_directory), self.kinds, namespaces, root_key=settings.root_key)
        elif self.consul is not None:
            artifacts = settings.message.WhichOneof("artifact_source") == "consul_kv_artifact_source"
            kinds = (*self.kinds, ARTIFACT) if artifacts else self.kinds
            yield ConsulKvSource(self.consul, settings.root_key, kinds, namespaces, wait=_wait(settings))

    async def _run_services(self) -> None:
        """Watches services while discovery is on; when it is off there are none."""
        settings = self.engine.settings
        if not (self.with_services and self.consul is not None and settings.discovers_services):
            await self.engine.services.put(Change("consul-services", CONSUL_SERVICE, complete=True))
            return
        source = ConsulServicesSource(self.consul)
        self._services = source
        self.service_states[:] = [source.state]
        source.want(self._wanted)
        try:
            await self._pump(source, self.engine.services)
        finally:
            self._services = None
            self.service_states.clear()

    async def _pump(self, source: Source, queue: asyncio.Queue[Change]) -> None:
        async with aclosing(source.watch_changes()) as changes:  # type: ignore[type-var]  # async generators in practice
            async for change in changes:
                await queue.put(change)

    async def _open_gate(self) -> None:
        """Says once that every source has listed; only at the beginning, so a short look now and then will do."""
        while not all(state.listed for state in self.states):  # noqa: ASYNC110  # states are read, nothing to wait for
            await asyncio.sleep(GATE_SECONDS)
        self.engine.sources_listed.set()


def _key(settings: RuntimeSettings) -> tuple[Any, ...]:
    """What the choice of sources depends on."""
    message = settings.message
    return (
        settings.config_directory,
        settings.root_key,
        settings.watch_namespaces,
        settings.discovers_services,
        message.WhichOneof("artifact_source"),
        message.secret_options.SerializeToString(deterministic=True),
        message.vault_secret_source.SerializeToString(deterministic=True),
        message.directory_secret_source.SerializeToString(deterministic=True),
    )


def _secret_sources(settings: RuntimeSettings) -> Iterable[Source]:
    """Where secrets come from: ``secretOptions`` if it names sources, else ``secretSource``."""
    message = settings.message
    if message.secret_options.sources:
        for number, source in enumerate(message.secret_options.sources):
            if source.HasField("directory"):
                folder = Path(source.directory.directory)
                yield DirectorySource(folder, (SECRET,), settings.watch_namespaces, bare=True, name=f"secrets-{number}")
            elif source.HasField("vault"):
                yield _vault_source(source.vault, settings, f"vault-{number}")
    elif message.WhichOneof("secret_source") == "directory_secret_source":
        folder = Path(message.directory_secret_source.directory)
        yield DirectorySource(folder, (SECRET,), settings.watch_namespaces, name="secrets")
    elif message.WhichOneof("secret_source") == "vault_secret_source":
        yield _vault_source(message.vault_secret_source, settings, "vault")


def _vault_source(vault: Any, settings: RuntimeSettings, name: str) -> VaultSecretsSource:
    return VaultSecretsSource(
        vault_client(vault, settings),
        VaultPlace(vault.path_prefix or "secret", vault.root_key or "gloo"),
        settings.watch_namespaces,
        name=name,
    )


def _wait(settings: RuntimeSettings) -> float:
    """Seconds of one blocking query: ``refreshRate``, the reference's meaning of it."""
    refresh = settings.message.refresh_rate
    return refresh.seconds + refresh.nanos / 1e9 or DEFAULT_WAIT
