"""Many compare-and-set writes in few transactions.

A transaction is all or nothing. Here each key stands for itself: keys that somebody else changed meanwhile are taken
out, and the rest is tried again. A fence is for everything: who lost the lock writes nothing.
"""

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gloo_nomad.clients.consul import ConsulClient
from gloo_nomad.clients.consul_answers import TxnAnswer
from gloo_nomad.clients.http import ConflictError

MAX_OPERATIONS: Final = 64
"""Of one transaction; newer versions of Consul take 128."""
MAX_WRITES: Final = MAX_OPERATIONS - 1
"""Of one transaction, with room for a fence."""
MAX_BYTES: Final = 400 * 1024
"""Of one transaction's body, whose limit is 512 KiB (``limits.txn_max_req_len``)."""


@dataclass(frozen=True, slots=True)
class Write:
    """A value, to be written if the key's ModifyIndex still is *index* (0: if there is no such key); None deletes."""

    key: str
    value: bytes | None
    index: int

    @property
    def size(self) -> int:
        """Bytes of the value in a transaction."""
        return len(self.value or b"") * 4 // 3


@dataclass(frozen=True, slots=True)
class Fence:
    """The lock that a session must hold in the moment of the write, or Consul refuses it.

    A process that slept through the end of its leadership cannot know it; Consul does.
    """

    key: str
    session: str


class FencedOutError(ConflictError):
    """The lock is not held any more; nothing was written."""


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a write: *index* is the key's new ModifyIndex (or that of what was deleted), 0 if it was late."""

    key: str
    index: int


async def txn_cas(client: ConsulClient, writes: Sequence[Write], fence: Fence | None = None) -> dict[str, Written]:
    """Writes what nobody else changed; the outcome of each by key.

    Raises:
        FencedOutError: the lock of the *fence* is not held.
        WorldError: Consul fails.
    """
    outcomes: dict[str, Written] = {}
    for batch in batches(writes):
        outcomes.update({written.key: written for written in await _write(client, batch, fence)})
    return outcomes


def batches(writes: Iterable[Write]) -> Iterator[list[Write]]:
    """Writes in transactions that Consul accepts, with room for a fence; a value too large for any is alone."""
    batch: list[Write] = []
    size = 0
    for write in writes:
        length = write.size + len(write.key) + 100
        if batch and (len(batch) == MAX_WRITES or size + length > MAX_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(write)
        size += length
    if batch:
        yield batch


async def _write(client: ConsulClient, batch: list[Write], fence: Fence | None) -> list[Written]:
    """One transaction, and another without the losers as long as there are any: each round has fewer."""
    lost: list[Written] = []
    while batch:
        large = len(batch) == 1 and batch[0].size > MAX_BYTES
        first = [_check(fence)] if fence is not None else []
        answer = await client.txn([*first, *(() if large else map(_operation, batch))]) if first or not large else None
        if answer is None or not answer.errors:
            written = [await _write_alone(client, batch[0])] if large else list(_written(batch, answer))
            return [*lost, *written]
        found = {error.op_index - len(first) for error in answer.errors}
        if fence is not None and -1 in found:
            raise FencedOutError(f"the lock {fence.key} is not held any more")
        losers = {position for position in found if 0 <= position < len(batch)}
        if not losers:
            raise ConflictError(f"Consul rolled a transaction back: {answer.errors[0].what[:160]}")
        lost += [Written(batch[position].key, 0) for position in sorted(losers)]
        batch = [write for position, write in enumerate(batch) if position not in losers]
    return lost


def _written(batch: Iterable[Write], answer: TxnAnswer | None) -> Iterator[Written]:
    """Consul answers with the keys that were written, and not with those that were deleted."""
    results = (answer.results if answer is not None else None) or ()
    indexes = {result.kv.key: result.kv.modify_index for result in results if result.kv}
    for write in batch:
        yield Written(write.key, write.index if write.value is None else indexes.get(write.key, 0))


def _check(fence: Fence) -> dict[str, Any]:
    return {"KV": {"Verb": "check-session", "Key": fence.key, "Session": fence.session}}


async def _write_alone(client: ConsulClient, write: Write) -> Written:
    """A value that fits into no transaction: the fence was asked right before."""
    if write.value is None or not await client.kv_put(write.key, write.value, cas=write.index):
        return Written(write.key, 0)
    answer = await client.kv_get(write.key)
    return Written(write.key, answer.pairs[0].modify_index if answer.pairs else 0)


def _operation(write: Write) -> dict[str, Any]:
    if write.value is None:
        return {"KV": {"Verb": "delete-cas", "Key": write.key, "Index": write.index}}
    value = base64.b64encode(write.value).decode()
    return {"KV": {"Verb": "cas", "Key": write.key, "Value": value, "Index": write.index}}
