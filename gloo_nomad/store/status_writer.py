"""Writes statuses into the objects in Consul KV: only those that differ, in batches, by compare-and-set.

A status lives inside the object's own value, so a write reads the value, replaces this reporter's status in it, and
writes only if nobody changed the object meanwhile; who did will cause another round. The wake-up that the write causes
ends where the object is parsed: its content is the same.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import structlog

from gloo_nomad.api import codec
from gloo_nomad.api.kinds import KINDS, StatusStyle
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.clients.consul import ConsulClient
from gloo_nomad.clients.consul_cas import MAX_WRITES, Fence, Write, txn_cas
from gloo_nomad.reports import Problem
from gloo_nomad.store.change import Entry
from gloo_nomad.store.statuses import Status, is_same, status_of

log = structlog.get_logger(__name__)

BATCH: Final = MAX_WRITES
READS_AT_ONCE: Final = 8


class Standing(NamedTuple):
    """What a status says: the object's problems, and the proxies that it is part of."""

    problems: tuple[Problem, ...] = ()
    proxies: frozenset[Ref] = frozenset()


@dataclass(slots=True)
class StatusWriter:
    """One reporter's statuses. ``truncate`` follows DISABLE_TRUNCATE_STATUS."""

    client: ConsulClient
    root_key: str
    reporter: str
    truncate: bool = True
    done: dict[ObjectRef, Entry] = field(default_factory=dict)
    """What was written over, or cannot hold a status: skipped until the watch brings something else."""

    def report_as(self, reporter: str) -> None:
        """From now on statuses stand under this name."""
        if reporter != self.reporter:
            self.reporter = reporter
            self.done.clear()

    def differing(
        self, entries: Mapping[ObjectRef, Entry], standing: Callable[[ObjectRef], Standing]
    ) -> list[tuple[ObjectRef, Entry, Status]]:
        """Those of these objects whose stored status is not what it should be."""
        found: list[tuple[ObjectRef, Entry, Status]] = []
        for ref, entry in entries.items():
            if self.is_done(ref, entry):
                continue
            now = standing(ref)
            status = status_of(ref, now.problems, now.proxies, entry.claimed, truncate=self.truncate)
            if is_same(entry.status.get(self._key(ref)), status):
                self.done.pop(ref, None)
            else:
                found.append((ref, entry, status))
        return found

    def is_done(self, ref: ObjectRef, entry: Entry) -> bool:
        """Whether nothing can be written for an object until the watch brings something else of it."""
        return self.done.get(ref) is entry

    def forget(self, refs: Iterable[ObjectRef]) -> None:
        """These objects are gone."""
        for ref in refs:
            self.done.pop(ref, None)

    async def write(self, differing: Iterable[tuple[ObjectRef, Entry, Status]], fence: Fence | None = None) -> int:
        """Writes statuses, while the lock of the *fence* is held; how many.

        Raises ``clients.http.WorldError`` when Consul fails, or refuses because the lock is lost.
        """
        todo = list(differing)
        written = 0
        took = 0.0
        for start in range(0, len(todo), BATCH):
            await asyncio.sleep(took)  # half of the time is for what serves Envoys
            began = time.monotonic()
            written += await self._write_batch(todo[start : start + BATCH], fence)
            took = time.monotonic() - began
        return written

    async def _write_batch(self, batch: list[tuple[ObjectRef, Entry, Status]], fence: Fence | None) -> int:
        gate = asyncio.Semaphore(READS_AT_ONCE)
        prepared = await asyncio.gather(*(self._prepare(gate, *differing) for differing in batch))
        objects = {write.key: (ref, entry) for (ref, entry, _), write in zip(batch, prepared, strict=True) if write}
        outcomes = await txn_cas(self.client, [write for write in prepared if write is not None], fence)
        written = [objects[key] for key, outcome in outcomes.items() if outcome.index]
        self.done.update(written)
        return len(written)

    async def _prepare(self, gate: asyncio.Semaphore, ref: ObjectRef, entry: Entry, status: Status) -> Write | None:
        """The value to write; None if the object changed or is gone, or is no document that could hold a status."""
        try:
            async with gate:
                return await self._build_write(ref, entry, status)
        except ValueError as reason:
            log.info("status_not_written", object=str(ref), reason=str(reason))
            self.done[ref] = entry
            return None

    async def _build_write(self, ref: ObjectRef, entry: Entry, status: Status) -> Write | None:
        kind = KINDS[ref.kind]
        key = kind.key(self.root_key, ref.ref)
        answer = await self.client.kv_get(key)
        if not answer.pairs or answer.pairs[0].modify_index != entry.version:
            return None
        text = answer.pairs[0].text()
        value = codec.with_status(text, kind, self.reporter, status)
        if value == text:
            raise ValueError("it is there already, in a form that is not understood")
        return Write(key, value, entry.version)

    def _key(self, ref: ObjectRef) -> str:
        return "" if KINDS[ref.kind].status is StatusStyle.SINGLE else self.reporter
