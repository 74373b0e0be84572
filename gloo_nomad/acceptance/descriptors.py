"""Sets of proto descriptors, as ``protoc --include_imports --descriptor_set_out`` writes them, with HTTP annotations.

Envoy's transcoder refuses a set that lacks something, or whose annotations
(https://cloud.google.com/endpoints/docs/grpc/transcoding) say what cannot be.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from google.api import annotations_pb2
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message import DecodeError

from gloo_nomad.acceptance.quoting import quote

MAX_BYTES: Final = 4 * 1024 * 1024
"""How large a set may be: it is sent to every Envoy inside its listener."""

_FIELD: Final = r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*"
_PLAIN: Final = r"(?:\*\*?|[^/{}*:=]+)"
_VARIABLE: Final = rf"\{{{_FIELD}(?:={_PLAIN}(?:/{_PLAIN})*)?\}}"
_SEGMENT: Final = rf"(?:\*\*?|[^/{{}}*:]+|{_VARIABLE})"
_TEMPLATE: Final = re.compile(rf"/(?:{_SEGMENT}(?:/{_SEGMENT})*(?::[^/{{}}*:]+)?)?")
_HTTP_BODY: Final = "google.api.HttpBody"


@lru_cache(maxsize=64)
def descriptor_fault(data: bytes, services: tuple[str, ...]) -> str:
    """Why Envoy would not translate for these *services* by this set of descriptors, or ""."""
    if len(data) > MAX_BYTES:
        return f"has more than {MAX_BYTES} bytes"
    try:
        files = descriptor_pb2.FileDescriptorSet.FromString(data)
    except DecodeError:
        return "is no set of proto descriptors; make it by protoc --include_imports --descriptor_set_out"
    if not files.file:
        return "has no proto file in it; make it by protoc --include_imports --descriptor_set_out"
    pool = descriptor_pool.DescriptorPool()
    return next(_faults(files, services, pool), "")


def _faults(files: Any, services: tuple[str, ...], pool: descriptor_pool.DescriptorPool) -> Iterator[str]:
    known: set[str] = set()
    for file in files.file:
        missing = [name for name in file.dependency if name not in known]
        if missing:
            yield f"lacks {quote(missing[0])}, which {quote(file.name)} imports; give protoc --include_imports"
            return
        try:
            pool.Add(file)
        except (TypeError, ValueError) as refusal:
            yield f"has a proto file that cannot be read, {quote(file.name)}: {str(refusal)[:200]}"
            return
        known.add(file.name)
    declared = {name: service for file in files.file for name, service in _services(file)}
    for name in services:
        if name not in declared:
            found = ", ".join(sorted(declared)) or "none"
            yield f"has no service {quote(name)}; those in it are: {found[:500]}"
            return
        for method in declared[name].method:
            yield from _method_faults(method, pool)


def _services(file: Any) -> Iterator[tuple[str, Any]]:
    for service in file.service:
        yield f"{file.package}.{service.name}" if file.package else service.name, service


def _method_faults(method: Any, pool: descriptor_pool.DescriptorPool) -> Iterator[str]:
    if not method.options.HasExtension(annotations_pb2.http):
        return
    rule = method.options.Extensions[annotations_pb2.http]
    request = pool.FindMessageTypeByName(method.input_type.removeprefix("."))
    answer = pool.FindMessageTypeByName(method.output_type.removeprefix("."))
    for one in (rule, *rule.additional_bindings):
        for fault in _rule_faults(one, request, answer):
            yield f"has a method {quote(method.name)} whose HTTP annotation {fault}"


def _rule_faults(rule: Any, request: Any, answer: Any) -> Iterator[str]:
    kind = rule.WhichOneof("pattern")
    path = rule.custom.path if kind == "custom" else getattr(rule, kind or "get")
    if kind is not None and not _TEMPLATE.fullmatch(path):
        yield f"has the path {quote(path)}, which is no template"
    if rule.body not in ("", "*") and _find_field(rule.body, request) is None:
        yield f"has the body {quote(rule.body)}, which is no field of {request.full_name}"
    if rule.response_body:
        field = _find_field(rule.response_body, answer)
        if field is None or field.message_type is None or field.message_type.full_name != _HTTP_BODY:
            yield f"has the response body {quote(rule.response_body)}, which is no field of type {_HTTP_BODY}"


def _find_field(path: str, message: Any) -> Any:
    """The field to which a dotted path leads through messages, or None."""
    field = None
    for name in path.split("."):
        field = message.fields_by_name.get(name) if message is not None else None
        if field is None:
            return None
        message = field.message_type
    return field
