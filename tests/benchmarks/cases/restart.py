"""A restart with connected Envoys: from the new process to the response with what changed meanwhile.

Five streams held everything when the old process ended, and say so to the new one; sent is what changed, and nothing
else. Beside them are two real Envoys, which wait up to a second before they try again: when they have the change, and
how many clusters and listeners they took anew.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from gloo_nomad.demo.envoy import Envoy, build_bootstrap, start_envoy
from gloo_nomad.demo.ports import free_port
from gloo_nomad.demo.processes import wait_until
from gloo_nomad.envoy.names import split_routes_name
from gloo_nomad.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, VIRTUAL_HOST
from tests.benchmarks.case import LOOP, Figures
from tests.benchmarks.objects import virtual_service
from tests.benchmarks.scene import Scene
from tests.benchmarks.world import PATIENCE, World
from tests.xds_client import DeltaClient

QUICK: Final = (200,)
FULL: Final = (200, 3_000)
YARDSTICK: Final = LOOP
ORDER: Final = 3
STREAMS: Final = 5
ENVOYS: Final = 2
ROUNDS: Final = 3


def run(scene: Scene) -> Figures:
    """Each round stops the daemon, changes one virtual service, and starts it again."""
    world, taken, seen = scene.world, [], []
    read = world.read()
    with ExitStack() as stack:
        envoys = [_start_envoy(world, stack) for _ in range(ENVOYS)]
        before = _count(envoys, "(cds|lds).update_success")
        for number in range(ROUNDS):
            world.settle()
            response, envoy = _restart(world, f"restart-{number}-", envoys)
            taken.append(response)
            seen.append(envoy)
        anew = _count(envoys, "(cds|lds).update_success") - before
    return Figures.of(taken, read, envoys_ms=max(seen), clusters_or_listeners_anew=anew)


def _start_envoy(world: World, stack: ExitStack) -> Envoy:
    xds_port = int(world.target.rpartition(":")[2])
    bootstrap = build_bootstrap(xds_port=xds_port, admin_port=free_port())
    envoy = start_envoy(world.folder, bootstrap, ready=True)
    stack.callback(envoy.stop)
    return envoy


def _count(envoys: Sequence[Envoy], names: str) -> int:
    """The sum of all counters whose names end like that."""
    lines = [line for envoy in envoys for line in envoy.admin(f"/stats?filter={names}$").text.splitlines()]
    return sum(int(line.rpartition(": ")[2]) for line in lines)


def _restart(world: World, marker: str, envoys: Sequence[Envoy]) -> tuple[float, float]:
    """Milliseconds until all streams have the change, and until all Envoys have it."""
    held = world.connected.held
    counts = [_count([envoy], "config_reload") for envoy in envoys]
    world.stop_gloo()
    world.put(7 % world.layout.size, virtual_service(7 % world.layout.size, world.layout.upstreams, marker))
    started = time.perf_counter()
    world.start_process()
    taken = world.run(_take_all(world, held, marker.encode(), started))
    for envoy, count in zip(envoys, counts, strict=True):
        wait_until(lambda e=envoy, c=count: _count([e], "config_reload") > c, "Envoy has the change", PATIENCE)  # type: ignore[misc]
    seen = (time.perf_counter() - started) * 1000
    world.run(world.connect())
    return taken, seen


async def _take_all(world: World, held: dict[str, dict[str, str]], needle: bytes, started: float) -> float:
    streams = [_take(world, held, needle) for _ in range(STREAMS)]
    counts = await asyncio.gather(*streams)
    assert set(counts) == {1}, f"resources sent to a stream that holds the others: {counts}"
    return (time.perf_counter() - started) * 1000


async def _take(world: World, held: dict[str, dict[str, str]], needle: bytes) -> int:
    """How many resources came until the change did."""
    count, deadline = 0, time.monotonic() + PATIENCE
    async with DeltaClient(world.target, node_id="returning") as client:
        for type_url in (CLUSTER, ENDPOINTS, LISTENER):
            await client.subscribe(type_url, held=held[type_url])
        await client.subscribe(ROUTES, world.routes, split_routes_name(world.routes), held=held[ROUTES])
        await client.subscribe(VIRTUAL_HOST, held=held[VIRTUAL_HOST])
        while True:
            response = await client.accept(max(0.1, deadline - time.monotonic()))
            count += len(response.resources)
            if any(needle in resource.resource.value for resource in response.resources):
                return count
