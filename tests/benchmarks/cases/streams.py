"""A change is published to N delta streams: from there until a stream has it, over all streams."""

from typing import Final

from tests.benchmarks import many_streams
from tests.benchmarks.case import LOOP, Figures
from tests.benchmarks.scene import Scene

QUICK: Final = (1, 200)
FULL: Final = (1, 200, 1_000)
NOUN: Final = "streams"
YARDSTICK: Final = LOOP
ALONE: Final = True
SECONDS: Final = 12.0
INTERVAL: Final = 0.25


def run(scene: Scene) -> Figures:
    """Twelve seconds with four changes in each."""
    found = many_streams.measure(scene.size, SECONDS, INTERVAL)
    assert (found.missed, found.ended) == (0, 0), f"{found.missed} changes missed, {found.ended} streams ended"
    more = {"cpu_ms": found.cpu_per_change * 1000, "memory_mib": found.memory_after}
    return Figures(found.median, found.p99, found.largest, found.changes, None, more)
