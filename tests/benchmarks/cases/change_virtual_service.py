"""One virtual service changes: from its write to Consul KV to the response.

Memory is that of the daemon afterwards; CPU is that of the daemon with the statuses that it writes.
"""

from collections.abc import Callable
from typing import Final

from tests.benchmarks.case import Figures
from tests.benchmarks.objects import virtual_service
from tests.benchmarks.scene import Scene

QUICK: Final = (200, 1_000)
FULL: Final = (200, 1_000, 3_000, 10_000)


def run(scene: Scene) -> Figures:
    """Every change is of another one."""
    world = scene.world

    def change(number: int) -> tuple[bytes, Callable[[], None]]:
        which, marker = (number * 37) % scene.size, f"edit-{number}-"
        text = virtual_service(which, world.layout.upstreams, marker)
        return marker.encode(), lambda: world.put(which, text)

    found = world.change(scene.changes, change)
    return Figures.of(found.taken, found.read, cpu_ms=found.cpu, memory_mib=world.memory)
