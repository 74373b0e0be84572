"""``make bench``: the figures of the README, printed as a table and written as JSON.

``SIZES=200,1000`` chooses sizes, ``CHANGES=20`` the number of changes measured, ``BENCH_JSON=file`` where to write.
"""

import dataclasses
import json
import os
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.measure import Figures, measure

SIZES = {1: 1, 200: 100, 1_000: 100, 3_000: 300, 10_000: 300}
DEFAULT_SIZES = "200,1000,3000"


def main() -> None:
    """Measures each size and prints what was found."""
    sizes = [int(size) for size in os.environ.get("SIZES", DEFAULT_SIZES).split(",")]
    changes = int(os.environ.get("CHANGES", "20"))
    console = Console(width=max(Console().width, 120))
    results = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            results.append(measure(size, SIZES.get(size, 100), changes, Path(folder)))
        console.print(f"{size} virtual services measured")
    console.print(build_table(results))
    target = os.environ.get("BENCH_JSON")
    if target:
        Path(target).write_text(json.dumps([dataclasses.asdict(result) for result in results], indent=2) + "\n")


def build_table(results: list[Figures]) -> Table:
    """One row for each size."""
    table = Table("virtual services", "load to served", "change to served, median (max)", "CPU per change",
                  "memory", "idle CPU", "routes in all", "bare Consul read")  # fmt: skip
    for row in results:
        table.add_row(
            f"{row.virtual_services:,}",
            f"{row.load:.2f} s",
            f"{row.change_median * 1000:.0f} ms ({row.change_max * 1000:.0f})",
            f"{row.cpu_per_change:.3f} s",
            f"{row.memory:.0f} MiB",
            f"{row.idle_cpu * 100:.1f} %",
            f"{row.route_bytes / 1e6:.2f} MB",
            f"{row.consul_read * 1000:.0f} ms",
        )
    return table


if __name__ == "__main__":
    main()
