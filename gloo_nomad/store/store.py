"""The store: changes in, snapshots out.

What did not change keeps its identity: an object that was written again with the same content, or of which only the
status changed, stays the same Python object, so that everything behind the store can compare by identity.
An object whose new version is rejected keeps its last good version in service, with the problem reported.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.reports import Problem, Severity
from gloo_nomad.store.change import Change, Entry
from gloo_nomad.store.snapshot import Collection, ConfigSnapshot


class Store:
    """All objects of all sources. Not thread-safe: one task applies changes, snapshots may be read anywhere."""

    def __init__(self) -> None:
        self._entries: dict[str, dict[Ref, Entry]] = {}
        self._owners: dict[str, dict[Ref, str]] = {}
        self._snapshot = ConfigSnapshot()
        self._created: dict[str, dict[Ref, int]] = {}

    @property
    def snapshot(self) -> ConfigSnapshot:
        """The picture as of the last change."""
        return self._snapshot

    def entries(self, kind: str) -> Mapping[Ref, Entry]:
        """What is stored of a kind, with versions and statuses, rejected objects included."""
        return self._entries.get(kind, {})

    def apply(self, change: Change) -> bool:
        """Takes a change over; True if anything that translation reads is different now."""
        entries = self._entries.setdefault(change.kind, {})
        owners = self._owners.setdefault(change.kind, {})
        deletes = {ref for ref in self._gone(change, owners) if owners.get(ref) == change.source}
        for ref in deletes:
            entries.pop(ref, None)
            owners.pop(ref, None)
        values: dict[Ref, Any] = {}
        for ref, entry in change.puts.items():
            kept = _keep_identity(entries.get(ref), entry)
            entries[ref] = kept
            owners[ref] = change.source
            if kept.value is not None:
                values[ref] = kept.value
        return self._publish(change.kind, values, frozenset(deletes))

    def problems(self) -> Iterator[Problem]:
        """Why objects are rejected before translation sees them."""
        for kind, entries in self._entries.items():
            for ref, entry in entries.items():
                if entry.rejection is not None:
                    target = ObjectRef(kind, ref.namespace, ref.name)
                    yield Problem(Severity.ERROR, target, entry.rejection.path, entry.rejection.message)

    @staticmethod
    def _gone(change: Change, owners: Mapping[Ref, str]) -> frozenset[Ref]:
        if not change.complete:
            return change.deletes
        return frozenset(ref for ref in owners if ref not in change.puts)

    def _publish(self, kind: str, puts: Mapping[Ref, Any], deletes: frozenset[Ref]) -> bool:
        before = self._snapshot.of(kind)
        after = before.replace(puts, deletes)
        if after is before:
            return False
        created = {ref: entry.created for ref, entry in self._entries[kind].items() if entry.created}
        self._created = {**self._created, kind: created}
        collections: dict[str, Collection[Any]] = {**self._snapshot.collections, kind: after}
        self._snapshot = ConfigSnapshot(MappingProxyType(collections), MappingProxyType(self._created))
        return True


def _keep_identity(old: Entry | None, new: Entry) -> Entry:
    if old is None or old.value is None:
        return new
    if new.value is None or new.value == old.value:
        return Entry(old.value, new.rejection, new.status, new.version, old.created or new.created)
    return new
