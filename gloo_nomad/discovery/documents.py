"""OpenAPI documents as a service sends them: JSON or YAML, of a stranger, so everything about them is bounded."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from gloo_nomad.api.mistakes import DocumentError, FieldError
from gloo_nomad.api.yaml_text import parse_yaml

MAX_BYTES: Final = 2 * 1024 * 1024
"""How long a document may be: those of large products with a thousand operations have about one MiB."""
MAX_HOPS: Final = 16
"""How many references may lead to one another."""
_VERSIONS: Final = ("swagger", "openapi")


class NoDocumentError(ValueError):
    """The text is no OpenAPI document; says why."""


def parse_document(body: bytes) -> dict[str, Any]:
    """The document in *body*, of OpenAPI 2 or 3.

    Raises:
        NoDocumentError: it is something else, or beyond the bounds.
    """
    if len(body) > MAX_BYTES:
        raise NoDocumentError(f"is longer than {MAX_BYTES} bytes")
    if not any(name.encode() in body for name in _VERSIONS):
        raise NoDocumentError("names neither swagger nor openapi")
    document = _parse(body)
    if not isinstance(document, dict) or not isinstance(document.get("paths"), dict):
        raise NoDocumentError("has no paths")
    version = version_of(document)
    if version not in {"2", "3"}:
        raise NoDocumentError("is neither of OpenAPI 2 nor of OpenAPI 3")
    return document


def version_of(document: Mapping[str, Any]) -> str:
    """The major version that a document says it has, "" without one."""
    found = next((document[name] for name in _VERSIONS if name in document), "")
    return str(found)[:20].partition(".")[0] if isinstance(found, str | int | float) else ""


def _parse(body: bytes) -> Any:
    try:
        if body.lstrip()[:1] == b"{":
            return msgspec.json.decode(body)
        return parse_yaml(body)
    except (DocumentError, FieldError, msgspec.MsgspecError, ValueError, RecursionError) as failure:
        raise NoDocumentError(f"cannot be read: {type(failure).__name__}: {str(failure)[:160]}") from None


def resolve(value: Any, document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The mapping that *value* is or refers to; an empty one if it is none.

    Only references into the document itself (``#/...``) are followed: no file and no other server is ever asked.
    """
    for _ in range(MAX_HOPS):
        if not isinstance(value, Mapping):
            return {}
        reference = value.get("$ref")
        if reference is None:
            return value
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return {}
        value = _at(reference, document)
    return {}


def _at(reference: str, document: Mapping[str, Any]) -> Any:
    """What a JSON pointer leads to (https://www.rfc-editor.org/rfc/rfc6901), None if nothing."""
    found: Any = document
    for part in reference[2:1000].split("/"):
        if not isinstance(found, Mapping):
            return None
        found = found.get(part.replace("~1", "/").replace("~0", "~"))
    return found


def mappings(value: Any) -> Iterator[Any]:
    """The items of a list; nothing of anything else."""
    if isinstance(value, list):
        yield from value
