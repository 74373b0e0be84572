"""What a case of the suite is: a module in ``tests/benchmarks/cases``, found by walking the package.

Its first line says what is measured, ``QUICK`` and ``FULL`` for which sizes, and ``run(scene)`` measures one of them.
What else a module may say stands at the fields of ``Case``.
"""

import importlib
import pkgutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from tests.benchmarks import cases
from tests.benchmarks.scene import Scene

READ: Final = "read"
"""The yardstick is what Consul needs to hand over all virtual services to a plain reader."""
LOOP: Final = "loop"
"""The yardstick is a loop of parsing and encoding in this process: the speed of the machine."""


@dataclass(frozen=True)
class Figures:
    """What was found: milliseconds unless the case has another unit, and further figures by name and unit."""

    median: float
    p99: float
    largest: float
    count: int
    read: float | None = None
    """Milliseconds of the bare read of Consul at the same time, if the case has a Consul."""
    more: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, taken: Sequence[float], read: float | None = None, **more: float) -> Self:
        """Figures of single measurements."""
        ordered = sorted(taken)
        p99 = ordered[round(0.99 * (len(ordered) - 1))]
        return cls(statistics.median(ordered), p99, ordered[-1], len(ordered), read, more)


@dataclass(frozen=True)
class Case:
    """One case; the fields after ``run`` may be left out of a module."""

    name: str
    title: str
    quick: Sequence[int]
    full: Sequence[int]
    run: Callable[[Scene], Figures]
    noun: str = "virtual services"
    """What a size counts."""
    unit: str = "ms"
    yardstick: str = READ
    alone: bool = False
    """It starts its servers itself; others of one size share a Consul, a daemon and a client."""
    order: int = 0
    """Those with a higher one come later: they leave more behind."""
    floor: float = 0.0
    """Below this nothing is worse than anything else when ratios are compared."""

    def sizes(self, *, full: bool) -> Sequence[int]:
        """What to measure."""
        return self.full if full else self.quick


def find_cases() -> list[Case]:
    """All cases, in the order in which they are measured."""
    found = (_load(info.name) for info in pkgutil.iter_modules(cases.__path__))
    return sorted(found, key=lambda case: (case.alone, case.order, case.name))


def choose_cases(words: Sequence[str]) -> list[Case]:
    """Cases with a part of their name that begins like one of the words, singular or plural; all without any.

    Raises ``SystemExit`` for a word that fits none.
    """
    every = find_cases()
    fitting = {word: [case for case in every if f"_{word.rstrip('s')}" in f"_{case.name}"] for word in words}
    for word, chosen in fitting.items():
        if not chosen:
            raise SystemExit(f"no case has {word!r} in its name: {', '.join(case.name for case in every)}")
    return [case for case in every if not words or any(case in chosen for chosen in fitting.values())]


def _load(name: str) -> Case:
    module: Any = importlib.import_module(f"{cases.__name__}.{name}")
    optional = ("noun", "unit", "yardstick", "alone", "order", "floor")
    said = {key: getattr(module, key.upper()) for key in optional if hasattr(module, key.upper())}
    title = (module.__doc__ or "").partition("\n")[0].rstrip(".")
    return Case(name, title, module.QUICK, module.FULL, module.run, **said)
