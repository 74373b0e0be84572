"""What the program uses, once a second: memory, tasks, descriptors, and how they grow."""

import asyncio
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import psutil

from gloo_nomad.demo.fetch import fetch

MIB: Final = 1024 * 1024
_TASKS: Final = re.compile(r"^gloo_nomad_tasks (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Sample:
    """One look at the process."""

    seconds: float
    """Since the start of the run."""
    memory: float
    """Resident, MiB."""
    tasks: int
    descriptors: int
    threads: int


@dataclass(frozen=True)
class Growth:
    """A straight line through samples."""

    mean: float
    per_hour: float
    error: float
    """The standard error of ``per_hour``, by means of blocks, because neighbours resemble each other."""

    @property
    def percent(self) -> float:
        """Growth an hour, in percent of the mean."""
        return 100 * self.per_hour / self.mean

    @property
    def percent_error(self) -> float:
        """The same for the standard error."""
        return 100 * self.error / self.mean


def fit(points: Sequence[tuple[float, float]]) -> Growth:
    """Least squares through (seconds, value)."""
    times, values = [time for time, _ in points], [value for _, value in points]
    line = statistics.linear_regression(times, values)
    rest = [value - line.intercept - line.slope * time for time, value in points]
    spread = sum((time - statistics.fmean(times)) ** 2 for time in times)
    error = (sum(value * value for value in rest) / max(1, len(rest) - 2) / spread) ** 0.5
    return Growth(statistics.fmean(values), line.slope * 3600, error * 3600)


def by_block(samples: Sequence[Sample], seconds: float) -> list[tuple[float, float]]:
    """The least memory of each block of so many seconds, and when it began.

    The least one is what is kept: what a burst takes and gives back says nothing about the long run.
    """
    blocks: dict[int, list[float]] = {}
    for sample in samples:
        blocks.setdefault(int(sample.seconds // seconds), []).append(sample.memory)
    return [(number * seconds, min(values)) for number, values in sorted(blocks.items())]


@dataclass
class Sampler:
    """Looks at a process for as long as ``watch`` runs."""

    pid: int
    admin_port: int
    began: float = field(default_factory=time.monotonic)
    samples: list[Sample] = field(default_factory=list)

    async def watch(self, interval: float = 1.0) -> None:
        """For ever; what the process is busy with meanwhile only delays a look."""
        process = psutil.Process(self.pid)
        while True:
            self.samples.append(await asyncio.to_thread(self._look, process))
            await asyncio.sleep(interval)

    def _look(self, process: psutil.Process) -> Sample:
        found = _TASKS.search(fetch(self.admin_port, "/metrics", timeout=60.0).text)
        assert found is not None, "no count of tasks among the metrics"
        return Sample(
            time.monotonic() - self.began,
            process.memory_info().rss / MIB,
            int(float(found[1])),
            process.num_fds(),
            process.num_threads(),
        )
