"""``make bench``: runs the suite, prints a table and writes JSON.

``CASES="change idle"`` takes the cases with one of these words in their name, ``SIZES="200 1000"`` these sizes,
``BENCH=full`` all sizes of a release, ``CHANGES=20`` so many single changes in each case. ``BENCH_JSON=file`` is where
to write; ``BENCH_ADD=1`` keeps what is in that file of other cases.
"""

import os
from pathlib import Path
from typing import Final

from rich.console import Console

from tests.benchmarks.case import choose_cases
from tests.benchmarks.results import Result, Run, build_table, describe_machine, read_run
from tests.benchmarks.suite import Job, plan, run_jobs

DEFAULT_FILE: Final = ".bench/bench.json"


def chosen_jobs() -> list[Job]:
    """What the environment asks for."""
    sizes = [int(size) for size in os.environ.get("SIZES", "").replace(",", " ").split()]
    cases = choose_cases(os.environ.get("CASES", "").replace(",", " ").split())
    return plan(cases, sizes, full=os.environ.get("BENCH") == "full")


def main() -> int:
    """The number of cases that failed."""
    console = Console(width=max(Console().width, 150))
    path = Path(os.environ.get("BENCH_JSON") or DEFAULT_FILE)
    kept = read_run(path).results if os.environ.get("BENCH_ADD") and path.is_file() else ()
    run = Run(describe_machine(), kept)

    def keep(result: Result) -> None:
        nonlocal run
        run = run.joined(result)
        run.write(path)

    failed = run_jobs(chosen_jobs(), int(os.environ.get("CHANGES") or 20), keep, console)
    console.print(build_table(run.results))
    console.print(f"written to {path}", highlight=False)
    for case, size in failed:
        console.print(f"FAILED: {case.name}, {size:,}", highlight=False)
    return len(failed)


if __name__ == "__main__":
    raise SystemExit(main())
