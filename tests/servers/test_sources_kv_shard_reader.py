"""What a shard that is heavier than it should be reads of a real Consul when something in it changes."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gloo_nomad.clients.address import parse_address
from gloo_nomad.clients.consul import ConsulClient, ConsulOptions
from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.sources.kv_cut import Bounds, Shard
from gloo_nomad.sources.kv_shard_reader import ShardReader

pytestmark = pytest.mark.consul

COUNT = 40
WAIT = 0.3


def run(
    consul: ConsulAgent,
    root: str,
    story: Callable[[ConsulClient, ShardReader, int], Awaitable[None]],
    consistency: str = "default",
) -> None:
    """Plays a story with a reader of keys ``u-00`` to ``u-39`` in parts of ten, which has read them as of an index."""

    async def play() -> None:
        client = ConsulClient(ConsulOptions(parse_address(consul.address, 8500), consistency=consistency))
        try:
            for number in range(COUNT):
                await client.kv_put(key(root, number), b"old")
            sizes = {key(root, number): 10 for number in range(COUNT)}
            reader = ShardReader(client, Shard(f"{root}/u-"), Bounds(keys=10), sizes, asyncio.Semaphore(4))
            first = await reader.ask(0, WAIT)
            assert len(first.pairs) == COUNT
            assert not first.kept
            await story(client, reader, first.index)
        finally:
            await client.close()

    asyncio.run(play())


def key(root: str, number: int) -> str:
    """A key."""
    return f"{root}/u-{number:02d}"


def test_only_the_part_that_changed_is_read(consul: ConsulAgent, root_key: str) -> None:
    """The rest is told by name; once nothing happens all is read together once, and then nothing any more."""

    async def story(client: ConsulClient, reader: ShardReader, index: int) -> None:
        everything = {key(root_key, number) for number in range(COUNT)}
        await client.kv_put(key(root_key, 27), b"new")
        answer = await reader.ask(index, WAIT)
        assert {pair.key for pair in answer.pairs} == {key(root_key, number) for number in range(20, 30)}
        assert [pair.key for pair in answer.pairs if pair.text() == b"new"] == [key(root_key, 27)]
        assert answer.names == everything
        together = await reader.ask(answer.index, WAIT)
        assert ({pair.key for pair in together.pairs}, together.index) == (everything, answer.index)
        quiet = await reader.ask(together.index, WAIT)
        assert (len(quiet.pairs), quiet.index) == (0, answer.index)
        assert quiet.names == everything

    run(consul, root_key, story)


def test_changes_in_several_parts_at_once(consul: ConsulAgent, root_key: str) -> None:
    """An edit, a new key in another part, a key that is gone from a third: each is told by one answer."""

    async def story(client: ConsulClient, reader: ShardReader, index: int) -> None:
        await client.kv_put(key(root_key, 3), b"new")
        await client.kv_put(f"{root_key}/u-2x", b"new")
        await client.kv_delete(key(root_key, 35))
        answer = await reader.ask(index, WAIT)
        found = {pair.key: pair.text() for pair in answer.pairs}
        assert (found[key(root_key, 3)], found[f"{root_key}/u-2x"]) == (b"new", b"new")
        assert key(root_key, 13) in answer.kept
        assert answer.names == {key(root_key, number) for number in range(COUNT)} - {key(root_key, 35)} | {
            f"{root_key}/u-2x"
        }

    run(consul, root_key, story)


def test_a_new_key_beside_all_parts(consul: ConsulAgent, root_key: str) -> None:
    """It is read, though no name before began like it."""

    async def story(client: ConsulClient, reader: ShardReader, index: int) -> None:
        await client.kv_put(f"{root_key}/u-y", b"new")
        answer = await reader.ask(index, WAIT)
        assert f"{root_key}/u-y" in {pair.key for pair in answer.pairs}
        assert len(answer.names) == COUNT + 1

    run(consul, root_key, story)


def test_a_light_shard_is_read_as_one(consul: ConsulAgent, root_key: str) -> None:
    """Parts would cost more questions than they save."""

    async def story(client: ConsulClient, reader: ShardReader, index: int) -> None:
        reader.bounds = Bounds(keys=COUNT)
        for number in range(10, COUNT):
            await client.kv_delete(key(root_key, number))
        answer = await reader.ask(index, WAIT)
        assert answer.names == {key(root_key, number) for number in range(10)}
        await client.kv_put(key(root_key, 5), b"new")
        answer = await reader.ask(answer.index, WAIT)
        assert (len(answer.pairs), answer.kept) == (10, frozenset())

    run(consul, root_key, story)


def test_stale_answers_are_not_put_together(consul: ConsulAgent, root_key: str) -> None:
    """Each may come from another server; one of them may be behind."""

    async def story(client: ConsulClient, reader: ShardReader, index: int) -> None:
        await client.kv_put(key(root_key, 27), b"new")
        answer = await reader.ask(index, WAIT)
        assert (len(answer.pairs), answer.kept) == (COUNT, frozenset())

    run(consul, root_key, story, consistency="stale")
