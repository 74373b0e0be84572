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
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from gloo_nomad.api.refs import Ref
from gloo_nomad.store.snapshot import Collection, ConfigSnapshot

T = TypeVar("T")
Select = Callable[[Any], Iterable[tuple[Ref, Any]]]
Matches = Callable[[Ref, Any], bool]
Look = Callable[[Any], Any]
Chosen = tuple[tuple[Ref, Any], ...]

_BY_VALUE: Final = frozenset({str, int, float, bytes, Ref})


class Reads:
    """A snapshot that writes down what was read from it."""

    __slots__ = ("collections", "lookups", "matches", "nested", "selections", "snapshot", "views")

    def __init__(self, snapshot: ConfigSnapshot) -> None:
        self.snapshot = snapshot
        self.collections: dict[str, Collection[Any]] = {}
        self.lookups: dict[str, dict[Ref, Any]] = {}
        self.views: dict[str, dict[Ref, dict[Look, Any]]] = {}
        self.selections: list[tuple[str, Select, Chosen]] = []
        self.matches: list[tuple[str, Matches, dict[Ref, Any]]] = []
        self.nested: list[Reads] = []

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
        self.views.setdefault(kind, {}).setdefault(ref, {})[look] = seen
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

    def hold(self, snapshot: ConfigSnapshot) -> bool:
        """Whether every look-up would give the same in another snapshot."""
        for kind, collection in self.collections.items():
            if snapshot.of(kind) is not collection:
                if not self._hold_in(snapshot):
                    return False
                break
        return not self.nested or all(reads.hold(snapshot) for reads in self.nested)

    def _collection(self, kind: str) -> Collection[Any]:
        collection = self.collections[kind] = self.snapshot.of(kind)
        return collection

    def _hold_in(self, snapshot: ConfigSnapshot) -> bool:
        """The same for the collections that are others now, and what they are is remembered."""
        found = ((kind, snapshot.of(kind)) for kind in self.collections)
        news = {kind: now for kind, now in found if now is not self.collections[kind]}
        holds = self._hold_among(news)
        if holds:
            self.collections.update(news)
        return holds

    def _hold_among(self, news: dict[str, Collection[Any]]) -> bool:
        changes: dict[str, Iterable[Ref] | None] = {}
        for kind, now in news.items():
            changed = now.changed_since(self.collections[kind])
            changes[kind] = changed
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


def _still_found(lookups: dict[Ref, Any], now: Collection[Any], changed: Iterable[Ref] | None) -> bool:
    if changed is not None and lookups.keys().isdisjoint(changed):
        return True
    return all(now.get(ref) is found for ref, found in lookups.items())


def _still_seen(views: dict[Ref, dict[Look, Any]], now: Collection[Any], changed: Iterable[Ref] | None) -> bool:
    if changed is not None and views.keys().isdisjoint(changed):
        return True
    again = views if changed is None else [ref for ref in changed if ref in views]
    return all(look(now.get(ref)) == seen for ref in again for look, seen in views[ref].items())


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
    round: int
    reads: Reads | None
    nested: list[Reads]
    inner: list[Hashable]


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
    _round: int = 0
    computed: int = 0
    """How many results were computed and not remembered, ever."""

    def get(self, key: Hashable, inputs: tuple[Any, ...], compute: Callable[[], T]) -> T:
        """The remembered result if every input is the same object as last time; else a new one.

        If the computation calls ``track``, what that looked up is an input as well.
        """
        entry: _Entry[T] | None = self._entries.get(key)
        if entry is None or not _identical(entry.inputs, inputs) or (entry.nested and not self._hold(entry.nested)):
            entry = self._compute(key, inputs, None, compute)
        return self._asked(key, entry)

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
            reads.nested = entry.nested
            reads.snapshot = ConfigSnapshot()  # the look-ups are kept, the old world is not
        return self._asked(key, entry)

    def sweep(self) -> None:
        """Ends a round: forgets every result that was neither asked for in it nor part of one that was."""
        self._keep_inner()
        if any(entry.round != self._round for entry in self._entries.values()):
            self._entries = {key: entry for key, entry in self._entries.items() if entry.round == self._round}
        self._round += 1

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
        entry = self._entries[key] = _Entry(inputs, value, self._round, reads, frame.nested, frame.inner)
        return entry

    def _asked(self, key: Hashable, entry: _Entry[T]) -> T:
        entry.round = self._round
        if self._running:
            outer = self._running[-1]
            outer.inner.append(key)
            if entry.reads is not None:
                outer.nested.append(entry.reads)
            else:
                outer.nested.extend(entry.nested)
        return entry.value

    def _hold(self, nested: list[Reads]) -> bool:
        """Whether these would find the same in the snapshot at hand; without one nobody knows."""
        for frame in reversed(self._running):
            if frame.reads is not None:
                snapshot = frame.reads.snapshot
                return all(reads.hold(snapshot) for reads in nested)
        return False

    def _keep_inner(self) -> None:
        waiting = [entry for entry in self._entries.values() if entry.inner and entry.round == self._round]
        while waiting:
            for key in waiting.pop().inner:
                entry = self._entries.get(key)
                if entry is not None and entry.round != self._round:
                    entry.round = self._round
                    waiting.append(entry)


def _identical(left: tuple[Any, ...], right: tuple[Any, ...]) -> bool:
    if len(left) != len(right):
        return False
    if all(map(operator.is_, left, right)):
        return True
    for a, b in zip(left, right, strict=True):
        if a is not b and (type(a) not in _BY_VALUE or type(a) is not type(b) or a != b):
            return False
    return True
