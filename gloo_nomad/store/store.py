"""The store: changes in, snapshots out.

What did not change keeps its identity: an object that was written again with the same content, or of which only the
status changed, stays the same Python object, so that everything behind the store can compare by identity.
An object whose new version is rejected keeps its last good version in service, with the problem reported.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final, TypeVar

from gloo_nomad.api.codec import Rejection
from gloo_nomad.api.kinds import KINDS
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.reports import Problem, Severity
from gloo_nomad.store.change import Change, Entry
from gloo_nomad.store.claims import Claims, later_claims, stored_claims
from gloo_nomad.store.snapshot import ConfigSnapshot

T = TypeVar("T")

MOST_TOUCHED: Final = 4_096
"""How many touched objects are remembered."""


class Store:
    """All objects of all sources. Not thread-safe: one task applies changes, snapshots may be read anywhere.

    A source owns what it put: what it takes away is what it has. An object that several sources have is taken from the
    one whose name comes first, whatever order they answered in, and the others are told.
    """

    def __init__(self) -> None:
        self._by_source: dict[str, dict[str, dict[Ref, Entry]]] = {}
        self._entries: dict[str, dict[Ref, Entry]] = {}
        self._rejected: dict[str, dict[Ref, Rejection]] = {}
        self._snapshot = ConfigSnapshot()
        self._touched: set[ObjectRef] | None = None
        """What was not taken yet by who asks for it; None for too much, and as long as nobody does."""

    @property
    def snapshot(self) -> ConfigSnapshot:
        """The picture as of the last change."""
        return self._snapshot

    def entries(self, kind: str) -> Mapping[Ref, Entry]:
        """What is stored of a kind, with versions and statuses, rejected objects included."""
        return self._entries.get(kind, {})

    def sources(self, kind: str) -> Mapping[str, Mapping[Ref, Entry]]:
        """The same by source, where an object that several have is in each of them."""
        return self._by_source.get(kind, {})

    def take_touched(self) -> AbstractSet[ObjectRef] | None:
        """The objects of the contract that were put or taken away since the last call, which are then forgotten.

        None at the first call, and if they are more than ``MOST_TOUCHED``: any may be among them. For one caller.
        """
        touched, self._touched = self._touched, set()
        return touched

    def apply(self, change: Change) -> bool:
        """Takes a change over; True if anything that translation reads is different now."""
        sources = self._by_source.setdefault(change.kind, {})
        own = sources.setdefault(change.source, {})
        gone = own.keys() - change.puts.keys() if change.complete else change.deletes - change.puts.keys()
        for ref in gone:
            own.pop(ref, None)
        for ref, entry in change.puts.items():
            own[ref] = _keep_identity(change.kind, own.get(ref), entry)
        return self._publish(change.kind, {*gone, *change.puts})

    def problems(self) -> Iterator[Problem]:
        """Why objects are rejected before translation sees them, and which are there twice; in a fixed order."""
        for kind in sorted(self._entries):
            for ref, rejection in sorted(self._rejected[kind].items(), key=lambda item: item[0]):
                target = ObjectRef(kind, ref.namespace, ref.name)
                yield Problem(Severity.ERROR, target, rejection.path, rejection.message)
            yield from self._duplicates(kind)

    def _duplicates(self, kind: str) -> Iterator[Problem]:
        first, *others = sorted(self._by_source[kind])
        if not others:
            return
        seen = dict.fromkeys(self._by_source[kind][first], first)
        for source in others:
            for ref in sorted(self._by_source[kind][source]):
                if ref in seen:
                    text = f"is in {seen[ref]} and in {source}; the one in {seen[ref]} is used, remove the other"
                    yield Problem(Severity.WARNING, ObjectRef(kind, ref.namespace, ref.name), "", text)
                else:
                    seen[ref] = source

    def _publish(self, kind: str, touched: Collection[Ref]) -> bool:
        if kind in KINDS and self._touched is not None:
            self._touched.update(ObjectRef(kind, *ref) for ref in touched)
            if len(self._touched) > MOST_TOUCHED:
                self._touched = None
        sources = [self._by_source[kind][name] for name in sorted(self._by_source[kind])]
        entries, rejected = self._entries.setdefault(kind, {}), self._rejected.setdefault(kind, {})
        puts: dict[Ref, Any] = {}
        gone: set[Ref] = set()
        for ref in touched:
            entry = next((own[ref] for own in sources if ref in own), None)
            if entry is None:
                entries.pop(ref, None)
            else:
                entries[ref] = entry
            rejected.pop(ref, None)
            if entry is not None and entry.rejection is not None:
                rejected[ref] = entry.rejection
            if entry is None or entry.value is None:
                gone.add(ref)
            else:
                puts[ref] = entry.value
        before = self._snapshot.of(kind)
        after = before.replace(puts, frozenset(gone))
        if after is before:
            return False
        self._snapshot = ConfigSnapshot(
            MappingProxyType({**self._snapshot.collections, kind: after}),
            MappingProxyType({**self._snapshot.created, kind: self._ages(kind, puts, gone)}),
            MappingProxyType({**self._snapshot.claimed, kind: self._claims(kind, puts, gone)}),
        )
        return True

    def _ages(self, kind: str, puts: Iterable[Ref], gone: Iterable[Ref]) -> Mapping[Ref, int]:
        return _patched(
            self._snapshot.created.get(kind, {}), self._entries[kind], puts, gone, lambda entry: entry.created
        )

    def _claims(self, kind: str, puts: Iterable[Ref], gone: Iterable[Ref]) -> Mapping[Ref, Claims]:
        return _patched(
            self._snapshot.claimed.get(kind, {}), self._entries[kind], puts, gone, lambda entry: entry.claimed
        )


def _patched(
    before: Mapping[Ref, T],
    entries: Mapping[Ref, Entry],
    puts: Iterable[Ref],
    gone: Iterable[Ref],
    look: Callable[[Entry], T],
) -> Mapping[Ref, T]:
    """What *look* says of each entry, without empty answers; the same mapping if these make no difference."""
    found: dict[Ref, T | None] = {**dict.fromkeys(gone), **{ref: look(entries[ref]) or None for ref in puts}}
    changed = {ref: value for ref, value in found.items() if before.get(ref) != value}
    if not changed:
        return before
    after = dict(before)
    for ref, value in changed.items():
        if value is None:
            after.pop(ref, None)
        else:
            after[ref] = value
    return after


def _keep_identity(kind: str, old: Entry | None, new: Entry) -> Entry:
    """The new entry with the old value where nothing changed, or where the new one is rejected (last good).

    An object keeps its age as long as it exists.
    """
    if old is None:
        claimed = new.claimed or stored_claims(new.status)
        return replace(new, claimed=claimed) if claimed else new
    keeps = old.value is not None and (new.value is None or new.value == old.value)
    value = old.value if keeps else new.value
    claimed = old.claimed if keeps or value is None else later_claims(kind, old.value, old.claimed, value, new.version)
    return Entry(value, new.rejection, new.status, new.version, old.created or new.created, claimed)
