"""What a run says at its end, and whether that is good enough."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.soak.churn import Churn
from tests.soak.load import Load
from tests.soak.samples import Growth, Sample, by_block, fit

BLOCK_SECONDS: Final = 30.0
"""About one round of changes and trouble."""
SURE_SECONDS: Final = 900.0
"""From so long on the slope is judged by its bound. In a shorter time caches still fill and pages are still touched."""
SHORT_BOUND: Final = 20.0
"""Percent an hour that fail a shorter run, if they are beyond doubt."""
_MORE: Final = 8
"""Tasks, threads or descriptors that the last third may have more than the first, at the median."""


@dataclass(frozen=True)
class Outcome:
    """All that was counted."""

    load: Load
    samples: Sequence[Sample]
    warm_up: float
    """Seconds at the beginning that do not count for growth."""
    churn: Churn
    troubles: int

    @property
    def warm(self) -> list[Sample]:
        """The samples that count."""
        return [sample for sample in self.samples if sample.seconds >= self.warm_up]

    @property
    def growth(self) -> Growth:
        """Of the memory after the warm-up."""
        return fit(by_block(self.warm, BLOCK_SECONDS))

    def counts(self, name: str) -> tuple[float, float, int]:
        """Of tasks, descriptors or threads: the median of the first and of the last third, and the most."""
        values = [int(getattr(sample, name)) for sample in self.warm]
        third = max(1, len(values) // 3)
        return statistics.median(values[:third]), statistics.median(values[-third:]), max(values)


def judge(outcome: Outcome, bound: float, log: Path) -> list[str]:
    """What is wrong, in a line each; *bound* is the growth allowed, in percent an hour."""
    return [*_errors(outcome, log), *_growing(outcome, bound)]


def _errors(outcome: Outcome, log: Path) -> Iterator[str]:
    if outcome.load.errors:
        yield f"{outcome.load.errors} errors"
    if not outcome.load.answers.total():
        yield "no request was answered"
    if "Traceback" in log.read_text(errors="replace"):
        yield "the program's log has a traceback"


def _growing(outcome: Outcome, bound: float) -> Iterator[str]:
    growth = outcome.growth
    measured = outcome.warm[-1].seconds - outcome.warm[0].seconds
    if measured < SURE_SECONDS:
        bound = max(bound, SHORT_BOUND) + 3 * growth.percent_error
    if growth.percent > bound:
        yield f"memory grows by {growth.percent:.2f} % an hour; {bound:g} % is the bound"
    for name in ("tasks", "descriptors", "threads"):
        first, last, _ = outcome.counts(name)
        if last > first + _MORE:
            yield f"{name} grow: {first:g} in the first third, {last:g} in the last"


def describe(outcome: Outcome) -> str:
    """The figures."""
    load, churn = outcome.load, outcome.churn
    answers = ", ".join(f"{host} {count:,}" for host, count in sorted(load.answers.items()))
    changes = f"{churn.round} rounds, {churn.changes} edits, slowest served after {churn.slowest:.1f} s"
    lines = [
        f"requests      {load.answers.total():,} ({answers})",
        f"errors        {load.errors}",
        f"changes       {changes}; {outcome.troubles} faults with reconnects",
        f"memory        {_describe_memory(outcome)}",
    ]
    for name in ("tasks", "descriptors", "threads"):
        first, last, most = outcome.counts(name)
        lines.append(f"{name:13} {first:g} in the first third, {last:g} in the last, most {most}")
    blocks = by_block(outcome.samples, BLOCK_SECONDS)
    lines += [f"{moment:11.0f} s {least:7.1f} MiB" for moment, least in _thinned(blocks)]
    return "\n".join([*lines, *load.reasons])


def _describe_memory(outcome: Outcome) -> str:
    growth, warm = outcome.growth, outcome.warm
    measured = f"{warm[-1].seconds - warm[0].seconds:.0f} s after a warm-up of {outcome.warm_up:.0f} s"
    slope = f"slope {growth.percent:+.2f} % an hour (standard error {growth.percent_error:.2f})"
    return f"{growth.mean:.1f} MiB, {slope}, {measured}; most {max(sample.memory for sample in warm):.1f} MiB"


def _thinned(points: Sequence[tuple[float, float]], most: int = 20) -> Sequence[tuple[float, float]]:
    """At most so many of them."""
    return points[:: max(1, -(-len(points) // most))]
