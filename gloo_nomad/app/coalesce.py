"""Bursts become one batch: the first change at once, the rest after a short quiet, and never later than a limit."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from typing import Final, TypeVar

from gloo_nomad.store.change import Change

T = TypeVar("T")

QUIET: Final = 0.010
"""Seconds without a new item after which a batch is complete."""
LIMIT: Final = 0.250
"""Seconds after which a batch is complete even if items keep coming."""


async def batches(queue: asyncio.Queue[T], quiet: float = QUIET, limit: float = LIMIT) -> AsyncIterator[list[T]]:
    """Whatever is in the queue, in batches, for ever.

    An item that arrives after a pause is a batch of its own at once. What arrives while the consumer works, or right
    after it, is collected until nothing came for *quiet* seconds or *limit* seconds have passed.
    """
    loop = asyncio.get_running_loop()
    idle_since = loop.time() - quiet
    while True:
        batch = [await queue.get()]
        started = loop.time()
        _drain(queue, batch)
        if started - idle_since < quiet:
            await _collect(queue, batch, quiet, started + limit)
        yield batch
        idle_since = loop.time()


async def _collect(queue: asyncio.Queue[T], out: list[T], quiet: float, deadline: float) -> None:
    loop = asyncio.get_running_loop()
    while (wait := min(quiet, deadline - loop.time())) > 0:
        try:
            async with asyncio.timeout(wait):
                out.append(await queue.get())
        except TimeoutError:
            return
        _drain(queue, out)


def _drain(queue: asyncio.Queue[T], out: list[T]) -> None:
    while not queue.empty():
        out.append(queue.get_nowait())


def merged(changes: Iterable[Change]) -> list[Change]:
    """The same changes in fewer: those in a row of one source and kind are one, unless one says all there is."""
    result: list[Change] = []
    for change in changes:
        last = result[-1] if result else None
        if last is None or last.complete or change.complete or (last.source, last.kind) != (change.source, change.kind):
            result.append(change)
            continue
        puts = {ref: entry for ref, entry in last.puts.items() if ref not in change.deletes}
        deletes = (last.deletes - change.puts.keys()) | (change.deletes - change.puts.keys())
        result[-1] = replace(last, puts={**puts, **change.puts}, deletes=deletes)
    return result
