"""Bursts become one batch, and a lonely change does not wait."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from hypothesis import given
from hypothesis import strategies as st

from gloo_nomad.api.refs import Ref
from gloo_nomad.app.coalesce import batches, merged
from gloo_nomad.store.change import Change, Entry
from gloo_nomad.store.services import CONSUL_SERVICE, NOMAD_SERVICE, Instance, ServiceInstances
from gloo_nomad.store.store import Store

QUIET = 0.15
LIMIT = 0.6
Queue = asyncio.Queue[int]
Batches = AsyncIterator[list[int]]


def run(scenario: Callable[[Queue, Batches], Awaitable[None]]) -> None:
    """Runs a scenario with a queue and its batches."""

    async def whole() -> None:
        queue: Queue = asyncio.Queue()
        async with asyncio.timeout(20):
            await scenario(queue, batches(queue, QUIET, LIMIT))

    asyncio.run(whole())


def test_a_first_change_does_not_wait() -> None:
    """The first change is a batch at once: no quiet time is waited for."""

    async def scenario(queue: Queue, found: Batches) -> None:
        began = time.monotonic()
        queue.put_nowait(1)
        assert await anext(found) == [1]
        assert time.monotonic() - began < QUIET

    run(scenario)


def test_what_is_there_together_comes_together() -> None:
    """Changes that came before anybody looked are one batch, in their order."""

    async def scenario(queue: Queue, found: Batches) -> None:
        for number in range(100):
            queue.put_nowait(number)
        assert await anext(found) == list(range(100))

    run(scenario)


def test_what_comes_while_one_works_is_collected() -> None:
    """After a batch, changes that follow closely are one batch that ends with a quiet moment."""

    async def scenario(queue: Queue, found: Batches) -> None:
        queue.put_nowait(0)
        assert await anext(found) == [0]

        async def feed() -> None:
            for number in range(1, 5):
                queue.put_nowait(number)
                await asyncio.sleep(QUIET / 5)

        feeding = asyncio.create_task(feed())
        assert await anext(found) == [1, 2, 3, 4]
        await feeding

    run(scenario)


def test_a_stream_without_end_is_cut() -> None:
    """However closely changes follow, a batch is complete after the limit, and none is lost."""

    async def scenario(queue: Queue, found: Batches) -> None:
        queue.put_nowait(-1)
        await anext(found)

        async def feed() -> None:
            number = 0
            while True:
                queue.put_nowait(number)
                number += 1
                await asyncio.sleep(QUIET / 10)

        feeding = asyncio.create_task(feed())
        began = time.monotonic()
        first = await anext(found)
        took = time.monotonic() - began
        second = await anext(found)
        feeding.cancel()

        assert LIMIT * 0.9 < took < LIMIT * 4
        together = first + second
        assert together == list(range(len(together)))

    run(scenario)


def test_after_a_pause_a_change_is_quick_again() -> None:
    """A consumer that waited longer than the quiet time gets the next change at once."""

    async def scenario(queue: Queue, found: Batches) -> None:
        queue.put_nowait(0)
        await anext(found)
        put: list[float] = []

        async def feed() -> None:
            await asyncio.sleep(2 * QUIET)
            queue.put_nowait(1)
            put.append(time.monotonic())

        feeding = asyncio.create_task(feed())
        assert await anext(found) == [1]
        await feeding
        assert time.monotonic() - put[0] < QUIET

    run(scenario)


_REFS = st.sampled_from([Ref("", name) for name in "abc"])
_ENTRIES = st.integers(1, 3).map(lambda port: Entry(ServiceInstances((Instance("10.0.0.1", port, "i"),))))
_CHANGES = st.builds(
    Change,
    st.sampled_from(["one", "other"]),
    st.sampled_from([CONSUL_SERVICE, NOMAD_SERVICE]),
    st.dictionaries(_REFS, _ENTRIES),
    st.frozensets(_REFS),
    st.booleans(),
)


@given(st.lists(_CHANGES, max_size=8))
def test_merged_changes_lead_to_the_same(changes: list[Change]) -> None:
    """A store that takes the merged changes has what one has that takes each of them."""
    each, fewer = Store(), Store()
    for change in changes:
        each.apply(change)
    for change in merged(changes):
        fewer.apply(change)
    for kind in (CONSUL_SERVICE, NOMAD_SERVICE):
        assert dict(fewer.snapshot.of(kind)) == dict(each.snapshot.of(kind))
        assert fewer.sources(kind) == each.sources(kind)


def test_answers_for_many_services_are_one_change() -> None:
    """What one source says of one kind, one service after the other, is put together."""
    entry = Entry(ServiceInstances())
    changes = [Change("one", CONSUL_SERVICE, {Ref("", f"service-{number}"): entry}) for number in range(100)]
    assert [len(change.puts) for change in merged(changes)] == [100]
