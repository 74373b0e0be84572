"""Memory of pure computations: a result is kept as long as everything it was computed from is the same object.

Two ways to say what a computation reads:

- ``Memo.get(key, inputs, compute)``: the inputs are listed beforehand;
- ``Memo.track(key, inputs, snapshot, compute)``: the computation looks objects up through ``Reads``, which writes down
  what it gave; the result is kept as long as every look-up would give the same again.

The comparison is by identity, which ``store.snapshot`` makes meaningful; text and numbers are compared by value.
Computations may be nested: what an inner ``track`` looked up counts for the outer one as well, and a remembered outer
result keeps the inner ones alive.
"""

import operator
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final, Generic, TypeVar

from gloo_nomad.api.refs import Ref
from gloo_nomad.store.snapshot import Collection, ConfigSnapshot

T = TypeVar("T")
Select = Callable[[Any], Iterable[tuple[Ref, Any]]]
Matches = Callable[[Ref, Any], bool]
Look = Callable[[Any], Any]
Chosen = tuple[tuple[Ref, Any], ...]

Footprint = Mapping[str, frozenset[Ref] | None]
"""By kind the names that were looked up; None where any object may matter."""
Changes = Mapping[str, frozenset[Ref] | None]
"""By kind the names whose object may be another; None for any."""

_BY_VALUE: Final = frozenset({str, int, float, bytes, Ref})
_NOWHERE: Final = ConfigSnapshot()


class Reads:
    """A snapshot that writes down what was read from it."""

    __slots__ = ("_footprint", "lookups", "matches", "nested", "seen", "selections", "snapshot", "views")

    def __init__(self, snapshot: ConfigSnapshot) -> None:
        self.snapshot = snapshot
        self.seen: dict[str, object] = {}
        """The identity of each collection that was read, here or in ``nested``, when all of it was found unchanged."""
        self.lookups: dict[str, dict[Ref, Any]] = {}
        self.views: dict[str, dict[Look, dict[Ref, Any]]] = {}
        self.selections: list[tuple[str, Select, Chosen]] = []
        self.matches: list[tuple[str, Matches, dict[Ref, Any]]] = []
        self.nested: tuple[Reads, ...] = ()
        self._footprint: Footprint = {}

    def get(self, kind: str, ref: Ref) -> Any:
        """The object of that kind and name, or None."""
        found = self._collection(kind).get(ref)
        self.lookups.setdefault(kind, {})[ref] = found
        return found

    def view(self, kind: str, ref: Ref, look: Look) -> Any:
        """What ``look`` says of the object of that kind and name (None for none).

        Only an answer that is not equal to the last one counts as a change; ``look`` must be pure.
        """
        seen = look(self._collection(kind).get(ref))
        self.views.setdefault(kind, {}).setdefault(look, {})[ref] = seen
        return seen

    def select(self, kind: str, select: Select) -> Chosen:
        """What ``select`` picks from the whole collection of a kind.

        It must be pure, and is called again for every change of that kind: prefer ``matching`` where it serves.
        """
        chosen = tuple(select(self._collection(kind)))
        self.selections.append((kind, select, chosen))
        return chosen

    def matching(self, kind: str, matches: Matches, among: Iterable[tuple[Ref, Any]] | None = None) -> Chosen:
        """The objects of a kind for which ``matches`` is true, sorted by name.

        It must be pure and look at nothing but its arguments: after a change only the changed objects are asked.
        *among* spares asking all of them the first time: sorted objects that have every match among them.
        """
        everything = self._collection(kind)
        candidates = everything.items() if among is None else among
        chosen = {ref: value for ref, value in candidates if matches(ref, value)}
        self.matches.append((kind, matches, chosen))
        return tuple(chosen.items())

    def close(self, nested: Iterable["Reads"]) -> None:
        """Ends the reading: the look-ups are kept, those of *nested* as well, and the snapshot is not."""
        self.snapshot = _NOWHERE
        self.nested = tuple(dict.fromkeys(nested))
        if not self.nested:
            return
        places: dict[str, list[frozenset[Ref] | None]] = {}
        for reads in (self, *self.nested):
            for kind, refs in reads.footprint().items():
                places.setdefault(kind, []).append(refs)
            for kind, identity in reads.seen.items():
                if self.seen.setdefault(kind, identity) is not identity:
                    self.seen[kind] = object()  # of no collection: to be compared one by one
        self._footprint = {kind: _union(refs) for kind, refs in places.items()}

    def footprint(self) -> "Footprint":
        """Where a change can matter, here or in ``nested``."""
        if self._footprint:
            return self._footprint
        own: dict[str, frozenset[Ref] | None] = {}
        for kind in self.seen:
            own[kind] = frozenset(chain(self.lookups.get(kind, ()), *self.views.get(kind, {}).values()))
        own.update((kind, None) for kind, _, _ in (*self.selections, *self.matches))
        return own

    def hold(self, snapshot: ConfigSnapshot) -> bool:
        """Whether every look-up would give the same in another snapshot."""
        news = {kind: now for kind, known in self.seen.items() if (now := snapshot.of(kind)).identity is not known}
        if not news:
            return True
        changes = {kind: now.changed_after(self.seen[kind]) for kind, now in news.items()}
        if self.nested and self._is_concerned(changes):
            holds = self._hold_among(news, changes) and all(reads.hold(snapshot) for reads in self.nested)
        else:
            holds = bool(self.nested) or self._hold_among(news, changes)
        if holds:
            self.seen.update((kind, now.identity) for kind, now in news.items())
        return holds

    def _collection(self, kind: str) -> Collection[Any]:
        collection = self.snapshot.of(kind)
        self.seen[kind] = collection.identity
        return collection

    def _is_concerned(self, changes: Changes) -> bool:
        """Whether any of these changes is where something was looked up."""
        for kind, changed in changes.items():
            places = self._footprint[kind]
            if changed is None or places is None or not places.isdisjoint(changed):
                return True
        return False

    def _hold_among(self, news: Mapping[str, Collection[Any]], changes: Changes) -> bool:
        for kind, now in news.items():
            changed = changes[kind]
            lookups = self.lookups.get(kind)
            if lookups and not _still_found(lookups, now, changed):
                return False
            views = self.views.get(kind)
            if views and not _still_seen(views, now, changed):
                return False
        for kind, matches, chosen in self.matches:
            if kind in news and not _still_matched(chosen, matches, news[kind], changes[kind]):
                return False
        for kind, select, picked in self.selections:
            if kind in news and not _same(tuple(select(news[kind])), picked):
                return False
        return True


