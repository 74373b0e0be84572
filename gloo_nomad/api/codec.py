"""Text to object and back: YAML or JSON, flat as Gloo stores it or wrapped as a Kubernetes manifest.

``decode`` never raises for what a user wrote: the answer is either an object, or the reasons why it is none.
Rules: names in lowerCamelCase or snake_case, an unknown field is an error, a leftover top-level ``status`` is ignored.
"""

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec
import yaml
from google.protobuf import json_format
from google.protobuf.message import Message

from gloo_nomad.api.kinds import Kind, StatusStyle
from gloo_nomad.api.refs import ObjectRef, Ref

MAX_BYTES: Final = 512 * 1024
"""Consul's limit for one value; larger documents are refused from every source."""
MAX_DEPTH: Final = 64
MAX_NODES: Final = 200_000


class _Loader(yaml.CSafeLoader):
    """libyaml's loader without time stamps (a date in a label is text) and with bounds on aliases."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


class Rejection(NamedTuple):
    """Why a value is no object: the field as the user writes it ("" for the whole), and what is wrong with it."""

    path: str
    message: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of one stored value.

    ``message`` is None when the object is rejected as a whole. It has neither statuses nor a resource version: the
    former are in ``status`` (by reporter, or the single old-style one under ``""``), so that a status write does not
    change the message.
    """

    ref: ObjectRef
    message: Message | None
    rejection: Rejection | None = None
    status: Mapping[str, Any] = field(default_factory=dict)


class _Rejected(Exception):  # noqa: N818  # never leaves this module
    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.rejection = Rejection(path, message)


def decode(kind: Kind, text: bytes, expected: Ref | None = None) -> Decoded:
    """The object in *text*.

    *expected* is the name that the key or file says; metadata that says otherwise rejects the object, and its problems
    are addressed to the name that exists.
    """
    fallback = kind.object_ref(expected or Ref("", ""))
    try:
        document = parse_document(text)
        return _decode_document(kind, document, expected)
    except _Rejected as rejected:
        return Decoded(fallback, None, rejected.rejection)


def read_document(text: bytes) -> dict[str, Any] | Rejection:
    """The mapping in *text* before anybody knows its kind, or why there is none."""
    try:
        return parse_document(text)
    except _Rejected as rejected:
        return rejected.rejection


def parse_document(text: bytes) -> dict[str, Any]:
    """The one mapping in *text*, YAML or JSON; raises ``_Rejected`` for anything else."""
    if not text.strip():
        raise _Rejected("", "the value is empty; write the object as YAML or JSON, or delete the key")
    if len(text) > MAX_BYTES:
        raise _Rejected("", f"the value has {len(text)} bytes; at most {MAX_BYTES} are accepted; split the object")
    try:
        document = _parse(text)
    except (yaml.YAMLError, msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError) as failure:
        raise _Rejected("", f"neither YAML nor JSON: {_one_line(failure)}") from failure
    if not isinstance(document, dict):
        raise _Rejected("", f"expected a mapping with metadata, found {_json_type(document)}")
    _bound(document)
    return document


def _parse(text: bytes) -> Any:
    if text.lstrip()[:1] == b"{":
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError:
            pass  # YAML's flow style also begins with a brace
    return yaml.load(text.decode(), _Loader)  # noqa: S506  # derived from the safe loader


def _bound(document: Any) -> None:
    """Refuses what aliases or nesting blow up, before protobuf walks it."""
    nodes = 0
    stack: list[tuple[Any, int]] = [(document, 0)]
    while stack:
        value, depth = stack.pop()
        nodes += 1
        if nodes > MAX_NODES:
            raise _Rejected("", f"more than {MAX_NODES} values after resolving aliases")
        if depth > MAX_DEPTH:
            raise _Rejected("", f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, dict):
            stack.extend((child, depth + 1) for child in value.values())
        elif isinstance(value, list):
            stack.extend((child, depth + 1) for child in value)


