"""Watching in shards gives what a plain reader of a real Consul sees, whatever is written meanwhile."""

import asyncio
import itertools
import json
from contextlib import AsyncExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gloo_nomad.api import codec
from gloo_nomad.api.kinds import UPSTREAM
from gloo_nomad.api.refs import Ref
from gloo_nomad.clients.consul import ConsulClient
from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.sources.consul_kv import ConsulKvSource
from gloo_nomad.sources.kv_connections import Connections
from gloo_nomad.sources.kv_cut import Bounds
from gloo_nomad.sources.kv_shards import Cutting
from tests.source_listener import Listener, open_client

pytestmark = pytest.mark.consul

MOST = 12
_roots = itertools.count()

NAMES = [
    f"{space}/{name}" for space in ("n", "n2", "p") for name in ("a", "aa", "ab", "abc", "b", "b-1", "c", "d.e", "é")
]
names = st.sampled_from(NAMES)
steps = st.one_of(
    st.tuples(st.just("put"), st.lists(st.tuples(names, st.integers(1, 5)), min_size=1, max_size=12)),
    st.tuples(st.just("delete"), st.lists(names, min_size=1, max_size=6)),
    st.tuples(st.just("rename"), st.lists(st.tuples(names, names), min_size=1, max_size=8)),
    st.tuples(st.just("drop tree"), st.sampled_from(["n/", "n2/", "p/", ""])),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.02, 0.1, 0.3])),
)


def upstream(name: str, port: int) -> bytes:
    """An object as it is stored; an odd port makes it a long one."""
    namespace, _, name = name.partition("/")
    static = {"hosts": [{"addr": "a" * (300 * (port % 2) + 1), "port": port}]}
    return json.dumps({"metadata": {"name": name, "namespace": namespace}, "static": static}).encode()


async def play(writer: ConsulClient, prefix: str, step: tuple[str, object]) -> None:
    """Does one step."""
    match step:
        case ("put", list(puts)):
            await asyncio.gather(*(writer.kv_put(prefix + name, upstream(name, port)) for name, port in puts))
        case ("delete", list(gone)):
            await asyncio.gather(*(writer.kv_delete(prefix + name) for name in gone))
        case ("rename", list(pairs)):
            for old, new in pairs:
                await writer.kv_put(prefix + new, upstream(new, len(old)))
                await writer.kv_delete(prefix + old)
        case ("drop tree", str(part)):
            await writer.kv_delete_tree(prefix + part)
        case ("wait", float(seconds)):
            await asyncio.sleep(seconds)


async def read_all(client: ConsulClient, prefix: str) -> dict[Ref, tuple[int, object]]:
    """Versions and values as a plain reader sees them."""
    found: dict[Ref, tuple[int, object]] = {}
    for pair in (await client.kv_list(prefix)).pairs:
        namespace, _, name = pair.key.removeprefix(prefix).partition("/")
        ref = Ref(namespace, name)
        found[ref] = (pair.modify_index, codec.decode(UPSTREAM, pair.text(), ref).message)
    return found


CUT_MEANWHILE: list[tuple[str, object]] = [
    ("put", [("p/c", 2), ("n2/é", 3), ("n2/d.e", 4)]),
    ("drop tree", "n2/"),
    ("wait", 0.3),
    ("drop tree", "p/"),
    ("put", [("n2/b-1", 2), ("n/é", 3), ("p/ab", 3), ("n/c", 1), ("n/b", 4)]),
]
"""Names come back while the shard that would have read them ends, because it was empty for a moment."""


async def follow(consul: ConsulAgent, story: list[tuple[str, object]]) -> None:
    """Fails unless a watch in shards comes to what a plain reader sees after *story*."""
    root = f"shards-{next(_roots)}"
    prefix = f"{root}/{UPSTREAM.prefix}"
    connections = Connections(lambda: MOST)
    cutting = Cutting(connections, Bounds(keys=3, size=1500), settle=0.05, wait=0.2, rest=0.01)
    async with AsyncExitStack() as stack:
        client, writer = open_client(consul), open_client(consul)
        stack.push_async_callback(client.close)
        stack.push_async_callback(writer.close)
        await play(writer, prefix, ("put", [(name, 1) for name in NAMES[::2]]))
        source = ConsulKvSource(client, root, (UPSTREAM,), cutting=cutting)
        listener = await stack.enter_async_context(Listener(source))
        await listener.listed()
        for step in story:
            await play(writer, prefix, step)
        expected = await read_all(writer, prefix)

        def agrees() -> bool:
            assert not connections.exceeded()
            entries = listener.store.entries(UPSTREAM.name)
            return {ref: (entry.version, entry.value) for ref, entry in entries.items()} == expected

        await listener.until(agrees, seconds=30)
        await writer.kv_delete_tree(f"{root}/")


@settings(max_examples=30, deadline=None)
@given(st.lists(steps, min_size=4, max_size=20))
def test_shards_agree_with_a_plain_reader(consul: ConsulAgent, story: list[tuple[str, object]]) -> None:
    """After any story of writes, deletes and renames both agree; and shards were never too many."""
    asyncio.run(follow(consul, story))


def test_names_that_come_while_the_cut_changes(consul: ConsulAgent) -> None:
    """A name that was told once is not forgotten when its shard ends before it is read; twelve watches try that."""

    async def follow_some() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(4):  # more would be more connections than Consul lets one client have
                group.create_task(follow(consul, CUT_MEANWHILE))

    for _ in range(3):
        asyncio.run(follow_some())
