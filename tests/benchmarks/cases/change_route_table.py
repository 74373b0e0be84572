"""One route table changes that a virtual service delegates to."""

from collections.abc import Callable
from typing import Final

from tests.benchmarks.case import Figures
from tests.benchmarks.scene import Scene
from tests.benchmarks.world_objects import TABLES, route_table

QUICK: Final = (200, 1_000)
FULL: Final = (200, 1_000, 3_000)


def run(scene: Scene) -> Figures:
    """Every change is of the next one."""
    world = scene.world

    def change(number: int) -> tuple[bytes, Callable[[], None]]:
        marker = f"table-change-{number}-"
        key, text = route_table(number % TABLES, marker)
        return marker.encode(), lambda: world.consul.put(key, text)

    found = world.change(scene.changes, change)
    return Figures.of(found.taken, found.read, cpu_ms=found.cpu)
