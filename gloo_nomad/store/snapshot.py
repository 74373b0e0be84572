"""The immutable picture of all objects that translation reads.

Identity is the currency here: an object that did not change is the *same* Python object in the next snapshot, and a
collection in which nothing changed is the same collection. ``memo`` builds on that.
"""

from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

from gloo_nomad.api.refs import Ref
from gloo_nomad.store.claims import Claims

V = TypeVar("V")

_REMEMBERED_STEPS: Final = 16
"""How many changes back a collection can tell the difference without comparing."""


class Collection(Mapping[Ref, V], Generic[V]):
    """All objects of one kind, sorted by namespace and name. Never changes; ``replace`` makes a new one."""

    __slots__ = ("_by_ref", "_since", "_steps", "identity")

    def __init__(self, by_ref: Mapping[Ref, V] | None = None) -> None:
        given = by_ref or {}
        self._by_ref: dict[Ref, V] = {ref: given[ref] for ref in sorted(given)}
        self.identity = object()
        """Stands for the collection where nothing must keep it alive."""
        self._steps: tuple[tuple[object, frozenset[Ref]], ...] = ()
        self._since: dict[object, frozenset[Ref]] = {}

    def __getitem__(self, ref: Ref) -> V:
        return self._by_ref[ref]

    def __iter__(self) -> Iterator[Ref]:
        return iter(self._by_ref)

    def __len__(self) -> int:
        return len(self._by_ref)

    def __contains__(self, ref: object) -> bool:
        return ref in self._by_ref

    def get(self, ref: Ref, default: Any = None) -> Any:
        """The object of that name; the same object as long as it did not change."""
        return self._by_ref.get(ref, default)

    def items(self) -> ItemsView[Ref, V]:
        """All objects with their names, without a look-up for each."""
        return self._by_ref.items()

    def values(self) -> ValuesView[V]:
        """All objects, without a look-up for each."""
        return self._by_ref.values()

    def keys(self) -> KeysView[Ref]:
        """All names; comparable as a set."""
        return self._by_ref.keys()

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def replace(self, puts: Mapping[Ref, V], deletes: frozenset[Ref] = frozenset()) -> "Collection[V]":
        """A collection with these objects put and those removed; itself when that changes nothing."""
        old = self._by_ref
        real_puts = {ref: value for ref, value in puts.items() if ref not in old or old[ref] is not value}
        real_deletes = [ref for ref in deletes if ref in old and ref not in puts]
        if not real_puts and not real_deletes:
            return self
        merged = dict(old)
        for ref in real_deletes:
            del merged[ref]
        grows = any(ref not in merged for ref in real_puts)
        merged.update(real_puts)
        if grows:
            merged = {ref: merged[ref] for ref in sorted(merged)}
        return self._followed_by(merged, frozenset((*real_puts, *real_deletes)))

    def changed_since(self, older: "Collection[V]") -> frozenset[Ref] | None:
        """The names whose object may be another one than in *older*; None if that is too long ago to know."""
        return self.changed_after(older.identity)

    def changed_after(self, older: object) -> frozenset[Ref] | None:
        """The same for the identity of an older one."""
        if older is self.identity:
            return frozenset()
        known = self._since.get(older)
        if known is not None:
            return known
        changed: set[Ref] = set()
        for identity, refs in reversed(self._steps):
            changed |= refs
            if identity is older:
                return self._since.setdefault(identity, frozenset(changed))
        return None

    def _followed_by(self, by_ref: dict[Ref, V], changed: frozenset[Ref]) -> "Collection[V]":
        collection: Collection[V] = Collection()
        collection._by_ref = by_ref
        collection._steps = (*self._steps[1 - _REMEMBERED_STEPS :], (self.identity, changed))
        return collection


_EMPTY: Final[Collection[Any]] = Collection()


@dataclass(frozen=True, slots=True, eq=False)
class ConfigSnapshot:
    """All objects, by the name of their kind.

    Values are protobuf messages of the kind (never to be changed) without status and resource version, or for the
    kinds of ``store.services`` the instances of a service.
    """

    collections: Mapping[str, Collection[Any]] = field(default_factory=lambda: MappingProxyType({}))
    created: Mapping[str, Mapping[Ref, int]] = field(default_factory=lambda: MappingProxyType({}))
    """When each object was created, by kind: Consul's CreateIndex, or when a file was written; older is smaller."""
    claimed: Mapping[str, Mapping[Ref, Claims]] = field(default_factory=lambda: MappingProxyType({}))
    """What objects claim since later than that, by kind; see ``claims``."""

    def of(self, kind: str) -> Collection[Any]:
        """All objects of a kind; the same empty collection for a kind that has none."""
        return self.collections.get(kind, _EMPTY)
