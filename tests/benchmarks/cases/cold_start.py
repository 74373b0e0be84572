"""A cold start of N virtual services, and N Consul services of 15 instances each, until all endpoints are served.

Memory and connections to Consul are the most there were until half a minute later.
"""

from typing import Final

from tests.benchmarks import cold_start
from tests.benchmarks.case import LOOP, Figures
from tests.benchmarks.scene import Scene

QUICK: Final = (500,)
FULL: Final = (500, 5_000)
NOUN: Final = "virtual services and as many services"
YARDSTICK: Final = LOOP
ALONE: Final = True


def run(scene: Scene) -> Figures:
    """Once: it is long."""
    found = cold_start.measure(scene.size, scene.folder)
    return Figures.of(
        [found.endpoints * 1000],
        found.consul_read * 1000,
        routes_ms=found.routes * 1000,
        cpu_ms=found.cpu * 1000,
        memory_mib=found.memory,
        connections=found.connections,
    )
