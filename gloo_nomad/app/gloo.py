"""The gloo role: xDS for Envoys, statuses for people, pages for operators."""

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import structlog
from starlette.applications import Starlette

from gloo_nomad.admin.dev import build_dev_app
from gloo_nomad.admin.metrics import Metrics
from gloo_nomad.admin.proxy_debug import serving_proxies
from gloo_nomad.admin.server import build_app
from gloo_nomad.admin.view import AdminView, Client
from gloo_nomad.admin.view import SourceState as ShownState
from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.app.engine import Engine
from gloo_nomad.app.last_known import LastKnownKeeper
from gloo_nomad.app.nacks import Nacks
from gloo_nomad.app.sources import Sources
from gloo_nomad.app.statuses import run_statuses
from gloo_nomad.app.stored_proxies import ProxyKeeper
from gloo_nomad.app.surviving import AGAIN_SECONDS, keep_running
from gloo_nomad.app.xds_security import XdsSecurity, may_be_plain, secured
from gloo_nomad.clients.consul import ConsulClient
from gloo_nomad.serving import ServingError, serve, shown
from gloo_nomad.sources.source import SourceState
from gloo_nomad.store.leader import Leader
from gloo_nomad.store.status_writer import StatusWriter
from gloo_nomad.xds import server as xds_server
from gloo_nomad.xds.cache import XdsCache
from gloo_nomad.xds.metrics import XdsMetrics
from gloo_nomad.xds.rest import build_app as build_rest_app

log = structlog.get_logger(__name__)


async def serve_xds(
    engine: Engine,
    cache: XdsCache,
    metrics: Metrics,
    states: list[SourceState],
    keeper: LastKnownKeeper | None = None,
) -> None:
    """Serves Envoys until cancelled; *states* get what has to be there first, if *keeper* does not have it."""
    nacks = Nacks(engine, lambda: ((client.node.role, client.node.node_id) for client in cache.clients()))
    engine.reporters.append(nacks.problems)
    async with secured(engine.base, states, keeper) as security:
        server = await _open_xds(engine, cache, metrics, nacks, security)
        log.info("xds", address=server.address, tls=security.credentials is not None)
        try:
            await keep_running("nacks", nacks.run)
        finally:
            await asyncio.shield(server.stop())


async def _open_xds(
    engine: Engine, cache: XdsCache, metrics: Metrics, nacks: Nacks, security: XdsSecurity
) -> xds_server.XdsServer:
    host, port = engine.base.xds_bind
    try:
        return await xds_server.serve(
            cache,
            shown(host, port),
            credentials=security.credentials,
            authorize=security.authorize,
            metrics=XdsMetrics(metrics.registry),
            on_nack=nacks.rejected,
            on_recovery=nacks.recovered,
        )
    except xds_server.XdsBindError as failure:
        raise ServingError(str(failure)) from failure


def leader_for(client: ConsulClient, engine: Engine, role: str) -> Leader:
    """The candidate for the lock of a role."""
    settings = engine.base
    name = f"{role} {socket.gethostname()} {os.getpid()}"
    key = f"{settings.root_key}/gloo-nomad/leader/{settings.write_namespace}/{role}"
    return Leader(client, key, name, ttl=max(int(settings.own("leaderSessionSeconds")), 1))


async def write_statuses(engine: Engine, client: ConsulClient) -> None:
    """Takes part in the election, and writes statuses, and proxies if that is asked for, while elected."""
    leader = leader_for(client, engine, "gloo")
    truncate = engine.base.environ.get("DISABLE_TRUNCATE_STATUS", "").lower() not in {"true", "1"}
    writer = StatusWriter(client, engine.base.root_key, engine.base.reporter, truncate)
    keeper = ProxyKeeper(engine, client, leader)
    statuses = partial(run_statuses, engine, writer, leader, engine.listener())
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(keep_running("leader gloo", leader.run), name="leader gloo")
        tasks.create_task(keep_running("statuses", statuses), name="statuses")
        tasks.create_task(keep_running("stored proxies", keeper.run), name="stored proxies")


