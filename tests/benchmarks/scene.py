"""What a case gets: its size, a folder, and on request the world that cases of this size share."""

import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec
import yaml

from tests.benchmarks.objects import virtual_service
from tests.benchmarks.world import World, opened_world

_ROUNDS: Final = 7
_DOCUMENTS: Final = 12


@dataclass
class Scene:
    """Ends the world when it is left."""

    size: int
    changes: int
    """How many single changes are measured."""
    folder: Path
    _stack: ExitStack = field(default_factory=ExitStack)
    _world: World | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def world(self) -> World:
        """The world, warmed up."""
        if self._world is None:
            self._world = self._stack.enter_context(opened_world(self.size, self.folder))
            self._world.warm_up()
        return self._world


def loop_milliseconds() -> float:
    """The median time of parsing a few virtual services and encoding them as JSON: the speed of this machine."""
    text, taken = virtual_service(1, 10), []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        for _ in range(_DOCUMENTS):
            msgspec.json.encode(yaml.load(text, Loader=yaml.CSafeLoader))
        taken.append((time.perf_counter() - started) * 1000)
    return statistics.median(taken)
