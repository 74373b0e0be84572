"""A small gateway of hand-made resources on a real xDS server, and a real Envoy that is served it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gloo_nomad.demo.envoy import Envoy, build_bootstrap
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.ports import free_port
from gloo_nomad.demo.processes import wait_until
from gloo_nomad.resources import Resource
from tests.xds_client import ROLE
from tests.xds_messages import build_cluster, build_endpoints, build_listener, build_routes, by_name
from tests.xds_world import World, open_world

RunEnvoy = Callable[..., Envoy]


@dataclass
class Site:
    """A small gateway as it is published: change a field, then ``publish``."""

    world: World
    port: int
    clusters: dict[str, Resource] = field(default_factory=dict)
    endpoints: dict[str, Resource] = field(default_factory=dict)
    secrets: dict[str, Resource] = field(default_factory=dict)
    target: str = "one"
    secret: str = ""
    routes: dict[str, Resource] = field(default_factory=dict)
    """In place of the one RouteConfiguration to ``target``, or beside it."""
    listeners: dict[str, Resource] | None = None
    """In place of the one listener."""

    def add(self, cluster: str, *ports: int) -> None:
        """A cluster with its instances."""
        self.clusters[cluster] = build_cluster(cluster)
        self.endpoints[cluster] = build_endpoints(cluster, *ports)

    def publish(self) -> None:
        """Publishes the site as it is now."""
        own = build_listener("listener", self.port, "routes", secret=self.secret)
        self.world.publish(
            clusters=dict(self.clusters),
            endpoints=dict(self.endpoints),
            secrets=dict(self.secrets),
            listeners=by_name(own) if self.listeners is None else dict(self.listeners),
            routes={**by_name(build_routes("routes", self.target)), **self.routes},
        )


@asynccontextmanager
async def running(run_envoy: RunEnvoy, site: Site, *, delta: bool = True, rejects: int = 0) -> AsyncIterator[Envoy]:
    """An Envoy with the site's role, from its first configuration on; it must reject nothing, or what is expected."""
    bootstrap = build_bootstrap(xds_port=site.world.server.port, admin_port=free_port(), role=ROLE, delta=delta)
    envoy = await asyncio.to_thread(run_envoy, bootstrap, ready=True)
    yield envoy
    assert len(site.world.nacks) == rejects
    text = (await asyncio.to_thread(envoy.admin, "/stats?filter=update_rejected")).text
    assert sum(int(line.rpartition(": ")[2]) for line in text.splitlines()) == rejects


@asynccontextmanager
async def serving(
    run_envoy: RunEnvoy, *, delta: bool = True, rejects: int = 0, **clusters: int
) -> AsyncIterator[tuple[Site, Envoy]]:
    """A site with these clusters (by name, the port of the instance), of which an Envoy serves "one" already."""
    async with open_world() as world:
        site = Site(world, free_port())
        for name, port in clusters.items():
            site.add(name, port)
        site.publish()
        async with running(run_envoy, site, delta=delta, rejects=rejects) as envoy:
            await becomes(site, "one")
            yield site, envoy


async def wait_for(condition: Callable[[], bool]) -> None:
    """Returns when the condition, asked in a thread, holds."""
    await asyncio.to_thread(wait_until, condition, "what the test waits for", 30.0)


async def served_by(site: Site) -> str:
    """The name of the instance that answers, or the status that Envoy answers with."""
    try:
        answer = await asyncio.to_thread(fetch, site.port, "/")
    except OSError as failure:
        return type(failure).__name__
    return str(answer.json()["instance"]) if answer.status == 200 else str(answer.status)


async def becomes(site: Site, expected: str) -> list[str]:
    """Asks until the expected instance answers; returns what answered before it, each once in a row."""
    seen: list[str] = []
    async with asyncio.timeout(30.0):
        while (answer := await served_by(site)) != expected:
            seen += [answer] if seen[-1:] != [answer] else []
            await asyncio.sleep(0.01)
    return seen
