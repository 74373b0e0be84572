"""Runs cases: those of one size that share a world one after the other, then those that are alone."""

import itertools
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from tests.benchmarks.case import Case
from tests.benchmarks.results import Result
from tests.benchmarks.scene import Scene, loop_milliseconds

Job = tuple[Case, int]
Kept = TypeVar("Kept")


def plan(cases: Sequence[Case], sizes: Sequence[int], *, full: bool) -> list[Job]:
    """What to measure: each case at its sizes, or at those that are given."""
    return [(case, size) for case in cases for size in (sizes or case.sizes(full=full))]


def run_jobs(jobs: Sequence[Job], changes: int, keep: Callable[[Result], Kept], console: Console) -> list[Job]:
    """Hands over results as they come; the jobs that failed, which do not stop the others."""
    failed: list[Job] = []
    for group in _groups(jobs):
        with tempfile.TemporaryDirectory() as folder, Scene(group[0][1], changes, Path(folder)) as scene:
            failed += [job for job in group if not _run_one(job, scene, keep, console)]
    return failed


def _groups(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    shared = sorted((job for job in jobs if not job[0].alone), key=lambda job: (job[1], job[0].order, job[0].name))
    for _, group in itertools.groupby(shared, key=lambda job: job[1]):
        yield list(group)
    for job in jobs:
        if job[0].alone:
            yield [job]


def _run_one(job: Job, scene: Scene, keep: Callable[[Result], Kept], console: Console) -> bool:
    case, size = job
    label, started = f"{case.name.replace('_', ' ')}, {size:,} {case.noun}", time.monotonic()
    try:
        before = loop_milliseconds()
        figures = case.run(scene)
        result = Result.of(case, size, figures, (before + loop_milliseconds()) / 2)
    except Exception:
        console.print(f"{label}: failed\n{traceback.format_exc()}", markup=False, highlight=False)
        return False
    keep(result)
    console.print(f"{label}: {result.median:,.0f} {result.unit} ({time.monotonic() - started:.0f} s)", highlight=False)
    return True
