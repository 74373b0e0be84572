"""A burst of 1,000 changes of virtual services: from the first write until the last of all is in a response.

With fewer than 1,000 virtual services each changes several times, and only its last state counts.
"""

import re
import time
from typing import Final

from tests.benchmarks.case import LOOP, Figures
from tests.benchmarks.measure import fill
from tests.benchmarks.objects import virtual_service, virtual_service_key
from tests.benchmarks.scene import Scene
from tests.benchmarks.world import PATIENCE, World

QUICK: Final = (200, 1_000)
FULL: Final = (200, 1_000, 3_000)
YARDSTICK: Final = LOOP
ORDER: Final = 2
CHANGES: Final = 1_000
ROUNDS: Final = 3
_MARKER: Final = re.compile(rb"burst-\d+-\d+")


def run(scene: Scene) -> Figures:
    """Three bursts, in transactions as ``gloo-nomad apply`` and other tools write them."""
    world = scene.world
    taken, read, cpu = [], world.read(), world.cpu
    for number in range(ROUNDS):
        world.settle()
        pairs, expected = _build(number, scene.size, world.layout.upstreams)
        started = time.perf_counter()
        fill(world.consul, pairs)
        world.run(_wait_for_all(world, expected))
        taken.append((time.perf_counter() - started) * 1000)
    world.settle()
    return Figures.of(taken, read, cpu_ms=(world.cpu - cpu) / ROUNDS, memory_mib=world.memory)


def _build(burst: int, size: int, upstreams: int) -> tuple[list[tuple[str, str]], set[bytes]]:
    pairs, last = [], {}
    for number in range(CHANGES):
        which, marker = number % size, f"burst-{burst}-{number}"
        pairs.append((virtual_service_key(which), virtual_service(which, upstreams, marker)))
        last[which] = marker.encode()
    return pairs, set(last.values())


async def _wait_for_all(world: World, expected: set[bytes]) -> None:
    client, deadline = world.connected, time.monotonic() + PATIENCE
    while expected:
        response = await client.receive(max(0.1, deadline - time.monotonic()))
        await client.ack(response)
        for resource in response.resources:
            expected.difference_update(_MARKER.findall(resource.resource.value))
