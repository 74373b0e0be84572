"""Text to object and back: YAML or JSON, flat as Gloo stores it or wrapped as a Kubernetes manifest.

``decode`` never raises for what a user wrote: the answer is either an object, or the reason why it is none.
Rules: names in lowerCamelCase or snake_case, an unknown field is an error, a leftover top-level ``status`` is ignored.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec
from google.protobuf import json_format
from google.protobuf.message import Message

from gloo_nomad.api.json_message import build_message
from gloo_nomad.api.kinds import Kind, StatusStyle
from gloo_nomad.api.mistakes import DocumentError, FieldError, mismatch, quoted, type_of
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.api.yaml_text import MAX_DEPTH, MAX_NODES, dump_yaml, line_of, parse_yaml

MAX_BYTES: Final = 512 * 1024
"""Consul's limit for one value; larger documents are refused from every source."""

_JSON_KEY: Final = re.compile(rb'"\s*:')
_NAME: Final = re.compile(r"[^\s/\x00-\x1f\x7f]{1,253}")
_MANIFEST_MARKS: Final = ("apiVersion", "kind", "spec")
_STATUSES: Final = ("namespacedStatuses", "namespaced_statuses")


class Rejection(NamedTuple):
    """Why a value is no object: the field as the user writes it ("" for the whole), and what is wrong with it."""

    path: str
    message: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of one stored value.

    ``message`` is None when the object is rejected as a whole. It has neither statuses nor a resource version: the
    former are in ``status`` (by reporter, or the single old-style one under ``""``), so that a status write does not
    change the message. They are there for a rejected object as well, unless not even its text can be read.
    """

    ref: ObjectRef
    message: Message | None
    rejection: Rejection | None = None
    status: Mapping[str, Any] = field(default_factory=dict)


def decode(kind: Kind, text: bytes, expected: Ref | None = None) -> Decoded:
    """The object in *text*.

    *expected* is the name that the key or file says; metadata that says otherwise rejects the object, and its problems
    are addressed to the name that exists. Without it they are addressed to what metadata says, as far as it is text.
    """
    address = kind.object_ref(expected or Ref("", ""))
    status: Mapping[str, Any] = {}
    try:
        document = parse_document(text)
        address = kind.object_ref(expected or _written_name(document))
        status = _read_statuses(kind, document)
        message = _build(kind, document)
        ref = _check_metadata(kind, message, expected)
    except DocumentError as error:
        return Decoded(address, None, Rejection("", str(error)), status)
    except FieldError as error:
        return Decoded(address, None, Rejection(error.path, _with_line(error, text)), status)
    return Decoded(ref, message, None, status)


def parse_document(text: bytes) -> dict[str, Any]:
    """The one mapping in *text*, YAML or JSON. Raises ``DocumentError`` or ``FieldError`` (both are ``ValueError``)."""
    if len(text) > MAX_BYTES:
        raise DocumentError(f"the value has {len(text)} bytes; at most {MAX_BYTES} are accepted; split the object")
    start = text.lstrip()[:1]
    if not start:
        raise DocumentError("the value is empty; write the object as YAML or JSON, or delete the key")
    document = _parse_json(text) if start == b"{" else None
    if document is None:
        document = parse_yaml(text)
    if document is None:
        raise DocumentError("the value holds comments only; write the object as YAML or JSON, or delete the key")
    if not isinstance(document, dict):
        raise DocumentError(f"expected a mapping with metadata, found {type_of(document)}")
    return document


def _parse_json(text: bytes) -> Any:
    """The JSON document; None if it is none (YAML's flow style also begins with a brace)."""
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    keys = _survey(document)
    # Each key has a quote and a colon behind it: as many of these as keys means that no key was lost as a duplicate.
    if len(_JSON_KEY.findall(text)) != keys:
        json.loads(text, object_pairs_hook=_refuse_duplicates)
    return document


def _survey(document: Any) -> int:
    """Counts the keys, and refuses what is nested too deep or holds too many values."""
    level, keys, nodes = [document], 0, 0
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for value in level:
            if type(value) is dict:
                keys += len(value)
                below.extend(value.values())
            elif type(value) is list:
                below.extend(value)
        if not below:
            return keys
        nodes += len(below)
        if nodes > MAX_NODES:
            raise DocumentError(f"more than {MAX_NODES} values; split the object")
        level = below
    raise DocumentError(f"nested deeper than {MAX_DEPTH} levels")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise DocumentError(f"the key {quoted(key)} stands twice in one mapping; remove one")
        result[key] = value
    return result


def _build(kind: Kind, document: dict[str, Any]) -> Message:
    if not any(mark in document for mark in _MANIFEST_MARKS):
        return build_message(kind.message, _without_statuses(document))
    flat = _unwrap_manifest(kind, document)
    try:
        return build_message(kind.message, flat)
    except FieldError as error:
        if error.trail[:1] != ["metadata"]:
            error.within("spec")
        raise


def _without_statuses(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != "status" and key not in _STATUSES}


def _unwrap_manifest(kind: Kind, document: dict[str, Any]) -> dict[str, Any]:
    """A Kubernetes manifest as the flat document that Gloo stores; metadata that only Kubernetes has is left out."""
    version = document.get("apiVersion")
    if version is not None and str(version).partition("/")[0] != kind.group:
        raise _error("apiVersion", f"{quoted(version)} is stored where a {kind.name} of {kind.group} belongs")
    written = document.get("kind", kind.name)
    if written != kind.name:
        raise _error("kind", f"{quoted(written)} is stored where a {kind.name} belongs")
    for name in document:
        if name not in {"apiVersion", "kind", "metadata", "spec", "status"}:
            remedy = "put it below spec, or remove apiVersion, kind and spec"
            raise _error(name, f"is no part of a Kubernetes manifest; {remedy}")
    metadata = _mapping(document, "metadata")
    owner: Any = kind.message.DESCRIPTOR.fields_by_name["metadata"].message_type
    kept = {name: value for name, value in metadata.items() if name in owner.fields_by_camelcase_name}
    return {**_without_statuses(_mapping(document, "spec")), "metadata": kept}


def _mapping(document: dict[str, Any], name: str) -> dict[str, Any]:
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        error = mismatch("a mapping", value)
        error.within(name)
        raise error
    return value


def _written_name(document: Mapping[str, Any]) -> Ref:
    metadata = document.get("metadata")
    found = metadata if isinstance(metadata, dict) else {}
    namespace, name = (
        value if isinstance(value := found.get(key), str) and _NAME.fullmatch(value) else ""
        for key in ("namespace", "name")
    )
    return Ref(namespace, name)


def _check_metadata(kind: Kind, message: Any, expected: Ref | None) -> ObjectRef:
    metadata = message.metadata
    for name in ("name", "namespace"):
        value = getattr(metadata, name)
        if not value:
            raise _error(f"metadata.{name}", f"is required; add {name} below metadata")
        if not _NAME.fullmatch(value):
            raise _error(f"metadata.{name}", f"{quoted(value)} must be 1 to 253 characters without spaces and slashes")
    written = Ref(metadata.namespace, metadata.name)
    if expected is not None and written != expected:
        remedy = "make them equal, or store it under its own name"
        raise _error("metadata", f"says {written}, but the object is stored as {expected}; {remedy}")
    metadata.ClearField("resource_version")
    return kind.object_ref(written)


def _error(path: str, message: str) -> FieldError:
    error = FieldError(message)
    for segment in reversed(path.split(".")):
        error.within(segment)
    return error


def _with_line(error: FieldError, text: bytes) -> str:
    """The message, and where a text of several lines has it."""
    if error.names_line or text.count(b"\n") <= 1:
        return error.message
    line = line_of(text, error.trail)
    return error.message if line is None else f"{error.message} (line {line})"


def _status_place(kind: Kind, document: Mapping[str, Any]) -> tuple[str, ...]:
    """Where a document keeps its statuses: the keys to the mapping by reporter, or to the single status."""
    if kind.status is StatusStyle.SINGLE:
        return ("status",)
    if any(mark in document for mark in _MANIFEST_MARKS):
        return ("status", "statuses")
    return (next((name for name in _STATUSES if name in document), _STATUSES[0]), "statuses")


def _read_statuses(kind: Kind, document: Mapping[str, Any]) -> Mapping[str, Any]:
    if kind.status is StatusStyle.NONE:
        return {}
    found: Any = document
    for key in _status_place(kind, document):
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        return {}
    return {"": found} if kind.status is StatusStyle.SINGLE else found


def with_status(text: bytes, kind: Kind, reporter: str, status: Mapping[str, Any]) -> bytes:
    """The stored text with one reporter's status replaced, and nothing else: names and order stay the user's own.

    JSON stays JSON, with or without line breaks as it was; YAML is written anew and loses its comments. An object that
    is not accepted can have a status too, as long as it is a document. Raises ``ValueError`` if it is none, if its
    kind has no status, or if the result would be more than MAX_BYTES.
    """
    if kind.status is StatusStyle.NONE:
        raise DocumentError(f"a {kind.name} has no status")
    document = parse_document(text)
    place = _status_place(kind, document)
    target = document
    for key in place if kind.status is StatusStyle.NAMESPACED else ():
        child = target.get(key)
        target[key] = dict(child) if isinstance(child, dict) else {}
        target = target[key]
    target[reporter if kind.status is StatusStyle.NAMESPACED else place[0]] = dict(status)
    written = _write_like(text, document)
    if len(written) > MAX_BYTES:
        raise DocumentError(f"with its status the value would have {len(written)} bytes, more than {MAX_BYTES}")
    return written


def _write_like(text: bytes, document: dict[str, Any]) -> bytes:
    stripped = text.strip()
    if stripped[:1] != b"{" or _parse_json(text) is None:
        return to_yaml(document).encode()
    if b"\n" not in stripped:
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return to_json(document).encode() + b"\n"


def encode(message: Message, status: Mapping[str, Any] | None = None, *, kind: Kind | None = None) -> dict[str, Any]:
    """The object as the document that is stored: lowerCamelCase names, enums by name, and its statuses if given."""
    document: dict[str, Any] = json_format.MessageToDict(message)
    if status:
        if kind is not None and kind.status is StatusStyle.SINGLE:
            document["status"] = status.get("", {})
        else:
            document["namespacedStatuses"] = {"statuses": dict(status)}
    return document


def to_yaml(document: Mapping[str, Any]) -> str:
    """A document as YAML, in the order of its fields."""
    return dump_yaml(document)


def to_json(document: Mapping[str, Any]) -> str:
    """A document as indented JSON."""
    return json.dumps(document, indent=2, ensure_ascii=False)
