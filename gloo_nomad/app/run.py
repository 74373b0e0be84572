"""Runs roles in one process until a signal or a failure ends it."""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from gloo_nomad.admin.metrics import Metrics
from gloo_nomad.api.kinds import SETTINGS, UPSTREAM
from gloo_nomad.app.catalogs import ConsulNames, NomadServiceNames
from gloo_nomad.app.clients import check_clients, consul_options
from gloo_nomad.app.discovery import Catalog, Discovery, watch_catalog
from gloo_nomad.app.engine import Engine, Outputs
from gloo_nomad.app.front_door_access import check_front_door
from gloo_nomad.app.functions import Functions
from gloo_nomad.app.gateway import create_default_gateways, serve_front_door
from gloo_nomad.app.gloo import (
    admin_view,
    leader_for,
    serve_admin,
    serve_dev,
    serve_proxy_debug,
    serve_rest_xds,
    serve_xds,
    write_statuses,
)
from gloo_nomad.app.instances import Instances
from gloo_nomad.app.last_known import open_keeper
from gloo_nomad.app.loop_failures import LoopFailures
from gloo_nomad.app.memory import collect_seldom, use_one_arena
from gloo_nomad.app.mesh import IdentityProvider, IdentityWatch, MeshProvider
from gloo_nomad.app.nomad_client import nomad_options
from gloo_nomad.app.problem_log import log_problems
from gloo_nomad.app.service_providers import ConsulProvider, NomadProvider, Provider
from gloo_nomad.app.service_watch import ServiceWatch
from gloo_nomad.app.sources import ALL_KINDS, Sources
from gloo_nomad.app.surviving import keep_running
from gloo_nomad.app.xds_security import check_security
from gloo_nomad.clients.consul import ConsulClient
from gloo_nomad.clients.nomad import NomadClient
from gloo_nomad.frontdoor.folder_objects import FolderObjects
from gloo_nomad.frontdoor.kv_objects import KvObjects
from gloo_nomad.frontdoor.objects import ObjectStore
from gloo_nomad.pipeline import Translation, claims
from gloo_nomad.resources import ENDPOINTS, XdsSnapshot
from gloo_nomad.serving import bind
from gloo_nomad.settings import RuntimeSettings, SettingsError, label_findings, own_findings
from gloo_nomad.unclaimed import warn_unclaimed
from gloo_nomad.xds.cache import XdsCache

log = structlog.get_logger(__name__)

ROLES = ("gloo", "gateway", "discovery")
Job = Callable[[], Coroutine[Any, Any, None]]


def roles_for(settings: RuntimeSettings, asked: Iterable[str]) -> frozenset[str]:
    """The roles to run: those asked for, or all that the settings have use for.

    Raises:
        SettingsError: a role was asked for that cannot do anything with these settings.
    """
    chosen = frozenset(asked)
    if "discovery" in chosen and not settings.uses_consul_kv:
        raise SettingsError("the role discovery writes Upstreams into Consul KV: give consulKvSource, or another role")
    if chosen:
        return chosen
    return frozenset({"gloo", "gateway", "discovery"} if settings.uses_consul_kv else {"gloo"})


