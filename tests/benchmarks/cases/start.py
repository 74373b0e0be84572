"""A start on a Consul that has statuses already: from the new process to the last virtual service at a client.

``first`` is the start before, when there were none.
"""

from typing import Final

from tests.benchmarks.case import LOOP, Figures
from tests.benchmarks.scene import Scene

QUICK: Final = (200, 1_000)
FULL: Final = (200, 1_000, 3_000)
YARDSTICK: Final = LOOP
ORDER: Final = 4
ROUNDS: Final = 3


def run(scene: Scene) -> Figures:
    """Three starts."""
    world, taken = scene.world, []
    read = world.read()
    for _ in range(ROUNDS):
        world.stop_gloo()
        taken.append(world.start_gloo())
        world.settle()
    return Figures.of(taken, read, first_ms=world.first_load, cpu_ms=world.cpu, memory_mib=world.memory)
