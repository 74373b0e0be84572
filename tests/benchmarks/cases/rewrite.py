"""Every key is written again as it was: CPU of the daemon until it rests; nothing is sent.

What was there also had a status; so each is written once more by the daemon, which is in the figure.
"""

from typing import Final

from tests.benchmarks.case import LOOP, Figures
from tests.benchmarks.measure import fill
from tests.benchmarks.scene import Scene

QUICK: Final = (200, 1_000)
FULL: Final = (200, 1_000, 3_000)
UNIT: Final = "ms CPU"
YARDSTICK: Final = LOOP
ORDER: Final = 1
ROUNDS: Final = 2


def run(scene: Scene) -> Figures:
    """The first round undoes what other cases changed, and is not measured."""
    world = scene.world
    taken, read = [], world.read()
    keys = list(world.layout.objects())
    for number in range(ROUNDS + 1):
        before = world.cpu
        fill(world.consul, keys)
        sent = world.settle()
        if number:
            assert sent == 0, f"{sent} responses for what did not change"
            taken.append(world.cpu - before)
    return Figures.of(taken, read, keys=len(keys))
