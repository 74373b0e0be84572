"""Runs roles in one process until a signal or a failure ends it."""

import asyncio
import signal
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path

import structlog

from gloo_nomad.admin.metrics import Metrics
from gloo_nomad.api.kinds import SETTINGS, UPSTREAM
from gloo_nomad.app.clients import consul_options
from gloo_nomad.app.discovery import Discovery, watch_catalog
from gloo_nomad.app.engine import Engine, Outputs
from gloo_nomad.app.gateway import create_default_gateways, serve_front_door
from gloo_nomad.app.gloo import admin_view, leader_for, serve_admin, serve_proxy_debug, serve_xds, write_statuses
from gloo_nomad.app.sources import ALL_KINDS, Sources
from gloo_nomad.clients.consul import ConsulClient
from gloo_nomad.frontdoor.folder_objects import FolderObjects
from gloo_nomad.frontdoor.kv_objects import KvObjects
from gloo_nomad.frontdoor.objects import ObjectStore
from gloo_nomad.resources import ENDPOINTS
from gloo_nomad.serving import bind
from gloo_nomad.settings import RuntimeSettings
from gloo_nomad.xds.cache import XdsCache

log = structlog.get_logger(__name__)

ROLES = ("gloo", "gateway", "discovery")


def roles_for(settings: RuntimeSettings, asked: Iterable[str]) -> frozenset[str]:
    """The roles to run: those asked for, or all that the settings have use for."""
    chosen = frozenset(asked)
    if chosen:
        return chosen
    return frozenset({"gloo", "gateway", "discovery"} if settings.uses_consul_kv else {"gloo"})


async def run(settings: RuntimeSettings, roles: frozenset[str]) -> None:
    """Runs until SIGTERM or SIGINT; raises what ended it otherwise."""
    main = asyncio.current_task()
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()

    def stop() -> None:
        if not stopping.is_set() and main is not None:
            stopping.set()
            log.info("stopping")
            main.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        await _run_roles(settings, roles)
    except asyncio.CancelledError:
        if not stopping.is_set():
            raise


async def _run_roles(settings: RuntimeSettings, roles: frozenset[str]) -> None:
    async with AsyncExitStack() as stack:
        options = consul_options(settings)
        client = ConsulClient(options) if options is not None else None
        if client is not None:
            stack.push_async_callback(client.close)
        process = _Process(settings, roles, client)
        process.check_addresses()
        async with asyncio.TaskGroup() as tasks:
            process.start(tasks)
            log.info("running", roles=sorted(roles))


class _Process:
    """Everything that one process is made of."""

    def __init__(self, settings: RuntimeSettings, roles: frozenset[str], client: ConsulClient | None) -> None:
        self.roles = roles
        self.client = client
        self.translates = bool(roles & {"gloo", "gateway"})
        self.engine = Engine(settings, translates=self.translates)
        self.cache = XdsCache(ipv4_only=settings.message.ip_v4_only) if "gloo" in roles else None
        kinds = ALL_KINDS if self.translates else (UPSTREAM, SETTINGS)
        self.sources = Sources(self.engine, client, kinds, with_secrets=self.translates, with_services="gloo" in roles)
        self.view = admin_view(self.engine, self.sources, self.cache)
        self.metrics = Metrics(self.view)
        self.engine.outputs = self._outputs()

    def _outputs(self) -> Outputs:
        def translated(seconds: float, _: object) -> None:
            self.metrics.translated(seconds)

        cache = self.cache
        if cache is None:
            return Outputs(translated=translated)

        def publish(snapshots: object) -> None:
            known = set(cache.snapshots())
            cache.publish(snapshots)  # type: ignore[arg-type]  # what the engine gives
            if not self.engine.settings.message.gloo.disable_proxy_garbage_collection.value:
                for role in known - set(snapshots):  # type: ignore[call-overload]  # the same mapping
                    cache.remove(role)

        def publish_endpoints(snapshots: object) -> None:
            for role, snapshot in snapshots.items():  # type: ignore[attr-defined]  # the same mapping
                cache.publish_type(role, ENDPOINTS, snapshot.of(ENDPOINTS))

        return Outputs(publish, publish_endpoints, self.sources.want, translated)

    def check_addresses(self) -> None:
        """Raises ``ServingError`` for a taken port while nothing has started that would have to be stopped."""
        settings = self.engine.base
        bind(*settings.admin_bind, "the admin server").close()
        if "gateway" in self.roles:
            bind(*settings.front_door_bind, "the front door").close()
        if "gloo" in self.roles:
            bind(*settings.xds_bind, "xDS").close()

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Starts all tasks of the roles."""
        tasks.create_task(self.engine.run(), name="engine")
        tasks.create_task(self.sources.run(), name="sources")
        tasks.create_task(serve_admin(self.engine, self.view, self.metrics), name="admin")
        if self.cache is not None:
            tasks.create_task(serve_xds(self.engine, self.cache, self.metrics), name="xds")
            tasks.create_task(serve_proxy_debug(self.engine), name="proxy debug")
        if "gateway" in self.roles:
            tasks.create_task(serve_front_door(self.engine, self._objects(), self.metrics), name="front door")
        if self.client is not None and self.engine.base.uses_consul_kv:
            self._start_writers(tasks, self.client)

    def _start_writers(self, tasks: asyncio.TaskGroup, client: ConsulClient) -> None:
        if "gloo" in self.roles:
            tasks.create_task(write_statuses(self.engine, client), name="statuses")
        if "gateway" in self.roles:
            tasks.create_task(create_default_gateways(self.engine, client), name="default gateways")
        if "discovery" in self.roles:
            leader = leader_for(client, self.engine, "discovery")
            discovery = Discovery(self.engine, client, leader)
            tasks.create_task(leader.run(), name="leader discovery")
            tasks.create_task(watch_catalog(discovery), name="catalog")
            tasks.create_task(discovery.run(), name="discovery")

    def _objects(self) -> ObjectStore:
        settings = self.engine.base
        if settings.config_directory or self.client is None:
            return FolderObjects(Path(settings.config_directory))
        return KvObjects(self.client, settings.root_key)
