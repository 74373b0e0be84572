"""Watching the keys of one kind in shards: a change costs what its shard holds, not what the kind holds.

How a shard is read says ``kv_shard_reader``. One more ``?keys`` query on all of the kind finds names that no shard
covers. Whatever is not simple ends it, and the kind is to be read as one again.
"""

import asyncio
from bisect import bisect_left
from collections.abc import AsyncGenerator, Collection, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

import structlog

from gloo_nomad.clients.blocking import Pace, Report, Seen, watch_index
from gloo_nomad.clients.consul import ConsulClient
from gloo_nomad.clients.consul_answers import KeysAnswer
from gloo_nomad.clients.http import RateLimitedError, WorldError
from gloo_nomad.sources.kv_connections import Connections
from gloo_nomad.sources.kv_cut import Bounds, Shard, cut, extend, uncovered
from gloo_nomad.sources.kv_names import ToldNames
from gloo_nomad.sources.kv_prefix import PrefixChange, PrefixKeys
from gloo_nomad.sources.kv_shard_reader import ShardAnswer, ShardReader
from gloo_nomad.sources.source import cancel

log = structlog.get_logger(__name__)

_READS: Final = 8
"""Questions for values that a kind has open at a time."""
_QUEUE: Final = 16


@dataclass(frozen=True, slots=True)
class Cutting:
    """When and how kinds are cut. Times are seconds."""

    connections: Connections = field(default_factory=Connections)
    bounds: Bounds = field(default_factory=Bounds)
    settle: float = 30.0
    """How long a kind is read as one before it is cut, and how long a cut stays at least. It is longer than ``linger``:
    a program that starts anew does not add its shards to those of its past."""
    wait: float = 24.0
    """Of the question of one shard: a hundred of them cost a core's 1 % with half of that, and linger as long."""
    rest: float = 0.25
    """Between two questions for all names: they cost the more the more there are, and new ones seldom matter."""

    @property
    def linger(self) -> float:
        """How long Consul may count the connection of a query that was ended: it adds a sixteenth to the wait."""
        return self.wait * 17 / 16


@dataclass(frozen=True, slots=True)
class Place:
    """The keys of a kind: all that begin with *prefix*. *wait* is the longest wait of a query for all of them."""

    kind: str
    prefix: str
    wait: float
    report: Report


class WholeAgainError(Exception):
    """The kind is to be read as one again, for this reason."""


@dataclass(slots=True, eq=False)
class _Watch:
    """A running shard, and which of the known keys are its own."""

    shard: Shard
    keys: frozenset[str]
    task: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class _Answer:
    watch: _Watch
    seen: Seen[ShardAnswer]


@dataclass(frozen=True, slots=True)
class _Names:
    seen: Seen[KeysAnswer]


@dataclass(frozen=True, slots=True)
class _Defect:
    failure: Exception