def _union(parts: Iterable[frozenset[Ref] | None]) -> frozenset[Ref] | None:
    known: list[frozenset[Ref]] = []
    for part in parts:
        if part is None:
            return None
        known.append(part)
    return frozenset().union(*known)


def _still_found(lookups: dict[Ref, Any], now: Collection[Any], changed: frozenset[Ref] | None) -> bool:
    if changed is not None and lookups.keys().isdisjoint(changed):
        return True
    return all(now.get(ref) is found for ref, found in lookups.items())


def _still_seen(views: dict[Look, dict[Ref, Any]], now: Collection[Any], changed: Iterable[Ref] | None) -> bool:
    for look, found in views.items():
        again = found if changed is None else [ref for ref in changed if ref in found]
        if any(look(now.get(ref)) != found[ref] for ref in again):
            return False
    return True


def _still_matched(
    chosen: dict[Ref, Any], matches: Matches, now: Collection[Any], changed: Iterable[Ref] | None
) -> bool:
    for ref in changed if changed is not None else {**chosen, **now}:
        value = now.get(ref)
        if (value if value is not None and matches(ref, value) else None) is not chosen.get(ref):
            return False
    return True


def _same(left: Chosen, right: Chosen) -> bool:
    return len(left) == len(right) and all(a[0] == b[0] and a[1] is b[1] for a, b in zip(left, right, strict=True))


@dataclass(slots=True)
class _Entry(Generic[T]):
    inputs: tuple[Any, ...]
    value: T
    reads: Reads | None
    nested: tuple[Reads, ...]
    inner: tuple[Hashable, ...]
    """What the computation asked for."""
    holders: int = 0
    """How many times it is among the ``inner`` of others."""


@dataclass(slots=True)
class _Frame:
    """A computation that is running: what it asked for, and what the computations it asked for looked up."""

    reads: Reads | None
    nested: list[Reads] = field(default_factory=list)
    inner: list[Hashable] = field(default_factory=list)


