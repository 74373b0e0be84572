"""``make bench-check``: is a ratio more than 10 % worse than the one of the release in ``docs/benchmarks.json``?

A ratio is the median of a case over its yardstick, which was measured beside it: the bare read of Consul, or a loop of
fixed work. So the speed of the machine is in both. What looks worse is measured once more, and the better one counts.
The environment chooses as for ``make bench``; what the release did not measure is not compared.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from tests.benchmarks.__main__ import chosen_jobs
from tests.benchmarks.case import Case, find_cases
from tests.benchmarks.results import Result, amount, read_run
from tests.benchmarks.suite import Job, run_jobs

REFERENCE: Final = "docs/benchmarks.json"
ALLOWED: Final = 1.10
Results = dict[tuple[str, int], Result]


def is_worse(found: Result, reference: Result, floor: float) -> bool:
    """Whether the ratio is more than a tenth above that of the release, and not about nothing."""
    return found.median > floor and found.ratio > reference.ratio * ALLOWED


def worse_jobs(jobs: Sequence[Job], found: Mapping[tuple[str, int], Result], reference: Results) -> list[Job]:
    """Those of them that are worse, or were not measured."""
    return [
        (case, size)
        for case, size in jobs
        if (result := found.get((case.name, size))) is None or is_worse(result, reference[case.name, size], case.floor)
    ]


def check(jobs: Sequence[Job], reference: Results, changes: int, console: Console) -> tuple[Results, list[Job]]:
    """Measures, those that are worse twice; the better results, and what remains worse or failed."""
    found: Results = {}

    def keep(result: Result) -> None:
        before = found.get(result.key)
        found[result.key] = result if before is None or result.ratio < before.ratio else before

    worse = list(jobs)
    for _ in range(2):
        run_jobs(worse, changes, keep, console)
        worse = worse_jobs(jobs, found, reference)
    return found, worse


def build_comparison(found: Results, reference: Results, floors: Mapping[str, float]) -> Table:
    """One row for each result."""
    table = Table("case", "size", "median", "of the release", "ratio", "of the release", "")
    for key, result in sorted(found.items()):
        other = reference[key]
        change = f"{(result.ratio / other.ratio - 1) * 100:+.0f} %" if other.ratio else ""
        verdict = f"WORSE {change}" if is_worse(result, other, floors[result.case]) else change
        medians = (amount(result.median, result.unit), amount(other.median, other.unit))
        table.add_row(result.case, f"{result.size:,}", *medians, f"{result.ratio:.2f}", f"{other.ratio:.2f}", verdict)
    return table


def main() -> int:
    """1 if something is worse."""
    console = Console(width=max(Console().width, 120))
    path = Path(os.environ.get("BENCH_REFERENCE") or REFERENCE)
    reference: Results = dict(read_run(path).by_key)
    jobs = [(case, size) for case, size in chosen_jobs() if (case.name, size) in reference]
    if not jobs:
        console.print(f"nothing of what is chosen is in {path}")
        return 1
    found, worse = check(jobs, reference, int(os.environ.get("CHANGES") or 20), console)
    console.print(build_comparison(found, reference, _floors(find_cases())))
    for case, size in worse:
        said = "worse by more than 10 %" if (case.name, size) in found else "failed"
        console.print(f"{case.name}, {size:,}: {said}", highlight=False)
    return 1 if worse else 0


def _floors(cases: Sequence[Case]) -> dict[str, float]:
    return {case.name: case.floor for case in cases}


if __name__ == "__main__":
    sys.exit(main())
