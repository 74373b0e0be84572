"""What the REST API answers: objects, problems, and errors of one shape."""

from collections.abc import Iterable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gloo_nomad.api import codec
from gloo_nomad.api.refs import ObjectRef
from gloo_nomad.frontdoor.documents import Document
from gloo_nomad.frontdoor.objects import Stored, name_first
from gloo_nomad.reports import Problem, Severity, describe_problem, is_rejected


class ApiError(Exception):
    """Ends a request with an error answer."""

    def __init__(
        self, status: int, message: str, problems: Iterable[Problem] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.problems = tuple(problems)
        self.headers = headers


def describe_validation(documents: Iterable[Document], problems: Iterable[Problem]) -> dict[str, Any]:
    """A validation as JSON: each object with its problems, then the problems that other objects would get."""
    listed = tuple(problems)
    by_ref: dict[ObjectRef, list[Problem]] = {}
    for problem in listed:
        by_ref.setdefault(problem.ref, []).append(problem)
    objects = [_describe_object(document, by_ref.get(document.ref, [])) for document in documents]
    mine = {document.ref for document in documents}
    return {
        "accepted": not is_rejected(listed),
        "objects": objects,
        "others": [describe_problem(problem) for problem in listed if problem.ref not in mine],
    }


def _describe_object(document: Document, problems: list[Problem]) -> dict[str, Any]:
    return {
        "origin": document.origin,
        "kind": document.ref.kind,
        "namespace": document.ref.namespace,
        "name": document.ref.name,
        "accepted": not is_rejected(problems),
        "problems": [describe_problem(problem) for problem in problems],
    }


def describe_stored(stored: Stored) -> dict[str, Any] | Problem:
    """A stored object with its version in ``metadata.resourceVersion``, or why it is none."""
    decoded = stored.decode()
    if decoded.message is None or decoded.rejection is not None:
        rejection = decoded.rejection or codec.Rejection("", "is no object")
        return Problem(Severity.ERROR, stored.kind.object_ref(stored.ref), rejection.path, rejection.message)
    document = codec.encode(decoded.message, decoded.status, kind=stored.kind)
    document.setdefault("metadata", {})["resourceVersion"] = stored.version
    return name_first(document)


def etag(version: str) -> str:
    """A version as the HTTP header has it."""
    return f'"{version}"'


def answer_error(status: int, message: str, problems: Iterable[Problem] = (), headers: Any = None) -> Response:
    """An error answer."""
    body = {"error": message, "problems": [describe_problem(problem) for problem in problems]}
    return JSONResponse(body, status, headers=headers)


async def on_api_error(_: Request, failure: Exception) -> Response:
    """Turns ``ApiError`` into an answer."""
    assert isinstance(failure, ApiError)  # noqa: S101  # registered for that class alone
    return answer_error(failure.status, str(failure), failure.problems, failure.headers)


async def on_http_error(_: Request, failure: Exception) -> Response:
    """Turns the framework's own errors (no such path, method not allowed) into answers of the same shape."""
    assert isinstance(failure, HTTPException)  # noqa: S101  # registered for that class alone
    return answer_error(failure.status_code, failure.detail, (), failure.headers)


async def on_bug(_: Request, failure: Exception) -> Response:
    """Answers for what nobody foresaw; the server logs the failure itself."""
    return answer_error(500, f"internal error ({type(failure).__name__}); the log of the gateway role has more")
