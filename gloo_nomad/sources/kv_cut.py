"""Cutting the keys of a kind into prefixes of a few hundred keys each.

A prefix is cut by the next character of the names below it, the heaviest one first, as long as there are connections.
What was cut before stays cut, and what was whole stays whole, until it is clearly too light or too heavy: a cut that
follows every key would exchange queries all the time.
"""

import heapq
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate, groupby
from typing import Final, NamedTuple

from gloo_nomad.clients.consul import is_key

_WHOLE_UNTIL: Final = 2.0
_CUT_UNTIL: Final = 0.5
"""Weights, in shards' worth, over which a whole prefix is cut and under which the parts of one are put together."""


class Shard(NamedTuple):
    """Keys that one query watches: those that begin with a prefix, or *exact*: the one key."""

    prefix: str
    exact: bool = False

    def covers(self, key: str) -> bool:
        """Whether a key is one of these."""
        return key == self.prefix if self.exact else key.startswith(self.prefix)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much one shard should have at most."""

    keys: int = 250
    size: int = 1024 * 1024
    """Bytes in Consul's encoding."""

    def weight(self, keys: int, size: int) -> float:
        """How many shards' worth that is."""
        return max(keys / self.keys, size / self.size)


@dataclass(order=True, slots=True)
class _Part:
    """Some of the sorted names: those from *low* up to *high* begin with *prefix*."""

    urgency: float
    """Negative, for the heap: over 1 without its sign it should be cut."""
    prefix: str = field(compare=False)
    low: int = field(compare=False)
    high: int = field(compare=False)


@dataclass(frozen=True, slots=True)
class _Cutter:
    names: list[str]
    sums: list[int]
    """Bytes of all names before each."""
    bounds: Bounds
    before: Collection[Shard]

    def part(self, prefix: str, low: int, high: int) -> _Part:
        weight = self.bounds.weight(high - low, self.sums[high] - self.sums[low])
        return _Part(-weight / self._threshold(prefix), prefix, low, high)

    def _threshold(self, prefix: str) -> float:
        if Shard(prefix) in self.before:
            return _WHOLE_UNTIL
        return _CUT_UNTIL if any(shard.prefix.startswith(prefix) for shard in self.before) else 1.0

    def split(self, part: _Part) -> tuple[list[Shard], list[_Part]] | None:
        """A part by the next character: single keys, and smaller parts; None where Consul knows no such prefix."""
        low = part.low
        shared = _shared(self.names[low], self.names[part.high - 1])
        single = [Shard(shared, exact=True)] if self.names[low] == shared else []
        low += len(single)
        parts = []
        for letter, group in groupby(self.names[low : part.high], lambda name: name[len(shared)]):
            high = low + sum(1 for _ in group)
            parts.append(self.part(shared + letter, low, high))
            low = high
        prefixes = [*(shard.prefix for shard in single), *(part.prefix for part in parts)]
        return (single, parts) if all(map(_can_be_watched, prefixes)) else None


def cut(
    sizes: Mapping[str, int], root: str, most: int, bounds: Bounds, before: Collection[Shard] = ()
) -> frozenset[Shard]:
    """At most *most* shards that cover each of these keys once; just *root* while they are few.

    *sizes* are bytes by key. Folder marks (keys that end in a slash) are no objects and need not be covered.
    """
    names = sorted(key for key in sizes if not key.endswith("/"))
    cutter = _Cutter(names, list(accumulate((sizes[name] for name in names), initial=0)), bounds, before)
    heap, done = [cutter.part(root, 0, len(names))], set[Shard]()
    while heap and heap[0].urgency < -1:
        part = heapq.heappop(heap)
        children = cutter.split(part)
        count = len(children[0]) + len(children[1]) if children else most
        if children is None or len(done) + len(heap) + count > most:
            done.add(Shard(part.prefix))
            continue
        done.update(children[0])
        for child in children[1]:
            heapq.heappush(heap, child)
    return frozenset(done.union(Shard(part.prefix) for part in heap))


def extend(shards: Collection[Shard], keys: Collection[str], root: str) -> frozenset[Shard] | None:
    """More shards, for the keys that none of these covers, and as wide as can be; None if there are no such prefixes.

    New names are seldom alone: the next one beside them is covered already.
    """
    found = set[Shard]()
    for key in sorted(keys):
        if key.endswith("/") or any(shard.covers(key) for shard in found):
            continue
        shared = max((len(_shared(key, shard.prefix)) for shard in (*shards, *found)), default=len(root))
        found.add(Shard(key, exact=True) if shared == len(key) else Shard(key[: shared + 1]))
    return frozenset(found) if all(_can_be_watched(shard.prefix) for shard in found) else None


def uncovered(shards: Collection[Shard], keys: Collection[str]) -> Iterator[str]:
    """The keys that no shard covers, without folder marks."""
    exact = {shard.prefix for shard in shards if shard.exact}
    prefixes = tuple(shard.prefix for shard in shards if not shard.exact)
    for key in keys:
        if not key.startswith(prefixes) and key not in exact and not key.endswith("/"):
            yield key


def _shared(left: str, right: str) -> str:
    """With what both begin."""
    for place, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return left[:place]
    return min(left, right, key=len)


def _can_be_watched(prefix: str) -> bool:
    """Whether Consul takes it as it is: names that are no text come with a replacement character."""
    return is_key(prefix) and "\ufffd" not in prefix
