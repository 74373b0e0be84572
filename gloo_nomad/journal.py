"""Mappings that never change and know in what they differ from those before them."""

from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, Sequence, ValuesView
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Self, TypeVar

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

_REMEMBERED_STEPS: Final = 16
"""How many changes back a mapping can tell the difference without comparing."""
_BLOCK: Final = 256


class Journal(Mapping[K, V], Generic[K, V]):
    """A mapping, sorted by its keys. Never changes; ``replace`` makes a new one. Compared by identity."""

    __slots__ = ("_items", "_since", "_steps", "identity")

    def __init__(self, items: Mapping[K, V] | None = None) -> None:
        given: Mapping[Any, V] = items or {}
        self._items: dict[K, V] = {key: given[key] for key in sorted(given)}
        self.identity = object()
        """Stands for the mapping where nothing must keep it alive."""
        self._steps: tuple[tuple[object, frozenset[K]], ...] = ()
        self._since: dict[object, frozenset[K]] = {}

    def __getitem__(self, key: K) -> V:
        return self._items[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, key: object) -> bool:
        return key in self._items

    def get(self, key: K, default: Any = None) -> Any:
        """The value of that key; the same object as long as it did not change."""
        return self._items.get(key, default)

    def items(self) -> ItemsView[K, V]:
        """All values with their keys, without a look-up for each."""
        return self._items.items()

    def values(self) -> ValuesView[V]:
        """All values, without a look-up for each."""
        return self._items.values()

    def keys(self) -> KeysView[K]:
        """All keys; comparable as a set."""
        return self._items.keys()

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def replace(self, puts: Mapping[K, V], deletes: Iterable[K] = ()) -> Self:
        """A mapping with these values put and those removed; itself when that changes nothing."""
        old = self._items
        real_puts = {key: value for key, value in puts.items() if key not in old or old[key] is not value}
        real_deletes = [key for key in deletes if key in old and key not in puts]
        if not real_puts and not real_deletes:
            return self
        merged: dict[Any, V] = dict(old)
        for key in real_deletes:
            del merged[key]
        grows = any(key not in merged for key in real_puts)
        merged.update(real_puts)
        if grows:
            merged = {key: merged[key] for key in sorted(merged)}
        return self._followed_by(merged, frozenset((*real_puts, *real_deletes)))

    def changed_since(self, older: "Journal[K, V]") -> frozenset[K] | None:
        """The keys whose value may be another one than in *older*; None if that is too long ago to know."""
        return self.changed_after(older.identity)

    def changed_after(self, older: object) -> frozenset[K] | None:
        """The same for the identity of an older one."""
        if older is self.identity:
            return frozenset()
        known = self._since.get(older)
        if known is not None:
            return known
        changed: set[K] = set()
        for identity, keys in reversed(self._steps):
            changed |= keys
            if identity is older:
                return self._since.setdefault(identity, frozenset(changed))
        return None

    def _followed_by(self, items: dict[K, V], changed: frozenset[K]) -> Self:
        following = type(self)()
        following._items = items  # noqa: SLF001  # its own class
        following._steps = (*self._steps[1 - _REMEMBERED_STEPS :], (self.identity, changed))  # noqa: SLF001
        return following


@dataclass(slots=True)
class Joined(Generic[K, V]):
    """Several mappings as one, kept up to date by those of them that are other objects than the last time."""

    parts: tuple[Mapping[K, V], ...] = ()
    whole: Journal[K, V] = field(default_factory=Journal)

    def join(self, parts: Iterable[Mapping[K, V]]) -> Journal[K, V]:
        """All of these; the same object as the last time if nothing is different.

        Of a key that several have the last value counts, and then all of them are put together anew each time.
        """
        before, now = self.parts, tuple(parts)
        self.parts = ()
        known = bool(before) and len(before) == len(now)
        if known:
            self.whole = self._update(before, now)
        if not known or len(self.whole) != sum(map(len, now)):
            everything = {key: value for part in now for key, value in part.items()}
            self.whole = self.whole.replace(everything, self.whole.keys() - everything.keys())
        self.parts = now if len(self.whole) == sum(map(len, now)) else ()
        return self.whole

    def _update(self, before: Iterable[Mapping[K, V]], now: Iterable[Mapping[K, V]]) -> Journal[K, V]:
        puts: dict[K, V] = {}
        deletes: set[K] = set()
        for old, new in zip(before, now, strict=True):
            if new is not old:
                puts.update(_put_since(old, new))
                deletes.update(old.keys() - new.keys())
        return self.whole.replace(puts, deletes)


def _put_since(old: Mapping[K, V], new: Mapping[K, V]) -> Mapping[K, V]:
    """What may be others now, at least."""
    changed = new.changed_since(old) if isinstance(old, Journal) and isinstance(new, Journal) else None
    return new if changed is None else {key: new[key] for key in changed if key in new}


def differing_places(old: Sequence[T], new: Sequence[T]) -> list[int] | None:
    """Where two sequences of the same length have different objects; None if they have different lengths.

    Equal blocks are passed over without a look at each object, which must compare by identity.
    """
    if len(old) != len(new):
        return None
    found: list[int] = []
    for start in range(0, len(new), _BLOCK):
        left, right = old[start : start + _BLOCK], new[start : start + _BLOCK]
        if left != right:
            pairs = zip(left, right, strict=True)
            found.extend(start + place for place, (one, other) in enumerate(pairs) if one is not other)
    return found
