"""One static upstream gets another address."""

from collections.abc import Callable
from typing import Final

from tests.benchmarks.case import Figures
from tests.benchmarks.objects import upstream
from tests.benchmarks.scene import Scene

QUICK: Final = (200, 1_000)
FULL: Final = (200, 1_000, 3_000)


def run(scene: Scene) -> Figures:
    """Every change is of another one, to an address that no other has."""
    world = scene.world

    def change(number: int) -> tuple[bytes, Callable[[], None]]:
        which, address = (number * 37) % world.layout.upstreams, f"10.7.{100 + number // 100}.{100 + number % 100}"
        key = f"gloo/gloo.solo.io/v1/Upstream/gloo-system/upstream-{which:04d}"
        text = upstream(which).replace("127.0.0.1", address)
        return address.encode(), lambda: world.consul.put(key, text)

    found = world.change(scene.changes, change)
    return Figures.of(found.taken, found.read, cpu_ms=found.cpu)
