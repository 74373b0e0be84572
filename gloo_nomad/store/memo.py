"""Memory of pure computations: a result is kept as long as everything it was computed from is the same object.

Two ways to say what a computation reads:

- ``Memo.get(key, inputs, compute)``: the inputs are listed beforehand;
- ``Memo.track(key, inputs, snapshot, compute)``: the computation looks objects up through ``Reads``, which writes down
  what it gave; the result is kept as long as every look-up would give the same again.

The comparison is by identity, which ``store.snapshot`` makes meaningful.
"""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from gloo_nomad.api.refs import Ref
from gloo_nomad.store.snapshot import Collection, ConfigSnapshot

T = TypeVar("T")
Select = Callable[[Any], Iterable[tuple[Ref, Any]]]
Look = Callable[[Any], Any]


class Changes:
    """Which objects differ between two collections; worked out once for all results that ask in one round."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[Any, Any, frozenset[Ref]]] = {}

    def between(self, before: Collection[Any], now: Collection[Any]) -> frozenset[Ref]:
        """Names of the objects that are not the same in both."""
        key = (id(before), id(now))
        known = self._known.get(key)
        if known is None:
            differ = {ref for ref, value in now.items() if before.get(ref) is not value}
            differ.update(ref for ref in before if ref not in now)
            known = self._known[key] = (before, now, frozenset(differ))
        return known[2]

    def forget(self) -> None:
        """Lets the collections go."""
        self._known.clear()


class Reads:
    """A snapshot that writes down what was read from it."""

    __slots__ = ("collections", "lookups", "selections", "snapshot", "views")

    def __init__(self, snapshot: ConfigSnapshot) -> None:
        self.snapshot = snapshot
        self.lookups: dict[str, dict[Ref, Any]] = {}
        self.views: dict[str, dict[Ref, dict[Look, Any]]] = {}
        self.selections: list[tuple[str, Select, tuple[tuple[Ref, Any], ...]]] = []
        self.collections: dict[str, Collection[Any]] = {}

    def get(self, kind: str, ref: Ref) -> Any:
        """The object of that kind and name, or None."""
        found = self._collection(kind).get(ref)
        self.lookups.setdefault(kind, {})[ref] = found
        return found

    def view(self, kind: str, ref: Ref, look: Look) -> Any:
        """What ``look`` says of the object (or of None). Only an answer that is not equal counts as a change."""
        seen = look(self._collection(kind).get(ref))
        self.views.setdefault(kind, {}).setdefault(ref, {})[look] = seen
        return seen

    def select(self, kind: str, select: Select) -> tuple[tuple[Ref, Any], ...]:
        """What ``select`` picks from the collection of a kind; it must be pure, and is called again to compare."""
        chosen = tuple(select(self._collection(kind)))
        self.selections.append((kind, select, chosen))
        return chosen

    def hold(self, snapshot: ConfigSnapshot, changes: Changes | None = None) -> bool:
        """Whether every look-up would give the same in another snapshot."""
        for kind, before in self.collections.items():
            now = snapshot.of(kind)
            if now is before:
                continue
            if not self._holds_in(kind, now, (changes or Changes()).between(before, now)):
                return False
            self.collections[kind] = now
        return True

    def _collection(self, kind: str) -> Collection[Any]:
        collection = self.snapshot.of(kind)
        self.collections[kind] = collection
        return collection

    def _holds_in(self, kind: str, now: Collection[Any], changed: frozenset[Ref]) -> bool:
        """Whether everything that was read from one collection is the same in another one."""
        looked_up = self.lookups.get(kind, {})
        if not looked_up.keys().isdisjoint(changed):
            return False
        viewed = self.views.get(kind, {})
        if not viewed.keys().isdisjoint(changed):
            again = viewed.keys() & changed
            if any(look(now.get(ref)) != seen for ref in again for look, seen in viewed[ref].items()):
                return False
        chosen = (entry for entry in self.selections if entry[0] == kind)
        return all(_same(tuple(select(now)), before) for _, select, before in chosen)


def _same(left: tuple[tuple[Ref, Any], ...], right: tuple[tuple[Ref, Any], ...]) -> bool:
    return len(left) == len(right) and all(a[0] == b[0] and a[1] is b[1] for a, b in zip(left, right, strict=True))


@dataclass(slots=True)
class _Entry(Generic[T]):
    inputs: tuple[Any, ...]
    value: T
    reads: Reads | None = None
    round: int = 0


@dataclass(slots=True)
class Memo:
    """Results by key. ``sweep`` forgets what the last round did not ask for: memory follows the configuration."""

    _entries: dict[Hashable, _Entry[Any]] = field(default_factory=dict)
    _round: int = 0
    _changes: Changes = field(default_factory=Changes)
    computed: int = 0
    """How many results were computed and not remembered, ever."""

    def get(self, key: Hashable, inputs: tuple[Any, ...], compute: Callable[[], T]) -> T:
        """The remembered result if every input is the same object as last time; else a new one."""
        entry = self._entries.get(key)
        if entry is not None and _identical(entry.inputs, inputs):
            entry.round = self._round
            return entry.value  # type: ignore[no-any-return]
        self.computed += 1
        value = compute()
        self._entries[key] = _Entry(inputs, value, None, self._round)
        return value

    def track(
        self, key: Hashable, inputs: tuple[Any, ...], snapshot: ConfigSnapshot, compute: Callable[[Reads], T]
    ) -> T:
        """The same, for a computation that looks things up while it runs."""
        entry = self._entries.get(key)
        if (
            entry is not None
            and _identical(entry.inputs, inputs)
            and entry.reads is not None
            and entry.reads.hold(snapshot, self._changes)
        ):
            entry.round = self._round
            return entry.value  # type: ignore[no-any-return]
        self.computed += 1
        reads = Reads(snapshot)
        value = compute(reads)
        reads.snapshot = ConfigSnapshot()  # the look-ups are kept, the old world is not
        self._entries[key] = _Entry(inputs, value, reads, self._round)
        return value

    def sweep(self) -> None:
        """Ends a round: forgets every result that it did not ask for."""
        if any(entry.round != self._round for entry in self._entries.values()):
            self._entries = {key: entry for key, entry in self._entries.items() if entry.round == self._round}
        self._changes.forget()
        self._round += 1


def _identical(left: tuple[Any, ...], right: tuple[Any, ...]) -> bool:
    if len(left) != len(right):
        return False
    for a, b in zip(left, right, strict=True):  # noqa: SIM110  # measured: a generator costs twice as much here
        if a is not b:
            return False
    return True
