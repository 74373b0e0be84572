"""``make bench-page``: the figures in ``docs/benchmarks.json``, ``.md`` and ``.svg`` from what ``make bench`` found.

``BENCH_JSON=file`` is what is taken. Figures of others are numbers that were measured on machines of the same kind.
"""

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.benchmarks.__main__ import DEFAULT_FILE
from tests.benchmarks.case import READ
from tests.benchmarks.envoy_in_the_loop import MARKS
from tests.benchmarks.results import Result, Run, amount, further, read_run

DOCS: Final = Path("docs")
DATA: Final = "benchmarks.json"
PAGE: Final = "benchmarks.md"
PLOT: Final = "benchmarks.svg"

GLOO_EDGE: Final = {200: (2_000, 3.6, 350), 1_000: (8_100, 14.5, 1_178), 3_000: (39_000, 82.0, 3_482)}
"""By virtual services: milliseconds of a change, CPU seconds of it, MiB."""
TRAEFIK: Final = {20: 85, 200: 174, 1_000: 1_160, 3_000: 16_900}
"""Traefik 3.6 with as many hosts and routes in Consul KV: milliseconds of a change until the first 200."""

BEGIN: Final = "<!-- figures, written by make bench-page -->\n"
END: Final = "<!-- end of figures -->\n"

_HEAD: Final = """\
{machine}.

![change to served, by the number of virtual services](benchmarks.svg)

### A change

From the write of one virtual service to Consul KV until its new route is in a delta response. Gloo Edge was measured
with as many objects on a machine of the same kind.

| virtual services | median (p99) | CPU | memory | bare read | ratio | Gloo Edge |
|---|---|---|---|---|---|---|
"""
_ENVOY: Final = """
From the write of a new virtual service of ten plain routes until the first 200 through a real Envoy. Marks are what a
change may take on an idle machine of two cores; Traefik 3.6 had as many hosts and routes in Consul KV.

| virtual services | median (p99) | mark | to the response | Envoy's own | Traefik 3.6 |
|---|---|---|---|---|---|
"""
_CASES: Final = """
### Every case

CPU is that of the daemon, with the statuses that it writes; for a case of changes it is that of one change.
"""


def build_page(page: str, run: Run) -> str:
    """The page with the figures of this run in place of those it has; what is around them is written by hand."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{build_figures(run)}\n{END}{rest.partition(END)[2]}"


def build_figures(run: Run) -> str:
    """All tables."""
    of_case = {name: list(group) for name, group in itertools.groupby(run.results, lambda result: result.case)}
    lines = [_HEAD.format(machine=_describe(run.machine))]
    lines += map(_change_row, of_case.get("change_virtual_service", []))
    lines.append(_ENVOY)
    lines += map(_envoy_row, of_case.get("envoy", []))
    lines.append(_CASES)
    lines += itertools.chain.from_iterable(map(_case_lines, of_case.values()))
    return "".join(lines)


def _describe(machine: Mapping[str, object]) -> str:
    text = (
        "Version {gloo-nomad}, {date}: {cores} cores ({processor}) with a load of {load} before, Consul {consul}, "
        "Envoy {envoy}, Python {python}"
    )
    return text.format(**machine)


def _change_row(row: Result) -> str:
    edge = GLOO_EDGE.get(row.size)
    others = f"{amount(edge[0], 'ms')}, {edge[1]} s CPU, {edge[2]:,} MiB" if edge else ""
    cells = [f"{row.size:,}", _median(row), amount(row.more["cpu_ms"], "ms"), amount(row.more["memory_mib"], "MiB")]
    cells += [amount(row.read or 0.0, "ms"), f"{row.ratio:.2f}", others]
    return _row(cells)


def _envoy_row(row: Result) -> str:
    cells = [f"{row.size:,}", _median(row), _known(MARKS, row.size), amount(row.more["response_ms"], "ms")]
    return _row([*cells, amount(row.more["envoys_own_ms"], "ms"), _known(TRAEFIK, row.size)])


def _known(figures: Mapping[int, float], size: int) -> str:
    return amount(figures[size], "ms") if size in figures else ""


def _case_lines(rows: Sequence[Result]) -> Iterator[str]:
    first = rows[0]
    against = "bare read of Consul" if first.yardstick == READ else "loop"
    yield f"\n**{first.case.replace('_', ' ')}**: {first.title[0].lower()}{first.title[1:]}.\n\n"
    yield _row([first.noun, "median (p99)", "of", "bare read", f"ratio to the {against}", "further"])
    yield "|---|---|---|---|---|---|\n"
    for row in rows:
        read = "" if row.read is None else amount(row.read, "ms")
        yield _row([f"{row.size:,}", _median(row), str(row.count), read, f"{row.ratio:.2f}", further(row)])


def _median(row: Result) -> str:
    return f"{amount(row.median, row.unit)} ({amount(row.p99, row.unit)})"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def main() -> None:
    """Writes the three files."""
    from tests.benchmarks.plot import draw

    run = read_run(Path(os.environ.get("BENCH_JSON") or DEFAULT_FILE))
    run.write(DOCS / DATA)
    page = DOCS / PAGE
    page.write_text(build_page(page.read_text(encoding="utf-8"), run), encoding="utf-8")
    draw(run, DOCS / PLOT)
    print(f"written: {', '.join(str(DOCS / name) for name in (DATA, PAGE, PLOT))}")


if __name__ == "__main__":
    main()
