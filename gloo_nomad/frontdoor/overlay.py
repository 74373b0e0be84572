"""The picture of all objects as it would be with some of them written or deleted."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.kinds import PROXY, SETTINGS
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.frontdoor.documents import Document
from gloo_nomad.reports import Problem, Problems, Severity
from gloo_nomad.store import claims
from gloo_nomad.store.snapshot import ConfigSnapshot

_NOT_TRANSLATED: Final = frozenset({PROXY.name})


def lay_over(
    snapshot: ConfigSnapshot, documents: Iterable[Document], deletes: Iterable[ObjectRef] = ()
) -> ConfigSnapshot:
    """The snapshot with the documents' objects put and others taken away; itself when that changes nothing.

    An object that did not exist before is younger than all others, so that it loses conflicts.
    """
    puts: dict[str, dict[Ref, Any]] = {}
    gone: dict[str, set[Ref]] = {}
    for document in documents:
        if document.message is not None and document.ref.kind not in _NOT_TRANSLATED:
            before = snapshot.of(document.ref.kind).get(document.ref.ref)
            same = before is not None and before == document.message
            puts.setdefault(document.ref.kind, {})[document.ref.ref] = before if same else document.message
    for ref in deletes:
        gone.setdefault(ref.kind, set()).add(ref.ref)
    collections = dict(snapshot.collections)
    for kind in {**puts, **gone}:
        collections[kind] = snapshot.of(kind).replace(puts.get(kind, {}), frozenset(gone.get(kind, ())))
    if all(snapshot.of(kind) is collection for kind, collection in collections.items()):
        return snapshot
    return ConfigSnapshot(MappingProxyType(collections), _ages(snapshot, puts), _claims(snapshot, puts))


def _ages(snapshot: ConfigSnapshot, puts: Mapping[str, Mapping[Ref, Any]]) -> Mapping[str, Mapping[Ref, int]]:
    created = dict(snapshot.created)
    youngest = max((age for ages in created.values() for age in ages.values()), default=0)
    for kind, objects in puts.items():
        ages = dict(created.get(kind, {}))
        for ref in objects:
            if ref not in ages:
                youngest += 1
                ages[ref] = youngest
        created[kind] = MappingProxyType(ages)
    return MappingProxyType(created)


def _claims(
    snapshot: ConfigSnapshot, puts: Mapping[str, Mapping[Ref, Any]]
) -> Mapping[str, Mapping[Ref, claims.Claims]]:
    """What an edit adds is claimed later than all that exists."""
    claimed = dict(snapshot.claimed)
    for kind, objects in puts.items():
        before, known = snapshot.of(kind), claimed.get(kind, {})
        found = {
            ref: claims.later_claims(kind, before[ref], known.get(ref, claims.NO_CLAIMS), message, claims.LATEST)
            for ref, message in objects.items()
            if ref in before
        }
        claimed[kind] = {ref: later for ref, later in {**known, **found}.items() if later}
    return MappingProxyType(claimed)


def duplicates(documents: Iterable[Document]) -> Problems:
    """An error for each object that is there more than once; the last one counts."""
    seen: dict[ObjectRef, str] = {}
    problems: list[Problem] = []
    for document in documents:
        if document.message is None:
            continue
        if document.ref in seen:
            message = f"is in {seen[document.ref]} and again in {document.origin}; keep one of them"
            problems.append(Problem(Severity.ERROR, document.ref, "metadata.name", message))
        seen[document.ref] = document.origin
    return tuple(problems)


def settings_among(documents: Iterable[Document]) -> settings_pb2.Settings | None:
    """The Settings object among documents, the one named ``default`` first."""
    found = [document for document in documents if document.ref.kind == SETTINGS.name and document.message is not None]
    found.sort(key=lambda document: (document.ref.name != "default", document.ref))
    message = found[0].message if found else None
    return message if isinstance(message, settings_pb2.Settings) else None
