"""Watching the keys below one prefix of Consul KV: which were written, which are gone.

A kind is watched by one query as long as it is small; ``kv_shards`` is for more.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from gloo_nomad.clients.blocking import Report, watch_index
from gloo_nomad.clients.consul import ConsulClient
from gloo_nomad.clients.consul_answers import KvAnswer, KvPair

SMALL_ANSWER: Final = 64 * 1024
SMALL_WAIT: Final = 15.0
"""Seconds to wait on a prefix with little below it. Consul keeps a blocking KV query, and counts its connection, until
its wait is over even if the client is gone; where repeating the answer costs nothing the wait is short."""


@dataclass(frozen=True, slots=True)
class PrefixChange:
    """What is different below a prefix.

    ``complete`` says that ``pairs`` is all there is. ``compare`` says that versions cannot be compared with those seen
    before, so that ``pairs`` may hold what is known already: the first answer, the first after a failure, or one of a
    Consul whose index went back.
    """

    pairs: tuple[KvPair, ...]
    gone: frozenset[str] = frozenset()
    complete: bool = False
    compare: bool = False


@dataclass(slots=True)
class PrefixKeys:
    """The keys that answers before named, with the index at which each was written, and how long its value was."""

    versions: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    """Bytes in Consul's encoding."""

    def compare(self, pairs: tuple[KvPair, ...], *, trusted: bool) -> PrefixChange | None:
        """What is different now; None for nothing. An answer that is not *trusted* counts as different in full."""
        gone = frozenset(self.versions.keys() - {pair.key for pair in pairs})
        written = self._update(pairs, gone, trusted=trusted)
        if not trusted:
            return PrefixChange(pairs, gone, complete=True, compare=True)
        return PrefixChange(written, gone) if written or gone else None

    def compare_part(self, pairs: tuple[KvPair, ...], gone: frozenset[str], *, trusted: bool) -> PrefixChange | None:
        """The same for an answer about some of the keys, and which are *gone*."""
        written = self._update(pairs, gone, trusted=trusted)
        return PrefixChange(written, gone, compare=not trusted) if written or gone else None

    def _update(self, pairs: tuple[KvPair, ...], gone: frozenset[str], *, trusted: bool) -> tuple[KvPair, ...]:
        """Those of the pairs that differ."""
        before = self.versions
        written = tuple(pair for pair in pairs if before.get(pair.key) != pair.modify_index) if trusted else pairs
        for key in gone:
            del self.versions[key], self.sizes[key]
        self.versions.update((pair.key, pair.modify_index) for pair in pairs)
        self.sizes.update((pair.key, memoryview(pair.value).nbytes) for pair in written)
        return written


async def watch_prefix(
    client: ConsulClient,
    prefix: str,
    wait: float,
    report: Report,
    keys: PrefixKeys,
) -> AsyncGenerator[PrefixChange, None]:
    """Yields for ever what is different below *prefix*, all of it first; *wait* is the longest wait in seconds.

    *keys* are those seen before, and are kept up to date.
    """
    size = 0

    async def query(index: int, limit: float) -> KvAnswer:
        nonlocal size
        answer = await client.kv_list(prefix, index, limit)
        size = answer.size
        return answer

    def limit() -> float:
        return wait if size > SMALL_ANSWER else min(wait, SMALL_WAIT)

    # The index does not tell of a shorter prefix deleted with all below it, if a key of this one was deleted before.
    async with aclosing(watch_index(query, limit, report, every=True)) as answers:
        async for seen in answers:
            change = keys.compare(seen.answer.pairs, trusted=seen.trusted)
            del seen  # as in watch_index: pairs hold the whole answer
            if change is not None:
                yield change
            del change
