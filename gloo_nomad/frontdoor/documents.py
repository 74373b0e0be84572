"""Texts with one or many objects, of which kind is to be found out.

A text may hold several YAML documents between ``---`` lines, a JSON array, or a Kubernetes ``List``. An object says its
kind by a manifest's ``kind``, by the place where it lies (see ``tree``), or by its fields: only a VirtualService has
``virtualHost``.
"""

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import msgspec
from google.protobuf.message import Message

from gloo_nomad.api import codec
from gloo_nomad.api.codec import Rejection
from gloo_nomad.api.documents import MAX_DOCUMENTS, TOO_MANY, Part, split_documents
from gloo_nomad.api.kinds import ENDPOINT, GATEWAY, KINDS, PROXY, Kind
from gloo_nomad.api.mistakes import DocumentError, FieldError
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.reports import Problem, Severity

UNKNOWN: Final = "Document"
"""Stands for the kind in the name of what is no object; the name is then the place where it was read."""
_NO_KIND: Final = "the fields do not say what kind of object this is: give apiVersion, kind and spec"
_COMMON: Final = frozenset({"metadata", "namespaced_statuses", "status"})


@dataclass(frozen=True, slots=True)
class Document:
    """One object as it was read, or the reason why it is none."""

    origin: str
    """Where it was read, for people: ``routes.yaml`` or ``routes.yaml, document 2``."""
    ref: ObjectRef
    message: Message | None
    rejection: Rejection | None = None
    status: Mapping[str, Any] = field(default_factory=dict)
    text: bytes = field(default=b"", repr=False)

    @property
    def kind(self) -> Kind | None:
        """The object's kind, if it is an object."""
        return KINDS.get(self.ref.kind)

    def problems(self) -> tuple[Problem, ...]:
        """Why this is no object."""
        if self.rejection is None:
            return ()
        return (Problem(Severity.ERROR, self.ref, self.rejection.path, self.rejection.message),)


def parse_documents(
    text: bytes, origin: str, kind: Kind | None = None, expected: Ref | None = None
) -> tuple[Document, ...]:
    """All objects in *text*; *kind* and *expected* are what the place says, if it says anything."""
    found: list[Document] = []
    try:
        parts = _split(text)
    except DocumentError as failure:
        return (_no_object(origin, Rejection("", str(failure))),)
    for number, part in enumerate(parts, 1):
        place = origin if len(parts) == 1 else f"{origin}, document {number}"
        found.extend(_parse_part(part.in_place(), place, kind, expected))
        if len(found) > MAX_DOCUMENTS:
            return (_no_object(origin, Rejection("", TOO_MANY)),)
    return tuple(found)


def read_document(text: bytes) -> dict[str, Any] | Rejection:
    """The mapping in *text* before anybody knows its kind, or why there is none."""
    try:
        return codec.parse_document(text)
    except FieldError as error:
        return Rejection(error.path, error.message)
    except ValueError as error:
        return Rejection("", str(error))


def _split(text: bytes) -> list[Part]:
    """The documents in a text. Raises ``DocumentError`` for too many."""
    if text.lstrip()[:1] == b"[":
        try:
            return [Part(bytes(raw)) for raw in msgspec.json.decode(text, type=list[msgspec.Raw])]
        except msgspec.DecodeError:
            return [Part(text)]
    return split_documents(text)


def _parse_part(text: bytes, origin: str, kind: Kind | None, expected: Ref | None) -> Iterator[Document]:
    document = read_document(text)
    if isinstance(document, Rejection):
        yield _no_object(origin, document, kind, expected)
    elif document.get("kind") == "List" and isinstance(document.get("items"), list):
        for number, item in enumerate(document["items"], 1):
            inner = msgspec.json.encode(item)
            yield from _parse_part(inner, f"{origin}, item {number}", kind, expected)
    else:
        yield _decode(text, document, origin, kind, expected)


