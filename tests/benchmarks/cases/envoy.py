"""A real Envoy in the loop: from the write of a new virtual service to Consul KV to the first 200 through Envoy."""

from typing import Final

from tests.benchmarks import envoy_in_the_loop
from tests.benchmarks.case import Figures
from tests.benchmarks.scene import Scene

QUICK: Final = (200,)
FULL: Final = (20, 200, 1_000, 3_000, 10_000)
ALONE: Final = True


def run(scene: Scene) -> Figures:
    """Routes are plain, as in what the marks were taken from."""
    found = envoy_in_the_loop.measure(scene.size, scene.changes, scene.folder)
    return Figures(
        found.answer,
        found.answer_p99,
        found.answer_max,
        scene.changes,
        found.consul_read,
        {
            "response_ms": found.response,
            "envoys_own_ms": found.envoy,
            "cpu_ms": found.gloo_cpu,
            "envoys_cpu_ms": found.envoy_cpu,
        },
    )