async def run(settings: RuntimeSettings, roles: frozenset[str]) -> None:
    """Runs until SIGTERM or SIGINT; raises what ended it otherwise."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(LoopFailures())
    stopping = asyncio.Event()

    def stop() -> None:
        if not stopping.is_set():
            stopping.set()
            log.info("stopping")

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        await _run_roles(settings, roles, stopping)
    except asyncio.CancelledError:
        if not stopping.is_set():
            raise
    except Exception:
        if not stopping.is_set():
            raise
        log.exception("stopped_with_failure")
    log.info("stopped")


async def _run_roles(settings: RuntimeSettings, roles: frozenset[str], stopping: asyncio.Event) -> None:
    use_one_arena()
    collect_seldom()
    check_clients(settings)
    if "gloo" in roles:
        check_security(settings)
    if "gateway" in roles:
        check_front_door(settings)
    _tell_what_has_no_effect(settings)
    async with AsyncExitStack() as stack:
        options = consul_options(settings)
        client = ConsulClient(options) if options is not None else None
        if client is not None:
            stack.push_async_callback(client.close)
        found = nomad_options(settings)
        nomad = NomadClient(found) if found is not None else None
        if nomad is not None:
            stack.push_async_callback(nomad.close)
        process = _Process(settings, roles, client, nomad)
        process.check_addresses()
        if process.keeper is not None:
            await process.keeper.restore()
            process.hold_back()
        async with asyncio.TaskGroup() as tasks:
            process.start(tasks)
            tasks.create_task(process.end(stopping, asyncio.current_task()), name="end")
            log.info("running", roles=sorted(roles))


def _tell_what_has_no_effect(settings: RuntimeSettings) -> None:
    """Logs what the Settings file asks for in vain; an object in Consul KV has it in its status."""
    findings = (*own_findings(settings.message), *label_findings(settings.message))
    unknown = tuple(finding.on(SETTINGS.object_ref(settings.ref)) for finding in findings)
    for problem in (*warn_unclaimed(SETTINGS, settings.ref, settings.message, claims()), *unknown):
        log.warning("settings_without_effect", field=problem.path, reason=problem.message)


class _Process:
    """Everything that one process is made of."""

    def __init__(
        self,
        settings: RuntimeSettings,
        roles: frozenset[str],
        client: ConsulClient | None,
        nomad: NomadClient | None,
    ) -> None:
        self.roles = roles
        self.client = client
        self.nomad = nomad
        self.translates = bool(roles & {"gloo", "gateway"})
        self.engine = Engine(settings, translates=self.translates)
        self.engine.live.try_out = check_clients
        self.cache = XdsCache(ipv4_only=settings.message.ip_v4_only) if "gloo" in roles else None
        kinds = ALL_KINDS if self.translates else (UPSTREAM, SETTINGS)
        watches = [ServiceWatch(self.engine, provider) for provider in self._providers()]
        if "gloo" in roles and client is not None:
            watches.append(IdentityWatch(self.engine, IdentityProvider(client)))
        self.sources = Sources(self.engine, client, kinds, with_secrets=self.translates, watches=watches)
        self.stopping = asyncio.Event()
        self.keeper = open_keeper(settings, self.engine, self.sources) if "gloo" in roles else None
        self.view = admin_view(self.engine, self.sources, self.cache, self.keeper, self.stopping.is_set)
        self.metrics = Metrics(self.view)
        self.engine.outputs = self._outputs()

    def _providers(self) -> Iterator[Provider]:
        """Where instances of services are read: only for Envoys."""
        if "gloo" in self.roles and self.client is not None:
            yield ConsulProvider(self.client)
            yield MeshProvider(self.client)
        if "gloo" in self.roles and self.nomad is not None:
            yield NomadProvider(self.nomad)

    def _catalogs(self, client: ConsulClient) -> Iterator[Catalog]:
        """Where discovery reads names of services."""
        yield ConsulNames(client)
        if self.nomad is not None:
            yield NomadServiceNames(self.nomad)

    def _outputs(self) -> Outputs:
        def translated(seconds: float, _: Translation) -> None:
            self.metrics.translated(seconds)

        cache = self.cache
        if cache is None:
            return Outputs(translated=translated)

        def publish(snapshots: Mapping[str, XdsSnapshot]) -> None:
            gone = cache.snapshots().keys() - snapshots.keys()
            cache.publish(snapshots)
            if not self.engine.settings.message.gloo.disable_proxy_garbage_collection.value:
                for role in gone:
                    cache.remove(role)

        def publish_endpoints(snapshots: Mapping[str, XdsSnapshot]) -> None:
            for role, snapshot in snapshots.items():
                cache.publish_type(role, ENDPOINTS, snapshot.of(ENDPOINTS))
            if self.keeper is not None:
                self.keeper.wake()

        return Outputs(publish, publish_endpoints, self.sources.want, translated)

    def check_addresses(self) -> None:
        """Raises ``ServingError`` for a taken port while nothing has started that would have to be stopped."""
        settings = self.engine.base
        bind(*settings.admin_bind, "the admin server", "--admin-bind").close()
        if "gateway" in self.roles:
            bind(*settings.front_door_bind, "the front door", "--front-door-bind").close()
        if "gloo" in self.roles:
            bind(*settings.xds_bind, "xDS", "--xds-bind").close()

    def hold_back(self) -> None:
        """Serves Envoys that have something nothing of what was kept on disk: they may have what is newer."""
        if self.cache is not None and self.keeper is not None:
            self.cache.tentative = self.keeper.is_tentative

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Starts all tasks of the roles.

        A defect in what serves Envoys ends the process, and Nomad starts it anew; one in a side job does not.
        """
        tasks.create_task(self.engine.run(), name="engine")
        tasks.create_task(self.sources.run(), name="sources")
        for name, job in self._side_jobs().items():
            tasks.create_task(keep_running(name, job), name=name)
        if self.cache is not None:
            states = self.sources.serving_states
            serving = serve_xds(self.engine, self.cache, self.metrics, states, self.keeper)
            tasks.create_task(serving, name="xds")

    async def end(self, stopping: asyncio.Event, main: "asyncio.Task[Any] | None") -> None:
        """Ends everything when told to: first nobody is sent here any more, and a moment later the rest follows."""
        await stopping.wait()
        self.stopping.set()
        if self.cache is not None and len(self.cache.registry):
            await asyncio.sleep(float(self.engine.base.own("stopGraceSeconds")))
        if main is not None:
            main.cancel()

    def _side_jobs(self) -> dict[str, Job]:
        engine = self.engine
        jobs: dict[str, Job] = {"admin": partial(serve_admin, engine, self.view, self.metrics)}
        if self.keeper is not None:
            jobs["last known"] = self.keeper.run
            if self.cache is not None and self.cache.tentative:
                jobs["settled"] = partial(self.keeper.watch_settled, self.cache.settle)
        if self.cache is not None:
            jobs["proxy debug"] = partial(serve_proxy_debug, engine)
            if engine.base.config_directory:
                jobs["problem log"] = partial(log_problems, engine)
            jobs["dev mode"] = partial(serve_dev, engine, self.view)
            jobs["rest xds"] = partial(serve_rest_xds, engine, self.cache)
        if "gateway" in self.roles:
            jobs["front door"] = partial(serve_front_door, engine, self._objects(), self.metrics, self.nomad)
        if self.client is not None and engine.base.uses_consul_kv:
            jobs |= self._writers(self.client)
        return jobs

    def _writers(self, client: ConsulClient) -> dict[str, Job]:
        jobs: dict[str, Job] = {}
        if "gloo" in self.roles:
            jobs["statuses"] = partial(write_statuses, self.engine, client)
        if "gateway" in self.roles:
            jobs["default gateways"] = partial(create_default_gateways, self.engine, client)
        if "discovery" in self.roles:
            leader = leader_for(client, self.engine, "discovery")
            discovery = Discovery(self.engine, client, leader, self.sources.other_states)
            jobs["leader discovery"] = leader.run
            for catalog in self._catalogs(client):
                jobs[catalog.name] = partial(watch_catalog, discovery, catalog)
            jobs["discovery"] = discovery.run
            jobs["functions"] = Functions(self.engine, client, leader, Instances(client, self.nomad)).run
        return jobs

    def _objects(self) -> ObjectStore:
        settings = self.engine.base
        if settings.config_directory or self.client is None:
            return FolderObjects(Path(settings.config_directory))
        return KvObjects(self.client, settings.root_key)
