"""What a source says: these objects are so now, those are gone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gloo_nomad.api.codec import Rejection
from gloo_nomad.api.refs import Ref
from gloo_nomad.store.claims import NO_CLAIMS, Claims


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored object, or the reason why it is none.

    ``value`` is the message without status and resource version (or a ``ServiceInstances``); None with a ``rejection``.
    ``version`` is what a compare-and-set needs (Consul's ModifyIndex); ``created`` orders objects by age.
    """

    value: Any
    rejection: Rejection | None = None
    status: Mapping[str, Any] = field(default_factory=dict)
    version: int = 0
    created: int = 0
    claimed: Claims = field(default_factory=lambda: NO_CLAIMS)
    """The store's own knowledge, sources leave it empty: see ``claims``. What was kept on disk brings it along."""


@dataclass(frozen=True, slots=True)
class Change:
    """Objects of one kind, as one source knows them.

    ``complete`` says that ``puts`` is all the source has of that kind: what it named before and not now is gone.
    A source that cannot read sends nothing at all: an error is not an empty list.
    """

    source: str
    kind: str
    puts: Mapping[Ref, Entry] = field(default_factory=dict)
    deletes: frozenset[Ref] = frozenset()
    complete: bool = False
