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
from gloo_nomad.store.snapshot import ConfigSnapshot

T = TypeVar("T")
Select = Callable[[Any], Iterable[tuple[Ref, Any]]]


class Reads:
    """A snapshot that writes down what was read from it."""

    __slots__ = ("collections", "lookups", "selections", "snapshot")

    def __init__(self, snapshot: ConfigSnapshot) -> None:
        self.snapshot = snapshot
        self.lookups: dict[tuple[str, Ref], Any] = {}
        self.selections: list[tuple[str, Select, tuple[tuple[Ref, Any], ...]]] = []
        self.collections: dict[str, Any] = {}

    def get(self, kind: str, ref: Ref) -> Any:
        """The object of that kind and name, or None."""
        collection = self.snapshot.of(kind)
        self.collections[kind] = collection
        found = collection.get(ref)
        self.lookups[kind, ref] = found
        return found

    def select(self, kind: str, select: Select) -> tuple[tuple[Ref, Any], ...]:
        """What ``select`` picks from the collection of a kind; it must be pure, and is called again to compare."""
        collection = self.snapshot.of(kind)
        self.collections[kind] = collection
        chosen = tuple(select(collection))
        self.selections.append((kind, select, chosen))
        return chosen

    def hold(self, snapshot: ConfigSnapshot) -> bool:
        """Whether every look-up would give the same in another snapshot."""
        changed = {kind for kind, collection in self.collections.items() if snapshot.of(kind) is not collection}
        if not changed:
            return True
        if any(kind in changed and snapshot.of(kind).get(ref) is not found
               for (kind, ref), found in self.lookups.items()):  # fmt: skip
            return False
        for kind, select, chosen in self.selections:
            if kind in changed and not _same(tuple(select(snapshot.of(kind))), chosen):
                return False
        for kind in changed:
            self.collections[kind] = snapshot.of(kind)
        return True


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
            and entry.reads.hold(snapshot)
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
        self._round += 1


def _identical(left: tuple[Any, ...], right: tuple[Any, ...]) -> bool:
    if len(left) != len(right):
        return False
    for a, b in zip(left, right, strict=True):  # noqa: SIM110  # measured: a generator costs twice as much here
        if a is not b:
            return False
    return True
