"""A real xDS server on a free port, with what its callbacks reported."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client import CollectorRegistry

from gloo_nomad.messages import version_of
from gloo_nomad.resources import (
    CLUSTER,
    ENDPOINTS,
    LISTENER,
    ROUTES,
    SECRET,
    VIRTUAL_HOST,
    Resource,
    Resources,
    XdsSnapshot,
)
from gloo_nomad.xds.cache import XdsCache
from gloo_nomad.xds.metrics import XdsMetrics
from gloo_nomad.xds.server import XdsServer, serve
from tests.xds_client import ROLE, DeltaClient

_TYPES = {
    "clusters": CLUSTER,
    "endpoints": ENDPOINTS,
    "listeners": LISTENER,
    "routes": ROUTES,
    "secrets": SECRET,
    "virtual_hosts": VIRTUAL_HOST,
}


def resources(*names: str, **bodies: str) -> dict[str, Resource]:
    """Resources whose body is their name, or what is given for it; new objects at each call."""
    texts = {name: bodies.get(name, name).encode() for name in names}
    return {name: Resource(name, version_of(body), body) for name, body in texts.items()}


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs a test that is a coroutine function in an event loop of its own."""

    @functools.wraps(test)
    def run(*args: Any, **options: Any) -> None:
        asyncio.run(test(*args, **options))

    return run


def names(response: Any) -> list[str]:
    """The names in a delta response, in its order."""
    return [resource.name for resource in response.resources]


def removed(response: Any) -> list[str]:
    """The names that a delta response takes away."""
    return list(response.removed_resources)


class World:
    """The server, what is published, and what was reported."""

    def __init__(self, cache: XdsCache, registry: CollectorRegistry) -> None:
        self.cache = cache
        self.registry = registry
        self.server: XdsServer
        self.nacks: list[tuple[str, str, str, tuple[str, ...], str]] = []
        self.recoveries: list[tuple[str, str, str, tuple[str, ...]]] = []

    @property
    def address(self) -> str:
        """Where to connect to."""
        return self.server.address

    def publish(self, **types: Resources) -> None:
        """Publishes the snapshot of ``ROLE``, types by short name."""
        self.publish_types({_TYPES[name]: mapping for name, mapping in types.items()})

    def publish_types(self, types: Mapping[str, Resources], role: str = ROLE) -> None:
        """Publishes a role's snapshot, types by URL."""
        self.cache.publish({role: XdsSnapshot(types)})

    def metric(self, name: str, **labels: str) -> float:
        """The value of a sample."""
        return self.registry.get_sample_value(name, labels) or 0.0

    async def until(self, condition: Callable[[], bool]) -> None:
        """Returns when the condition holds; raises TimeoutError after 5 s."""
        async with asyncio.timeout(5.0):
            while not condition():  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.005)


@asynccontextmanager
async def open_world(address: str = "127.0.0.1:0", **options: Any) -> AsyncIterator[World]:
    """A server that runs until the block ends; takes what ``serve`` takes."""
    registry = CollectorRegistry()
    world = World(XdsCache(), registry)
    world.server = await serve(
        world.cache,
        address,
        metrics=XdsMetrics(registry),
        on_nack=lambda *report: world.nacks.append(report),
        on_recovery=lambda *report: world.recoveries.append(report),
        **options,
    )
    try:
        yield world
    finally:
        await world.server.stop(0.5)


@asynccontextmanager
async def connected(**types: Resources) -> AsyncIterator[tuple[World, DeltaClient]]:
    """A server whose one role is served ``types``, and a delta client with that role."""
    async with open_world() as world:
        world.publish(**types)
        async with DeltaClient(world.address) as client:
            yield world, client
