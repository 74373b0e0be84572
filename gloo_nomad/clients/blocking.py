"""Blocking queries: ask again with the last index, and the server answers when something is new.

The rules are Consul's ("Implementation Details" of https://developer.hashicorp.com/consul/api-docs/features/blocking),
and Nomad has the same ones. They are easily lost, so they stand in one pure function, ``follow_index``; ``watch_index``
is the loop around it: back-off with jitter after failures, and a pace that it never exceeds.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

import tenacity
from tenacity.wait import wait_base

from gloo_nomad.clients.http import WorldError

_EARLY: Final = 0.95
"""An answer that took less than this part of the wait did not come because the time ran out."""
WAIT_GRACE: Final = 10.0
"""Seconds that a client waits longer than the server said it would take at most."""


@dataclass(frozen=True, slots=True)
class Step:
    """What follows from the index of an answer."""

    index: int
    """What to ask with next; 0 asks without waiting."""
    changed: bool
    """Whether the answer may differ from the one before."""
    trusted: bool
    """Whether versions inside the answer can be compared with those of the answer before."""


def follow_index(asked: int, answered: int, *, early: bool = False) -> Step:
    """What the rules say about an answer with index *answered* to a question with index *asked*.

    Equal means that only the time ran out, lower that the server started anew. After the first answer 0 must not be
    sent, because the query would not wait. Equal *early*, before the time ran out, means that the data was exchanged
    below the query: Consul ends queries like this when a snapshot is restored, and another one with the old index
    would wait for what may never come.
    """
    if asked == 0:
        return Step(max(answered, 1), changed=True, trusted=False)
    if answered < asked:
        return Step(0, changed=True, trusted=False)
    if answered == asked and early:
        return Step(0, changed=False, trusted=False)
    return Step(answered, changed=answered > asked, trusted=True)


def client_timeout(wait: float) -> float:
    """Seconds after which a client may give up: the server adds up to a sixteenth to *wait* as jitter."""
    return wait * 17 / 16 + WAIT_GRACE


class Indexed(Protocol):
    """An answer that says as of which index it holds."""

    @property
    def index(self) -> int:
        """The server's index."""


A = TypeVar("A", bound=Indexed)
Report = Callable[[WorldError | None], None]
"""Told each failure, and None after each answer."""


@dataclass(frozen=True, slots=True)
class Seen(Generic[A]):
    """An answer worth looking at. Not ``trusted``: first, after a failure, or of a server that started anew."""

    answer: A
    trusted: bool


@dataclass(slots=True)
class Pace:
    """A bound on how often something happens: *burst* times at once, then every *interval* seconds."""

    interval: float = 0.1
    burst: int = 10
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _due: float = float("-inf")

    async def wait(self) -> None:
        """Returns when it may happen again."""
        now = self.clock()
        self._due = max(self._due, now - self.interval * self.burst) + self.interval
        if self._due > now:
            await self.sleep(self._due - now)


_BACK_OFF: Final = tenacity.wait_fixed(0.1) + tenacity.wait_random_exponential(multiplier=0.2, max=5)
"""After a failure: 0.1 s and up to twice as much random time as before, at most 5.1 s."""


def retry_for_ever(
    report: Report, *, back_off: wait_base = _BACK_OFF, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> tenacity.AsyncRetrying:
    """Tries again after each ``WorldError``, which *report* is told; success is left to the caller to tell."""

    def failed(state: tenacity.RetryCallState) -> None:
        failure = state.outcome.exception() if state.outcome else None
        report(failure if isinstance(failure, WorldError) else None)

    retried = tenacity.retry_if_exception_type(WorldError)
    return tenacity.AsyncRetrying(retry=retried, wait=back_off, before_sleep=failed, sleep=sleep)


Query = Callable[[int, float], Awaitable[A]]
"""Asks with an index, for at most so many seconds."""


async def watch_index(
    query: Query[A],
    wait: Callable[[], float],
    report: Report = lambda _: None,
    pace: Pace | None = None,
    *,
    every: bool = False,
) -> AsyncGenerator[Seen[A], None]:
    """Asks for ever and yields what may be new, the first answer at once.

    With *every* also answers whose index says that only the time ran out: where the index does not tell all. *wait*
    says, before each question, how many seconds the server may take. A ``WorldError`` is reported and tried again, from
    the start: the server may be another one now. Nothing is yielded for it.
    """
    pace = pace or Pace()
    asked = 0
    while True:
        await pace.wait()
        limit = wait()
        asked, answer, took = await _ask(query, asked, limit, report, pace)
        step = follow_index(asked, answer.index, early=took < limit * _EARLY)
        asked = step.index
        seen = Seen(answer, step.trusted)
        del answer  # nothing may hold a large answer while the next one is waited for
        if step.changed or (every and step.index):
            yield seen
        del seen


async def _ask(query: Query[A], asked: int, wait: float, report: Report, pace: Pace) -> tuple[int, A, float]:
    """The next answer, the index that it was asked with, and the seconds that it took."""
    async for attempt in retry_for_ever(report, sleep=pace.sleep):
        with attempt:
            asked = asked if attempt.retry_state.attempt_number == 1 else 0
            began = pace.clock()
            answer = await query(asked, wait)
    report(None)
    return asked, answer, pace.clock() - began
