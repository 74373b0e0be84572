"""From keys to objects: what the keys of one kind hold, decoded only where they differ."""

import asyncio
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from gloo_nomad.api import codec
from gloo_nomad.api.codec import Decoded, Rejection
from gloo_nomad.api.kinds import Kind
from gloo_nomad.api.refs import Ref
from gloo_nomad.clients.consul_answers import KvPair
from gloo_nomad.sources.kv_prefix import PrefixChange
from gloo_nomad.store.change import Change, Entry

log = structlog.get_logger(__name__)

_CHUNK_BYTES: Final = 256 * 1024
_INLINE_BYTES: Final = 16 * 1024
"""Values of less than this are decoded where they arrive: a hop to a thread and back would take longer."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """A value as it was decoded, and a digest of it as it came."""

    digest: bytes
    entry: Entry


@dataclass(slots=True)
class KindReader:
    """The objects below one kind's prefix (``<root>/<group>/<version>/<Kind>/``) in the watched namespaces.

    Not safe for two prefixes at a time: ``read`` is called by one task.
    """

    source: str
    kind: Kind
    prefix: str
    namespaces: frozenset[str]
    _stored: dict[Ref, _Stored] = field(default_factory=dict)
    _listed: bool = False

    async def read(self, change: PrefixChange) -> Change | None:
        """The change of keys as one of objects; None if no object differs."""
        puts: dict[Ref, Entry] = {}
        for chunk in _chunks(self._wanted(change.pairs)):
            if _weight(chunk) < _INLINE_BYTES:
                puts.update(self._decode(chunk, compare=change.compare))
            else:
                puts.update(await asyncio.to_thread(self._decode, chunk, compare=change.compare))
        deletes = frozenset(ref for key in change.gone if (ref := self._ref(key)) in self._stored)
        for ref in deletes:
            del self._stored[ref]
        if change.complete and (puts or deletes or not self._listed):
            self._listed = True
            everything = {ref: stored.entry for ref, stored in self._stored.items()}
            return Change(self.source, self.kind.name, everything, deletes, complete=True)
        return Change(self.source, self.kind.name, puts, deletes) if puts or deletes else None

    def _wanted(self, pairs: Iterable[KvPair]) -> Iterator[KvPair]:
        """What can be an object: no folder marks (the web page of Consul makes them), no foreign namespaces."""
        for pair in pairs:
            if pair.key.endswith("/") or not pair.key.startswith(self.prefix):
                continue
            if not self.namespaces or self._ref(pair.key).namespace in self.namespaces:
                yield pair

    def _ref(self, key: str) -> Ref:
        """The name that a key says; a key without a namespace has an empty one."""
        namespace, slash, name = key.removeprefix(self.prefix).partition("/")
        return Ref(namespace, name) if slash else Ref("", namespace)

    def _decode(self, pairs: list[KvPair], *, compare: bool) -> dict[Ref, Entry]:
        """Entries of these keys; with *compare* without those whose value and version are the ones known."""
        entries: dict[Ref, Entry] = {}
        for pair in pairs:
            ref = self._ref(pair.key)
            before = self._stored.get(ref)
            digest = hashlib.blake2b(pair.raw(), digest_size=16).digest()
            if compare and before is not None and before.digest == digest:
                if before.entry.version == pair.modify_index:
                    continue
                entry = replace(before.entry, version=pair.modify_index, created=pair.create_index)
            else:
                entry = self._entry(ref, pair)
            self._stored[ref] = _Stored(digest, entry)
            entries[ref] = entry
        return entries

    def _entry(self, ref: Ref, pair: KvPair) -> Entry:
        decoded = self._decode_value(ref, pair)
        return Entry(decoded.message, decoded.rejection, decoded.status, pair.modify_index, pair.create_index)

    def _decode_value(self, ref: Ref, pair: KvPair) -> Decoded:
        address = self.kind.object_ref(ref)
        if not ref.namespace or not ref.name or "/" in ref.name:
            message = f"the key {pair.key} is not {self.prefix}<namespace>/<name>; store the object there instead"
            return Decoded(address, None, Rejection("", message))
        try:
            return codec.decode(self.kind, pair.text(), ref)
        except Exception as failure:  # one bad value must not take the others with it
            log.warning("value unreadable", key=pair.key, failure=type(failure).__name__)
            message = f"cannot be read ({type(failure).__name__}); write the object anew"
            return Decoded(address, None, Rejection("", message))


def _weight(pairs: Iterable[KvPair]) -> int:
    return sum(memoryview(pair.value).nbytes for pair in pairs)


def _chunks(pairs: Iterable[KvPair]) -> Iterator[list[KvPair]]:
    chunk: list[KvPair] = []
    weight = 0
    for pair in pairs:
        chunk.append(pair)
        weight += memoryview(pair.value).nbytes
        if weight >= _CHUNK_BYTES:
            yield chunk
            chunk, weight = [], 0
    if chunk:
        yield chunk
