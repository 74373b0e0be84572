"""Many compare-and-set writes in few transactions.

A transaction is all or nothing. Here each key stands for itself: keys that somebody else changed meanwhile are taken
out, and the rest is tried again.
"""

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gloo_nomad.clients.consul import ConsulClient
from gloo_nomad.clients.http import ConflictError

MAX_OPERATIONS: Final = 64
"""Of one transaction; newer versions of Consul take 128."""
MAX_BYTES: Final = 400 * 1024
"""Of one transaction's body, whose limit is 512 KiB (``limits.txn_max_req_len``)."""


@dataclass(frozen=True, slots=True)
class Write:
    """A value, to be written if the key's ModifyIndex still is *index* (0: if there is no such key)."""

    key: str
    value: bytes
    index: int


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a write: *index* is the key's new ModifyIndex, 0 if somebody else was faster."""

    key: str
    index: int


async def txn_cas(client: ConsulClient, writes: Sequence[Write]) -> dict[str, Written]:
    """Writes what nobody else changed; the outcome of each by key. Raises ``WorldError`` when Consul fails."""
    outcomes: dict[str, Written] = {}
    for batch in batches(writes):
        outcomes.update({written.key: written for written in await _write(client, batch)})
    return outcomes


def batches(writes: Iterable[Write]) -> Iterator[list[Write]]:
    """Writes in transactions that Consul accepts; a value too large for any is alone."""
    batch: list[Write] = []
    size = 0
    for write in writes:
        length = len(write.value) * 4 // 3 + len(write.key) + 100
        if batch and (len(batch) == MAX_OPERATIONS or size + length > MAX_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(write)
        size += length
    if batch:
        yield batch


async def _write(client: ConsulClient, batch: list[Write]) -> list[Written]:
    """One transaction, and another without the losers as long as there are any: each round has fewer."""
    lost: list[Written] = []
    while batch:
        if len(batch) == 1 and len(batch[0].value) * 4 // 3 > MAX_BYTES:
            return [*lost, await _write_alone(client, batch[0])]
        answer = await client.txn([_operation(write) for write in batch])
        if not answer.errors:
            written = [Written(result.kv.key, result.kv.modify_index) for result in answer.results or () if result.kv]
            return [*lost, *written]
        losers = {error.op_index for error in answer.errors if 0 <= error.op_index < len(batch)}
        if not losers:
            raise ConflictError(f"Consul rolled a transaction back: {answer.errors[0].what[:160]}")
        lost += [Written(batch[position].key, 0) for position in sorted(losers)]
        batch = [write for position, write in enumerate(batch) if position not in losers]
    return lost


async def _write_alone(client: ConsulClient, write: Write) -> Written:
    if not await client.kv_put(write.key, write.value, cas=write.index):
        return Written(write.key, 0)
    answer = await client.kv_get(write.key)
    return Written(write.key, answer.pairs[0].modify_index if answer.pairs else 0)


def _operation(write: Write) -> dict[str, Any]:
    value = base64.b64encode(write.value).decode()
    return {"KV": {"Verb": "cas", "Key": write.key, "Value": value, "Index": write.index}}
