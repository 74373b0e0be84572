"""What a request to the REST API says: kind and name, version, flags, and a bounded body."""

from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request

from gloo_nomad import serving
from gloo_nomad.api.kinds import Kind
from gloo_nomad.api.refs import Ref
from gloo_nomad.frontdoor.answers import ApiError
from gloo_nomad.frontdoor.documents import Document, parse_documents, read_document
from gloo_nomad.frontdoor.naming import is_findable, kind_named
from gloo_nomad.frontdoor.objects import ABSENT, NOT_STORED

MAX_BODY: Final = 1024 * 1024


def kind_of(request: Request) -> Kind:
    """The kind that the path names; 404 for one that is not stored here."""
    written = request.path_params["kind"]
    kind = kind_named(written)
    if kind is None or kind in NOT_STORED:
        raise ApiError(404, f'no objects of the kind "{written[:60]}" are stored here')
    return kind


def ref_of(request: Request) -> Ref:
    """The name that the path gives."""
    return Ref(namespace_of(request), _part(request, "name"))


def namespace_of(request: Request) -> str:
    """The namespace that the path gives, or "" for all."""
    return _part(request, "namespace") if "namespace" in request.path_params else ""


def _part(request: Request, name: str) -> str:
    written: str = request.path_params[name]
    if not is_findable(written):
        raise ApiError(404, f"nothing is stored under a {name} like {written[:60]!r}")
    return written


def flag(request: Request, name: str) -> bool:
    """Whether the query says yes."""
    return request.query_params.get(name, "").lower() in {"1", "true", "yes"}


def only_document(body: bytes, kind: Kind, ref: Ref) -> Document:
    """The one object of a body; 400 for several."""
    documents = parse_documents(body, "body", kind, ref)
    if len(documents) != 1:
        raise ApiError(400, f"the body has {len(documents)} documents; write one object at a time")
    return documents[0]


def expected_version(request: Request, body: bytes) -> str | None:
    """The version that the writer knows: by header, else by ``metadata.resourceVersion``; None for any."""
    if request.headers.get("if-none-match", "").strip() == "*":
        return ABSENT
    header = request.headers.get("if-match", "")
    if header:
        return version_in(header)
    document = read_document(body)
    metadata = document.get("metadata") if isinstance(document, dict) else None
    written = metadata.get("resourceVersion", metadata.get("resource_version")) if isinstance(metadata, dict) else None
    return str(written) if written else None


def version_in(header: str) -> str | None:
    """The version that an ``If-Match`` header names; None for ``*`` and for no header."""
    version = header.strip().removeprefix("W/").strip('"')
    return None if version in {"", "*"} else version


async def read_body(request: Request) -> bytes:
    """The body; 413 if it is too large, 408 if it takes too long."""
    try:
        return await serving.read_body(request, MAX_BODY)
    except HTTPException as failure:
        raise ApiError(failure.status_code, failure.detail) from failure
