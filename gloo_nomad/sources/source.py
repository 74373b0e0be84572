"""What every source is: something that says what is different in one place of the world, for ever.

A source that cannot read sends nothing, tries again for ever, and shows why in its ``SourceState``: an error is not an
empty list, so what was known stays in service.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

import structlog

from gloo_nomad.clients.http import WorldError
from gloo_nomad.store.change import Change

log = structlog.get_logger(__name__)

T = TypeVar("T")
_QUEUE: Final = 16
_LONG_FAILURE: Final = 30.0
"""Seconds after which a failure that goes on is logged again."""
_REQUEST: Final = re.compile(r", [A-Z]+ \S+: ")
"""The part of an error that differs when one server fails many requests for one reason."""


@dataclass(slots=True)
class SourceState:
    """How a source is doing: for /healthz, /readyz and metrics.

    It is ``listed`` when each of its parts was read once. ``since`` is when the present condition, healthy or failing,
    began (seconds since the epoch).
    """

    name: str
    parts: set[str] = field(default_factory=set)
    """What has not been read yet."""
    errors: dict[str, str] = field(default_factory=dict)
    """What cannot be read now, and why."""
    since: float = field(default_factory=time.time)
    changes: int = 0
    """How many changes were sent."""
    _listed: bool = False
    _failing: Counter[str] = field(default_factory=Counter)
    """How many parts cannot be read, by reason. Of a thousand services that fail alike one is in the log."""
    _logged: dict[str, float] = field(default_factory=dict)
    """When each reason was logged last."""

    @property
    def listed(self) -> bool:
        """Whether everything was read once; it stays so when more is to be read later."""
        self._listed = self._listed or not self.parts
        return self._listed

    @property
    def last_error(self) -> str:
        """Why something cannot be read now; empty if all can."""
        return next(iter(self.errors.values()), "")

    def expect(self, part: str) -> None:
        """Something is to be read before the source counts as listed."""
        self.parts.add(part)

    def forget(self, part: str) -> None:
        """Something is not watched any more."""
        self.parts.discard(part)
        self._end_failure(part)

    def sent(self, part: str) -> None:
        """What was read of a part reached whoever listens to the source."""
        self.parts.discard(part)
        self.changes += 1

    def succeed(self, part: str) -> None:
        """A part could be read."""
        if self._end_failure(part):
            log.info("source recovered", source=self.name, part=part)

    def fail(self, part: str, error: str) -> None:
        """A part cannot be read; what is known of it stays as it is."""
        if not self.errors:
            self.since = time.time()
        if self.errors.get(part) != error:
            self._end_failure(part)
            self.errors[part] = error
            self._failing[_reason(error)] += 1
        now = time.monotonic()
        if now - self._logged.get(_reason(error), -_LONG_FAILURE) >= _LONG_FAILURE:
            log.warning("source failing", source=self.name, part=part, error=error)
            self._logged[_reason(error)] = now

    def _end_failure(self, part: str) -> bool:
        """Whether a part was failing, and no other one fails for the same reason."""
        error = self.errors.pop(part, None)
        if error is None:
            return False
        if not self.errors:
            self.since = time.time()
        reason = _reason(error)
        self._failing[reason] -= 1
        if self._failing[reason]:
            return False
        del self._failing[reason]
        self._logged.pop(reason, None)
        return True

    def reporter(self, part: str) -> Callable[[WorldError | None], None]:
        """Takes what a client's loop reports about a part."""

        def report(failure: WorldError | None) -> None:
            if failure is None:
                self.succeed(part)
            else:
                self.fail(part, str(failure))

        return report


def _reason(error: str) -> str:
    return _REQUEST.sub(": ", error, count=1)


class Source(Protocol):
    """Says for ever what is different in one place."""

    name: str
    """Goes into each ``Change``: an object belongs to the source that named it last."""
    state: SourceState

    def watch_changes(self) -> AsyncIterator[Change]:
        """Yields changes for ever, the first ones at once; raises nothing that the world does wrong."""


async def merge(parts: Mapping[str, AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
    """What any of these iterators yields, as it comes.

    Each runs in a task of its own, named by its key. A slow consumer makes them wait. An exception of one ends all.
    """
    queue: asyncio.Queue[T | _End] = asyncio.Queue(_QUEUE)
    tasks = [asyncio.create_task(_pump(part, queue), name=name) for name, part in parts.items()]
    running = len(tasks)
    try:
        while running:
            item = await queue.get()
            if not isinstance(item, _End):
                yield item
                continue
            running -= 1
            if item.failure is not None:
                raise item.failure
    finally:
        await cancel(tasks)


async def cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Ends tasks and waits until they have ended, whatever they raise."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)


def raise_defects(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Only a defect of this program ends a task that runs for ever: it must not stay hidden."""
    for task in tasks:
        if task.done():
            task.result()


@dataclass(frozen=True, slots=True)
class _End:
    """An iterator ended, or failed."""

    failure: Exception | None = None


async def _pump(part: AsyncGenerator[T, None], queue: "asyncio.Queue[T | _End]") -> None:
    try:
        async with aclosing(part):
            async for item in part:
                await queue.put(item)
    except Exception as failure:  # handed to whoever reads the queue
        await queue.put(_End(failure))
    else:
        await queue.put(_End())
