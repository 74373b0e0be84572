"""Reading what differs in one shard.

A question waits for the names below the shard's prefix, whose answer is small also when only the time ran out. When it
wakes the values are read: all of them, or in a shard that is heavier than it should be those of the parts that changed.
Of a part Consul is asked for the index first: it is that of the last write or deletion below the prefix, whatever
happened elsewhere. Stale answers are never put together: a server that is behind would call a part unchanged.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from gloo_nomad.clients.consul import ConsulClient
from gloo_nomad.clients.consul_answers import KvPair
from gloo_nomad.sources.kv_cut import Bounds, Shard, cut

_MOST_PARTS: Final = 32
"""Each costs one question: with many more, reading the whole shard would be as fast."""


@dataclass(frozen=True, slots=True)
class ShardAnswer:
    """Keys that were read, and the names of those that need not be: they are as an earlier answer had them."""

    index: int
    pairs: tuple[KvPair, ...] = ()
    kept: frozenset[str] = frozenset()

    @property
    def names(self) -> frozenset[str]:
        """All that there are in the shard."""
        return self.kept.union(pair.key for pair in self.pairs)


@dataclass(slots=True)
class ShardReader:
    """Answers the questions of one shard; for ``clients.blocking.watch_index`` with ``every``."""

    client: ConsulClient
    shard: Shard
    bounds: Bounds
    sizes: Mapping[str, int]
    """Bytes of each key that is known."""
    reading: asyncio.Semaphore
    """How many questions may be open at a time that do not wait."""
    _names: frozenset[str] = frozenset()
    """Those of the last answer."""
    _parts: tuple[Shard, ...] = field(default=())
    """That these names are read in; one: all together."""
    _read_in_parts: bool = False
    """Whether something was since everything was read."""

    async def ask(self, index: int, wait: float) -> ShardAnswer:
        """What there is, at once with index 0, else when something is different or the time ran out."""
        if self.shard.exact:
            one = await self.client.kv_get(self.shard.prefix, index, wait)
            return ShardAnswer(one.index, one.pairs)
        if not index:
            return await self._read_all()
        told = await self.client.kv_keys(self.shard.prefix, index, wait)
        names = frozenset(told.keys)
        if told.index == index and names == self._names and not self._read_in_parts:
            return ShardAnswer(index, kept=names)
        # An index that did not move says too little: names may be gone without it (see kv_names); and parts are read
        # together once there is time, because what they said came from several answers.
        if told.index > index:
            answer = await self._read_parts(names, index, told.index)
            if answer is not None:
                return answer
        return await self._read_all()

    async def _read_all(self) -> ShardAnswer:
        async with self.reading:
            answer = await self.client.kv_list(self.shard.prefix)
        self._read_in_parts = False
        self._remember(frozenset(pair.key for pair in answer.pairs))
        return ShardAnswer(answer.index, answer.pairs)

    async def _read_parts(self, names: frozenset[str], before: int, index: int) -> ShardAnswer | None:
        """The parts of the shard that changed after index *before*; None if it is to be read as one."""
        known = self._names
        self._remember(names)
        if len(self._parts) < 2 or self.client.options.consistency == "stale":
            return None
        found = await asyncio.gather(*(self._read_part(part, before) for part in self._parts))
        read = [part for part, pairs in zip(self._parts, found, strict=True) if pairs is not None]
        kept = frozenset(name for name in names if not any(part.covers(name) for part in read))
        if not kept <= known:
            return None
        self._read_in_parts = True
        return ShardAnswer(index, tuple(chain.from_iterable(pairs for pairs in found if pairs is not None)), kept)

    async def _read_part(self, part: Shard, before: int) -> Iterable[KvPair] | None:
        """The keys of a part; None if none was written after index *before*."""
        async with self.reading:
            if part.exact:
                return (await self.client.kv_get(part.prefix)).pairs
            if (await self.client.kv_keys(part.prefix)).index <= before:
                return None
            return (await self.client.kv_list(part.prefix)).pairs

    def _remember(self, names: frozenset[str]) -> None:
        if names != self._names or not self._parts:
            sizes = {name: self.sizes.get(name, 0) for name in names}
            self._parts = tuple(sorted(cut(sizes, self.shard.prefix, _MOST_PARTS, self.bounds)))
        self._names = names