@dataclass(slots=True)
class Memo:
    """Results by key. ``sweep`` forgets what the last round did not ask for: memory follows the configuration.

    Not thread-safe: one thread translates.
    """

    _entries: dict[Hashable, _Entry[Any]] = field(default_factory=dict)
    _running: list[_Frame] = field(default_factory=list)
    _asked: set[Hashable] = field(default_factory=set)
    """What was asked for in this round, and not by another computation."""
    _before: set[Hashable] = field(default_factory=set)
    """The same of the round before."""
    _loose: set[Hashable] = field(default_factory=set)
    """What may have no holder."""
    computed: int = 0
    """How many results were computed and not remembered, ever."""

    def get(self, key: Hashable, inputs: tuple[Any, ...], compute: Callable[[], T]) -> T:
        """The remembered result if every input is the same object as last time; else a new one.

        If the computation calls ``track``, what that looked up is an input as well.
        """
        entry: _Entry[T] | None = self._entries.get(key)
        if entry is None or not _identical(entry.inputs, inputs) or (entry.nested and not self._hold(entry.nested)):
            entry = self._compute(key, inputs, None, compute)
        return self._ask(key, entry)

    def track(
        self, key: Hashable, inputs: tuple[Any, ...], snapshot: ConfigSnapshot, compute: Callable[[Reads], T]
    ) -> T:
        """The same, for a computation that looks things up while it runs."""
        entry: _Entry[T] | None = self._entries.get(key)
        if (
            entry is None
            or entry.reads is None
            or not _identical(entry.inputs, inputs)
            or not entry.reads.hold(snapshot)
        ):
            reads = Reads(snapshot)
            entry = self._compute(key, inputs, reads, lambda: compute(reads))
            reads.close(entry.nested)
            entry.nested = ()
        return self._ask(key, entry)

    def sweep(self) -> None:
        """Ends a round: forgets every result that was neither asked for in it nor part of one that was.

        Costs what was asked for and what is forgotten, not what is remembered.
        """
        waiting = [*(self._before - self._asked), *(self._loose - self._asked)]
        while waiting:
            key = waiting.pop()
            entry = self._entries.get(key)
            if entry is not None and not entry.holders and key not in self._asked:
                del self._entries[key]
                waiting += self._release(entry.inner)
        self._before, self._asked = self._asked, set()
        self._loose.clear()

    def _compute(
        self, key: Hashable, inputs: tuple[Any, ...], reads: Reads | None, compute: Callable[[], T]
    ) -> _Entry[T]:
        self.computed += 1
        frame = _Frame(reads)
        self._running.append(frame)
        try:
            value = compute()
        finally:
            self._running.pop()
        old = self._entries.get(key)
        holders = 0 if old is None else old.holders
        entry = _Entry(inputs, value, reads, tuple(frame.nested), tuple(frame.inner), holders)
        self._entries[key] = entry
        self._loose.add(key)
        for inner in entry.inner:
            self._entries[inner].holders += 1
        if old is not None:
            self._loose.update(self._release(old.inner))
        return entry

    def _release(self, inner: Iterable[Hashable]) -> Iterator[Hashable]:
        """One holder less for each of these; yields those that have none any more."""
        for key in inner:
            entry = self._entries[key]
            entry.holders -= 1
            if not entry.holders:
                yield key

    def _ask(self, key: Hashable, entry: _Entry[T]) -> T:
        if not self._running:
            self._asked.add(key)
            return entry.value
        outer = self._running[-1]
        outer.inner.append(key)
        if entry.reads is not None:
            outer.nested.append(entry.reads)
        else:
            outer.nested.extend(entry.nested)
        return entry.value

    def _hold(self, nested: Iterable[Reads]) -> bool:
        """Whether these would find the same in the snapshot at hand; without one nobody knows."""
        for frame in reversed(self._running):
            if frame.reads is not None:
                snapshot = frame.reads.snapshot
                return all(reads.hold(snapshot) for reads in nested)
        return False


def _identical(left: tuple[Any, ...], right: tuple[Any, ...]) -> bool:
    if len(left) != len(right):
        return False
    if all(map(operator.is_, left, right)):
        return True
    for a, b in zip(left, right, strict=True):
        if a is not b and (type(a) not in _BY_VALUE or type(a) is not type(b) or a != b):
            return False
    return True
