"""Watching the keys of one kind: by one query while they are few, by shards when they are many."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from gloo_nomad.clients.consul import ConsulClient
from gloo_nomad.sources.kv_cut import Shard, cut
from gloo_nomad.sources.kv_prefix import PrefixChange, PrefixKeys, watch_prefix
from gloo_nomad.sources.kv_shards import Cutting, Place, ShardedKeys
from gloo_nomad.sources.source import cancel

_LONGEST_SETTLE: Final = 640.0
_CUT_FROM: Final = 2.0
"""Shards' worth of keys from which on a kind is cut."""


async def watch_kind(client: ConsulClient, place: Place, cutting: Cutting) -> AsyncGenerator[PrefixChange, None]:
    """Yields for ever what is different: all there is first, and again whenever it cannot be told by parts."""
    keys = PrefixKeys()
    settle = cutting.settle
    while True:
        whole = _WholeKeys(client, place, cutting, keys)
        async with aclosing(whole.watch(settle)) as changes:
            async for change in changes:
                yield change
                del change  # as in watch_index: its pairs hold the whole answer
        sharded = ShardedKeys(client, place, cutting, keys)
        async with aclosing(sharded.watch(whole.shards)) as changes:
            async for change in changes:
                yield change
                del change
        settle = min(2 * settle, _LONGEST_SETTLE) if sharded.limited else cutting.settle


async def _first(changes: AsyncGenerator[PrefixChange, None]) -> PrefixChange:
    return await anext(changes)


@dataclass(slots=True)
class _WholeKeys:
    """The keys of a kind, watched by one query."""

    client: ConsulClient
    place: Place
    cutting: Cutting
    keys: PrefixKeys
    shards: frozenset[Shard] = frozenset()
    """What to cut it into, once ``watch`` has ended."""
    _due: float = 0.0
    """When to look whether it can be cut."""

    async def watch(self, settle: float) -> AsyncGenerator[PrefixChange, None]:
        """Yields what is different until the kind is cut, after *settle* seconds or later."""
        place = self.place
        self._due = asyncio.get_running_loop().time() + settle
        changes = watch_prefix(self.client, place.prefix, place.wait, place.report, self.keys)
        async with aclosing(changes):
            while (change := await self._next(changes)) is not None:
                yield change
                del change
                self._allot()

    async def _next(self, changes: AsyncGenerator[PrefixChange, None]) -> PrefixChange | None:
        """The next change; None when the kind is cut."""
        loop = asyncio.get_running_loop()
        following = asyncio.create_task(_first(changes))
        try:
            while not (await asyncio.wait({following}, timeout=max(0.0, self._due - loop.time())))[0]:
                if self._cut():
                    return None
                self._due = loop.time() + self.cutting.settle
            return following.result()
        finally:
            await cancel((following,))

    def _allot(self) -> int:
        """How many shards the kind should have. All kinds ask before the first is cut: so each gets what is fair."""
        sizes, connections = self.keys.sizes, self.cutting.connections
        weight = self.cutting.bounds.weight(len(sizes), sum(sizes.values()))
        if weight < _CUT_FROM:
            connections.forget(self.place.kind)
            return 0
        return connections.allot(self.place.kind, weight)

    def _cut(self) -> bool:
        """Whether there are shards that are worth it."""
        most = min(self._allot(), self.cutting.connections.free())
        self.shards = cut(self.keys.sizes, self.place.prefix, most, self.cutting.bounds) if most else frozenset()
        return len(self.shards) > 1