def _decode(text: bytes, document: dict[str, Any], origin: str, kind: Kind | None, expected: Ref | None) -> Document:
    found = kind or recognise(document, lambda candidate: codec.decode(candidate, text).rejection is None)
    if isinstance(found, Rejection):
        return _no_object(origin, found)
    decoded = codec.decode(found, text, expected)
    ref = decoded.ref if decoded.ref.name else _written_name(found, document)
    return Document(origin, ref, decoded.message, decoded.rejection, decoded.status, text.lstrip(b"\n"))


def _no_object(origin: str, rejection: Rejection, kind: Kind | None = None, expected: Ref | None = None) -> Document:
    if kind is not None and expected is not None:
        return Document(origin, kind.object_ref(expected), None, rejection)
    return Document(origin, ObjectRef(UNKNOWN, "", origin), None, rejection)


def _written_name(kind: Kind, document: Mapping[str, Any]) -> ObjectRef:
    """The name that a rejected object gives itself, as far as it is readable."""
    metadata = document.get("metadata")
    written = metadata if isinstance(metadata, dict) else {}
    namespace, name = (str(written.get(part) or "?")[:253] for part in ("namespace", "name"))
    return ObjectRef(kind.name, namespace, name)


def recognise(document: Mapping[str, Any], decodes: Callable[[Kind], bool]) -> Kind | Rejection:
    """The kind of a document that lies anywhere; *decodes* is asked where its fields leave a choice."""
    written = document.get("kind")
    if written is not None and ("apiVersion" in document or "spec" in document):
        return KINDS.get(str(written)) or Rejection("kind", f"{written} is no kind of object; {_known_kinds()}")
    fields = frozenset(str(name) for name in document)
    if not fields - _COMMON:
        return Rejection("", _NO_KIND)
    voted = _vote(fields)
    if voted is not None:
        return voted
    candidates = [kind for kind in _recognisable() if fields <= _names(kind)]
    fitting = [kind for kind in candidates if decodes(kind)]
    if len(fitting) == 1 or (fitting and fitting[0] is GATEWAY):
        return fitting[0]
    choice = fitting or candidates
    if not choice:
        misspelt = _vote_for_misspelt(fields)
        if misspelt is not None:
            return misspelt
    if choice:
        names = " or ".join(kind.name for kind in choice)
        return Rejection("", f"this may be a {names}: say which by apiVersion, kind and spec, or by its folder")
    return Rejection("", _NO_KIND)


def _vote(fields: frozenset[str]) -> Kind | None:
    """The kind with the most fields that only it has, if there is one such kind."""
    counted = sorted(
        ((len(fields & telling), kind.name) for kind, telling in _telling() if fields & telling), reverse=True
    )
    if not counted or (len(counted) > 1 and counted[0][0] == counted[1][0]):
        return None
    return KINDS[counted[0][1]]


def _vote_for_misspelt(fields: frozenset[str]) -> Kind | None:
    """The same for fields that nearly have such a name: the kind's own codec then says what was meant."""
    telling = {name for _, names in _telling() for name in names}
    meant = frozenset(
        close for name in fields - {"metadata"} for close in difflib.get_close_matches(name[:64], telling, 1, 0.8)
    )
    return _vote(meant)


@cache
def _recognisable() -> tuple[Kind, ...]:
    return tuple(kind for kind in KINDS.values() if kind not in (PROXY, ENDPOINT))


@cache
def _names(kind: Kind) -> frozenset[str]:
    """All names of the kind's fields, as written in either style."""
    fields = kind.message.DESCRIPTOR.fields
    return frozenset(name for field in fields for name in (field.name, field.camelcase_name, field.json_name)) | _COMMON


@cache
def _telling() -> tuple[tuple[Kind, frozenset[str]], ...]:
    """For each kind the names that no other kind has."""
    kinds = _recognisable()
    return tuple(
        (kind, _names(kind) - frozenset().union(*(_names(other) for other in kinds if other is not kind)))
        for kind in kinds
    )


def _known_kinds() -> str:
    return "known are " + ", ".join(sorted(KINDS))