@dataclass(slots=True)
class ShardedKeys:
    """The keys of a kind, each watched by one shard. *keys* are those known before, and are kept up to date."""

    client: ConsulClient
    place: Place
    cutting: Cutting
    keys: PrefixKeys
    limited: bool = False
    """Whether Consul has refused a connection because there are too many."""
    _running: dict[Shard, _Watch] = field(default_factory=dict)
    _heard: asyncio.Queue[_Answer | _Names | _Defect] = field(default_factory=lambda: asyncio.Queue(_QUEUE))
    _failing: dict[str, WorldError] = field(default_factory=dict)
    _reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_READS))
    _names: ToldNames = field(default_factory=ToldNames)
    _changed: bool = True
    """Whether anything is different since the cut was looked at."""
    _due: float = 0.0
    """When to look at the cut."""

    async def watch(self, shards: frozenset[Shard]) -> AsyncGenerator[PrefixChange, None]:
        """Yields what is different, for as long as it can be told by shards; nothing of it is ``complete``."""
        names = asyncio.create_task(self._watch_names(), name=f"{self.place.kind} names")
        self._due = asyncio.get_running_loop().time() + self.cutting.settle
        try:
            await self._begin(shards)
            while True:
                change = await self._next()
                if change is not None:
                    yield change
                del change  # as in watch_index: its pairs hold the whole answer
        except WholeAgainError as reason:
            log.info("kind_whole_again", kind=self.place.kind, reason=str(reason))
        finally:
            await self._exchange(frozenset())
            await cancel([names])
            self.cutting.connections.forget(self.place.kind)

    async def _begin(self, shards: frozenset[Shard]) -> None:
        if len(shards) > self.cutting.connections.free():
            raise WholeAgainError("others were faster")
        log.info("kind_cut", kind=self.place.kind, shards=len(shards))
        await self._exchange(shards)

    async def _next(self) -> PrefixChange | None:
        """What the next answer means; also looks at the cut when it is time to."""
        loop = asyncio.get_running_loop()
        if self.limited:
            raise WholeAgainError("Consul has too many connections")
        if self.cutting.connections.exceeded():
            raise WholeAgainError("others need the connections")
        if loop.time() >= self._due:
            self._due = loop.time() + self.cutting.settle
            await self._recut()
        if self._names.due() <= loop.time() and self._names.overdue(self.keys.versions, loop.time()):
            raise WholeAgainError("names are not what the shards have")
        try:
            async with asyncio.timeout_at(min(self._due, self._names.due())):
                heard = await self._heard.get()
        except TimeoutError:
            return None
        if isinstance(heard, _Defect):
            raise heard.failure
        if isinstance(heard, _Answer):
            return await self._compare(heard.watch, heard.seen)
        await self._heed_names(heard.seen)
        return None

    # --- what answers say

    async def _compare(self, watch: _Watch, seen: Seen[ShardAnswer]) -> PrefixChange | None:
        if self._running.get(watch.shard) is not watch:
            return None  # exchanged for another, which reads it all again
        names = seen.answer.names
        gone = watch.keys - names
        if gone and not seen.trusted:
            await self._doubt(gone)
        change = self.keys.compare_part(seen.answer.pairs, gone, trusted=seen.trusted)
        watch.keys = names
        self._changed = self._changed or change is not None
        return change

    async def _doubt(self, gone: Collection[str]) -> None:
        """Raises unless Consul has others of the known keys: else it may have lost its data."""
        try:
            answer = await self.client.kv_keys(self.place.prefix)
        except WorldError as failure:
            raise WholeAgainError(str(failure)) from failure
        if not any(key in self.keys.versions and key not in gone for key in answer.keys):
            raise WholeAgainError("every known key is gone")

    async def _heed_names(self, seen: Seen[KeysAnswer]) -> None:
        """Takes shards for names outside of all."""
        names = seen.answer.keys
        if not names and self.keys.versions and not seen.trusted:
            raise WholeAgainError("no key is there any more")
        self._names.heard(names, self.keys.versions.keys(), asyncio.get_running_loop().time())
        more = self._outside(self._running)
        if len(more) > self.cutting.connections.free():
            raise WholeAgainError("there are too many names outside of all shards")
        if more:
            await self._exchange(more | self._running.keys())

    def _outside(self, shards: Collection[Shard]) -> frozenset[Shard]:
        """More shards, for the names not read yet that none of *shards* covers."""
        new = tuple(uncovered(shards, self._names.unread(self.keys.versions)))
        more = extend(shards, new, self.place.prefix)
        if more is None:
            raise WholeAgainError("no prefix holds the names outside of all shards")
        return more

    # --- which shards there are

    async def _recut(self) -> None:
        """Looks whether other shards are due."""
        if not self._changed:
            return
        self._changed = False
        cutting, sizes = self.cutting, self.keys.sizes
        most = cutting.connections.allot(self.place.kind, cutting.bounds.weight(len(sizes), sum(sizes.values())))
        target = cut(sizes, self.place.prefix, most, cutting.bounds, self._running)
        if len(target) < 2:
            raise WholeAgainError("few keys are left, or there are few connections")
        target |= self._outside(target)  # a shard that ends now may have had names to read that no answer tells again
        if len(target - self._running.keys()) > cutting.connections.free():
            self._changed = True  # when ended queries are not counted any more
            return
        await self._exchange(target)

    async def _exchange(self, target: frozenset[Shard]) -> None:
        """Ends the shards that are not in *target*, and begins those that are new."""
        gone = [self._running.pop(shard) for shard in self._running.keys() - target]
        self.cutting.connections.ended(len(gone), self.cutting.linger)
        await cancel([watch.task for watch in gone if watch.task is not None])
        for watch in gone:
            self._failing.pop(watch.shard.prefix, None)
        owned = {key for watch in self._running.values() for key in watch.keys}
        free = sorted(self.keys.versions.keys() - owned) if target else []
        for shard in sorted(target - self._running.keys()):
            watch = self._running[shard] = _Watch(shard, frozenset(_covered(free, shard)))
            watch.task = asyncio.create_task(self._watch_shard(watch), name=f"{self.place.kind} {shard.prefix}")
            self.cutting.connections.opened(1)

    # --- the queries

    async def _watch_shard(self, watch: _Watch) -> None:
        shard, limit = watch.shard, self.cutting.wait
        reader = ShardReader(self.client, shard, self.cutting.bounds, self.keys.sizes, self._reading)
        try:
            answers = watch_index(reader.ask, lambda: limit, self._reporter(shard.prefix), every=True)
            async with aclosing(answers):
                async for seen in answers:
                    await self._heard.put(_Answer(watch, seen))
                    del seen  # as in watch_index: nothing may hold a large answer while the next one is waited for
        except Exception as failure:  # a defect, raised where the queue is read
            await self._heard.put(_Defect(failure))

    async def _watch_names(self) -> None:
        pace, report = Pace(self.cutting.rest, 1), self._reporter(self.place.prefix)
        try:
            answers = watch_index(self._query_names, lambda: self.place.wait, report, pace)
            async with aclosing(answers):
                async for seen in answers:
                    await self._heard.put(_Names(seen))
                    del seen
        except Exception as failure:  # a defect, raised where the queue is read
            await self._heard.put(_Defect(failure))

    async def _query_names(self, index: int, wait: float) -> KeysAnswer:
        return await self.client.kv_keys(self.place.prefix, index, wait)

    def _reporter(self, prefix: str) -> Report:
        """Reports of one query; the kind fails as long as one of its queries does, for the reason of the first."""

        def report(failure: WorldError | None) -> None:
            self.limited = self.limited or isinstance(failure, RateLimitedError)
            if failure is not None:
                self._failing.setdefault(prefix, failure)
            elif self._failing.pop(prefix, None) is None and self._failing:
                return
            self.place.report(next(iter(self._failing.values()), None))

        return report


def _covered(names: list[str], shard: Shard) -> Iterator[str]:
    """Those of the sorted *names* that a shard covers."""
    for place in range(bisect_left(names, shard.prefix), len(names)):
        if not shard.covers(names[place]):
            return
        yield names[place]