def _decode_document(kind: Kind, document: dict[str, Any], expected: Ref | None) -> Decoded:
    document = dict(document)
    if "apiVersion" in document or "spec" in document:
        document = _unwrap_manifest(kind, document)
    single_status = document.pop("status", None)
    statuses = document.pop("namespacedStatuses", None) or document.pop("namespaced_statuses", None)
    message = kind.message()
    try:
        json_format.ParseDict(document, message, max_recursion_depth=MAX_DEPTH)
    except (json_format.ParseError, TypeError, ValueError, AttributeError) as failure:
        raise _Rejected(*_explain(failure)) from failure
    ref = _check_metadata(kind, message, expected)
    message.metadata.ClearField("resource_version")  # type: ignore[attr-defined]
    return Decoded(ref, message, None, _statuses(kind, statuses, single_status))


def _statuses(kind: Kind, namespaced: Any, single: Any) -> Mapping[str, Any]:
    if kind.status is StatusStyle.SINGLE:
        return {"": single} if isinstance(single, dict) else {}
    if isinstance(namespaced, dict) and isinstance(namespaced.get("statuses"), dict):
        return dict(namespaced["statuses"])
    return {}


def _unwrap_manifest(kind: Kind, document: dict[str, Any]) -> dict[str, Any]:
    """A Kubernetes manifest as the flat document that Gloo stores."""
    written = document.get("kind", kind.name)
    if written != kind.name:
        raise _Rejected("kind", f"{written} is stored where a {kind.name} belongs")
    unknown = sorted(set(document) - {"apiVersion", "kind", "metadata", "spec", "status"})
    if unknown:
        raise _Rejected(unknown[0], f"unknown field of a {kind.name} manifest; fields of the object go below spec")
    spec = document.get("spec") or {}
    if not isinstance(spec, dict):
        raise _Rejected("spec", f"expected a mapping, found {_json_type(spec)}")
    metadata = document.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise _Rejected("metadata", f"expected a mapping, found {_json_type(metadata)}")
    known = set(kind.message.DESCRIPTOR.fields_by_name["metadata"].message_type.fields_by_camelcase_name)
    flat = {**spec, "metadata": {name: value for name, value in metadata.items() if name in known}}
    if kind.status is StatusStyle.NAMESPACED and isinstance(document.get("status"), dict):
        flat["namespacedStatuses"] = document["status"]
    return flat


def _check_metadata(kind: Kind, message: Any, expected: Ref | None) -> ObjectRef:
    metadata = message.metadata
    if not metadata.name:
        raise _Rejected("metadata.name", "is required")
    if not metadata.namespace:
        raise _Rejected("metadata.namespace", "is required")
    written = Ref(metadata.namespace, metadata.name)
    if expected is not None and written != expected:
        raise _Rejected(
            "metadata",
            f"says {written}, but the object is stored as {expected}; make them equal, or move the object",
        )
    return kind.object_ref(written)


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
    return yaml.dump(dict(document), Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=120)


def to_json(document: Mapping[str, Any]) -> str:
    """A document as indented JSON."""
    return json.dumps(document, indent=2, ensure_ascii=False)


def _explain(failure: Exception) -> tuple[str, str]:
    """Path and reason out of json_format's message: ``Message type "x" has no field named "y" at "X.a.b[0]".``."""
    text = _one_line(failure, 4000)
    path = ""
    while ' at "' in text:
        text, _, tail = text.rpartition(' at "')
        found, _, rest = tail.partition('"')
        path = path or found.partition(".")[2]
        text += rest.rstrip(".")
    if text.startswith("Failed to parse "):
        named, _, reason = text.removeprefix("Failed to parse ").partition(" field: ")
        path = path or named.partition(".")[2] or named
        text = reason or text
    if "has no field named" in text:
        missing = text.split('has no field named "')[1].split('"')[0]
        return (f"{path}.{missing}" if path else missing), f"unknown field{_nearest(missing, text)}"
    return path, text[:400].rstrip(".")


def _nearest(missing: str, text: str) -> str:
    """What was probably meant, out of json_format's list of available fields."""
    known = re.findall(r"'(\w+)'", text.partition("Available Fields")[2])
    close = difflib.get_close_matches(missing, known, 1)
    if close:
        return f'; did you mean "{close[0]}"?'
    return f"; known here: {', '.join(known[:12])}{', ...' if len(known) > 12 else ''}" if known else ""


def _one_line(failure: BaseException, limit: int = 400) -> str:
    return " ".join(str(failure).split())[:limit]


def _json_type(value: Any) -> str:
    return {str: "text", list: "a list", dict: "a mapping", bool: "a boolean", type(None): "nothing"}.get(
        type(value), "a number"
    )