def admin_view(
    engine: Engine,
    sources: Sources,
    cache: XdsCache | None,
    keeper: LastKnownKeeper | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> AdminView:
    """What the admin pages show of this process."""
    return AdminView(
        sources=lambda: _source_states(sources),
        stopping=stopping,
        published=engine.published.is_set if cache is not None else engine.begun.is_set,
        snapshot=lambda: engine.store.snapshot,
        settings=lambda: engine.settings.message,
        proxies=lambda: engine.translation.proxies if engine.translation else (),
        xds=lambda: cache.snapshots() if cache is not None else {},
        problems=engine.problems,
        clients=lambda: _clients(cache) if cache is not None else (),
        last_known=lambda: keeper.state() if keeper is not None else None,
    )


async def serve_proxy_debug(engine: Engine) -> None:
    """Serves the computed proxies until cancelled; without its port everything else goes on."""
    host, port = engine.base.proxy_debug_bind
    try:
        async with serving_proxies(host, port, lambda: engine.translation.proxies if engine.translation else ()):
            await asyncio.Event().wait()
    except ServingError as failure:
        log.warning("no_proxy_debug", reason=str(failure))


async def serve_rest_xds(engine: Engine, cache: XdsCache) -> None:
    """Serves discovery by REST from the moment that ``gloo.enableRestEds`` is on."""
    await _wait_until(engine, lambda settings: settings.gloo.enable_rest_eds.value)
    host, port = engine.base.rest_xds_bind
    if not may_be_plain(engine.base, host):
        reason = f"it is plain text, which {shown(host, port)} may not be: set gloo.restXdsBindAddr to loopback"
        log.warning("not_served", reason=f"xDS by REST: {reason}")
        return
    await _serve_if_free(build_rest_app(cache), (host, port), "xDS by REST")


async def serve_dev(engine: Engine, view: AdminView) -> None:
    """Serves the pages of ``devMode`` from the moment that it is on."""
    await _wait_until(engine, lambda settings: settings.dev_mode)
    await _serve_if_free(build_dev_app(view), engine.base.dev_bind, "devMode")


async def _wait_until(engine: Engine, wanted: Callable[[settings_pb2.Settings], bool]) -> None:
    rounds = engine.listener()
    while not wanted(engine.settings.message):
        await rounds.wait()
        rounds.clear()


async def _serve_if_free(app: Starlette, bind: tuple[str, int], purpose: str) -> None:
    """Serves as soon as the port is free; nothing else waits for that."""
    while True:
        try:
            await serve(app, *bind, purpose)
        except ServingError as failure:
            log.warning("not_served", reason=str(failure), again_in_seconds=AGAIN_SECONDS)
            await asyncio.sleep(AGAIN_SECONDS)


async def serve_admin(engine: Engine, view: AdminView, metrics: Metrics) -> None:
    """Serves the admin pages until cancelled."""
    host, port = engine.base.admin_bind
    await serve(build_app(view, metrics), host, port, "the admin server")


def _source_states(sources: Sources) -> Sequence[ShownState]:
    """How the sources are; one that the settings exchange, or a new route wants, makes nobody unready again."""
    engine = sources.engine
    begun = engine.begun.is_set()
    parts = (
        (sources.states, begun),
        (sources.service_states, engine.published.is_set()),
        (sources.other_states, begun),
        (sources.serving_states, False),
    )
    found = [
        ShownState(state.name, state.listed or ready, state.last_error, state.since)
        for states, ready in parts
        for state in states
    ]
    if engine.failure:
        found.append(ShownState("translation", True, engine.failure, engine.failing_since))
    return tuple(found)


def _clients(cache: XdsCache) -> tuple[Client, ...]:
    return tuple(_describe(client) for client in cache.clients())


def _describe(client: Any) -> Client:
    rejections = client.rejections
    return Client(
        node_id=client.node.node_id,
        role=client.node.role,
        address=client.peer,
        protocol=client.protocol,
        connected_at=client.connected_since,
        types=tuple(state.type_url for state in client.types),
        nacks=len(rejections),
        last_nack="; ".join(f"{name}: {nack.message}" for _, name, nack in rejections[:3]),
    )
