"""A tree that is deleted above the shards, over a real agent."""

import asyncio

import pytest

from gloo_nomad.api.kinds import UPSTREAM
from gloo_nomad.api.refs import Ref
from gloo_nomad.demo.consul import ConsulAgent
from tests.servers.test_sources_consul_kv import upstream
from tests.servers.test_sources_kv_shards import SEED, cutting, ref_of, sharded

pytestmark = pytest.mark.consul


@pytest.mark.parametrize("wait", [0.4, 60.0])
def test_a_tree_deleted_above_the_shards(consul: ConsulAgent, root_key: str, wait: float) -> None:
    """Consul's index does not tell it to a shard that a key was deleted of before: its wait does, or all names do."""

    async def run() -> None:
        async with sharded(consul, root_key, how=cutting(wait=wait, settle=5.0 if wait > 1 else 0.5)) as pair:
            writer, listener = pair
            await writer.kv_put(UPSTREAM.key(root_key, Ref("other", "stays")), upstream(Ref("other", "stays"), 1))
            deleted = [ref_of(number) for number in range(0, SEED, 5)]
            for ref in deleted:
                await writer.kv_delete(UPSTREAM.key(root_key, ref))
            await listener.until(lambda: all(listener.value(UPSTREAM, ref) is None for ref in deleted), 30)
            await writer.kv_delete_tree(f"{root_key}/{UPSTREAM.prefix}ns/")
            await listener.until(lambda: len(listener.store.entries(UPSTREAM.name)) == 1, 30)

    asyncio.run(run())
