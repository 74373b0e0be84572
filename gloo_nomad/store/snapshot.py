"""The immutable picture of all objects that translation reads.

Identity is the currency here: an object that did not change is the *same* Python object in the next snapshot, and a
collection in which nothing changed is the same collection. ``memo`` builds on that.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, TypeVar

from gloo_nomad.api.refs import Ref
from gloo_nomad.journal import Journal
from gloo_nomad.store.claims import Claims

V = TypeVar("V")


class Collection(Journal[Ref, V]):
    """All objects of one kind, sorted by namespace and name."""

    __slots__ = ()


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
