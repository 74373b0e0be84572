"""Watching the keys below one prefix of Consul KV: which were written, which are gone.

A prefix is a unit of its own. A kind is watched by one of these, or by several that share its keys between them:
``recurse`` and the blocking index work on any string prefix.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from gloo_nomad.clients.blocking import Pace, Report, watch_index
from gloo_nomad.clients.consul import ConsulClient
from gloo_nomad.clients.consul_answers import KvAnswer, KvPair

SMALL_ANSWER: Final = 64 * 1024
SMALL_WAIT: Final = 15.0
"""Seconds to wait on a prefix with little below it. Consul keeps a blocking KV query, and counts its connection, until
its wait is over even if the client is gone; where repeating the answer costs nothing the wait is short."""


@dataclass(frozen=True, slots=True)
class PrefixChange:
    """What is different below a prefix.

    ``complete`` says that ``pairs`` is all there is and that versions cannot be compared with those seen before: the
    first answer, the first after a failure, or one of a Consul whose index went back.
    """

    pairs: tuple[KvPair, ...]
    gone: frozenset[str] = frozenset()
    complete: bool = False


@dataclass(slots=True)
class PrefixKeys:
    """The keys that an answer before named, with the index at which each was written."""

    versions: dict[str, int] = field(default_factory=dict)

    def compare(self, pairs: tuple[KvPair, ...], *, trusted: bool) -> PrefixChange | None:
        """What is different now; None for nothing. An answer that is not *trusted* counts as different in full."""
        before, self.versions = self.versions, {pair.key: pair.modify_index for pair in pairs}
        gone = frozenset(before.keys() - self.versions.keys())
        if not trusted:
            return PrefixChange(pairs, gone, complete=True)
        written = tuple(pair for pair in pairs if before.get(pair.key) != pair.modify_index)
        return PrefixChange(written, gone) if written or gone else None


async def watch_prefix(
    client: ConsulClient, prefix: str, wait: float, report: Report, pace: Pace | None = None
) -> AsyncGenerator[PrefixChange, None]:
    """Yields for ever what is different below *prefix*, all of it first; *wait* is the longest wait in seconds."""
    keys = PrefixKeys()
    size = 0

    async def query(index: int, limit: float) -> KvAnswer:
        nonlocal size
        answer = await client.kv_list(prefix, index, limit)
        size = answer.size
        return answer

    def limit() -> float:
        return wait if size > SMALL_ANSWER else min(wait, SMALL_WAIT)

    async with aclosing(watch_index(query, limit, report, pace)) as answers:
        async for seen in answers:
            change = keys.compare(seen.answer.pairs, trusted=seen.trusted)
            del seen  # as in watch_index: pairs hold the whole answer
            if change is not None:
                yield change
            del change
