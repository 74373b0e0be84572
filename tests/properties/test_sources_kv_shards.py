"""Watching in shards gives what a plain reader of a real Consul sees, whatever is written meanwhile."""

import asyncio
import itertools
import json

import pytest
from hypothesis import HealthCheck, given, settings
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


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, min_size=4, max_size=20))
def test_shards_agree_with_a_plain_reader(consul: ConsulAgent, story: list[tuple[str, object]]) -> None:
    """After any story of writes, deletes and renames both agree; and shards were never too many."""
    root = f"shards-{next(_roots)}"
    prefix = f"{root}/{UPSTREAM.prefix}"
    connections = Connections(lambda: MOST)
    cutting = Cutting(connections, Bounds(keys=3, size=1500), settle=0.05, wait=0.2, rest=0.01)

    async def run() -> None:
        client, writer = open_client(consul), open_client(consul)
        await play(writer, prefix, ("put", [(name, 1) for name in NAMES[::2]]))
        async with Listener(ConsulKvSource(client, root, (UPSTREAM,), cutting=cutting)) as listener:
            await listener.listed()
            for step in story:
                await play(writer, prefix, step)
            expected = await read_all(writer, prefix)

            def agrees() -> bool:
                entries = listener.store.entries(UPSTREAM.name)
                return {ref: (entry.version, entry.value) for ref, entry in entries.items()} == expected

            await listener.until(agrees, seconds=30)
        await writer.kv_delete_tree(f"{root}/")
        await client.close()
        await writer.close()

    asyncio.run(run())
