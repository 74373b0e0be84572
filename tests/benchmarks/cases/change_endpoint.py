"""An instance of a Consul service registers again with another address."""

from collections.abc import Callable
from typing import Final

from tests.benchmarks.case import Figures
from tests.benchmarks.scene import Scene
from tests.benchmarks.world_objects import SERVICES, service_name

QUICK: Final = (200, 1_000)
FULL: Final = (200, 1_000, 3_000)


def run(scene: Scene) -> Figures:
    """Every change is of the next service, to an address that no other has."""
    world = scene.world

    def change(number: int) -> tuple[bytes, Callable[[], str]]:
        name, address = service_name(number % SERVICES), f"10.8.{100 + number // 100}.{100 + number % 100}"
        port = 9000 + number % SERVICES
        return address.encode(), lambda: world.consul.register(name, port, Address=address)

    found = world.change(scene.changes, change)
    return Figures.of(found.taken, found.read, cpu_ms=found.cpu)
