"""Nothing changes: CPU of the daemon in each second."""

import time
from typing import Final

from tests.benchmarks.case import LOOP, Figures
from tests.benchmarks.scene import Scene

QUICK: Final = (200, 1_000)
FULL: Final = (200, 1_000, 3_000, 10_000)
UNIT: Final = "ms CPU/s"
YARDSTICK: Final = LOOP
FLOOR: Final = 10.0
"""One per cent of a core; the clock of CPU time is too coarse to compare less."""
SECONDS: Final = 26.0
"""Longer than a shard waits in Consul: all of them ask again in that time, and often at once."""
ROUNDS: Final = 2


def run(scene: Scene) -> Figures:
    """Twice, so that something else that happens shows."""
    world = scene.world
    taken, read = [], world.read()
    world.settle()
    for _ in range(ROUNDS):
        before, started = world.cpu, time.perf_counter()
        time.sleep(SECONDS)
        taken.append((world.cpu - before) / (time.perf_counter() - started))
    return Figures.of(taken, read, memory_mib=world.memory)
