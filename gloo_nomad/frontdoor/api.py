"""The REST API of the ``gateway`` role; ``openapi.yaml`` beside this file is its reference.

Written objects are validated first by the same translation that serves them, and stored by compare-and-set.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from gloo_nomad.api import codec
from gloo_nomad.api.codec import MAX_BYTES
from gloo_nomad.api.refs import ObjectRef
from gloo_nomad.frontdoor import answers, pages
from gloo_nomad.frontdoor.access import Guard, NotLetInError, TokenList, token_of
from gloo_nomad.frontdoor.answers import ApiError, describe_stored, etag
from gloo_nomad.frontdoor.documents import Document, parse_documents
from gloo_nomad.frontdoor.objects import (
    ConflictError,
    DeniedError,
    ObjectStore,
    RefusedError,
    UnavailableError,
    remove_object,
    write_object,
)
from gloo_nomad.frontdoor.reading import (
    expected_version,
    flag,
    kind_of,
    namespace_of,
    only_document,
    read_body,
    ref_of,
    version_in,
)
from gloo_nomad.frontdoor.validation import BusyError
from gloo_nomad.reports import Problem, Problems, Severity, describe_problem, is_rejected

ANSWER_SECONDS: Final = 60
_UNKNOWN: Final = 401

Validate = Callable[[Sequence[Document], Iterable[ObjectRef]], Awaitable[Problems]]
Handler = Callable[["FrontDoor", Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class FrontDoor:
    """What the API works with."""

    store: ObjectStore
    validate: Validate
    guard: Guard = field(default_factory=TokenList)
    ready: Callable[[], bool] = lambda: True
    """Whether the configuration in service is known; before that nothing can be validated against it."""
    validated: Callable[[bool], None] = lambda _accepted: None
    """Told each verdict, for metrics."""


def build_app(door: FrontDoor) -> Starlette:
    """The web application."""

    def route(path: str, method: str, handler: Handler, action: str) -> Route:
        return Route(path, _guarded(door, handler, action), methods=[method])

    objects = "/v1/objects/{kind}"
    one = objects + "/{namespace}/{name}"
    return Starlette(
        routes=[
            route("/v1/validate", "POST", validate_documents, "validate"),
            route(objects, "GET", list_objects, "read"),
            route(objects + "/{namespace}", "GET", list_objects, "read"),
            route(one, "GET", get_object, "read"),
            route(one, "PUT", put_object, "write"),
            route(one, "DELETE", delete_object, "write"),
            *pages.ROUTES,
        ],
        exception_handlers={
            ApiError: answers.on_api_error,
            HTTPException: answers.on_http_error,
            Exception: answers.on_bug,
        },
    )


def _guarded(door: FrontDoor, handler: Handler, action: str) -> Callable[[Request], Awaitable[Response]]:
    """A handler behind authorisation and a time limit, with the store's errors turned into answers."""

    async def handle(request: Request) -> Response:
        token = token_of(request)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await door.guard.check(token, action, request.path_params.get("namespace", ""))
                async with door.guard.opened(token, door.store) as store:
                    return await handler(replace(door, store=store), request)
        except NotLetInError as failure:
            headers = {"WWW-Authenticate": "Bearer"} if failure.status == _UNKNOWN else None
            raise ApiError(failure.status, str(failure), headers=headers) from failure
        except DeniedError as failure:
            raise ApiError(403, str(failure)) from failure
        except TimeoutError as failure:
            raise ApiError(504, f"no answer within {ANSWER_SECONDS} seconds; try again") from failure
        except BusyError as failure:
            raise ApiError(503, "too many validations at once; try again", headers={"Retry-After": "1"}) from failure
        except UnavailableError as failure:
            raise ApiError(503, str(failure), headers={"Retry-After": "5"}) from failure
        except RefusedError as failure:
            raise ApiError(422, str(failure)) from failure
        except ConflictError as failure:
            raise ApiError(412, str(failure), headers={"ETag": etag(failure.version)}) from failure

    return handle


async def validate_documents(door: FrontDoor, request: Request) -> Response:
    """What would happen if the objects of the body were written."""
    documents = await asyncio.to_thread(parse_documents, await read_body(request), "body")
    _demand_ready(door)
    problems = await door.validate(documents, ())
    door.validated(not is_rejected(problems))
    return JSONResponse(answers.describe_validation(documents, problems))


async def list_objects(door: FrontDoor, request: Request) -> Response:
    """All objects of a kind; values that are no objects are listed as problems."""
    kind = kind_of(request)
    stored = await door.store.list_objects(kind, namespace_of(request))
    described = await asyncio.to_thread(lambda: [describe_stored(one) for one in stored])
    items = [found for found in described if not isinstance(found, Problem)]
    problems = [describe_problem(found) for found in described if isinstance(found, Problem)]
    return _answer_document(request, {"items": items, "problems": problems})


async def get_object(door: FrontDoor, request: Request) -> Response:
    """One object, or with ``?raw=true`` the text as it is stored."""
    kind, ref = kind_of(request), ref_of(request)
    stored = await door.store.get_object(kind, ref)
    if stored is None:
        raise ApiError(404, f"there is no {kind.name} {ref}")
    headers = {"ETag": etag(stored.version)}
    if flag(request, "raw"):
        return PlainTextResponse(stored.text, headers=headers)
    described = describe_stored(stored)
    if isinstance(described, Problem):
        raise ApiError(422, "the stored value is no object; ?raw=true shows it", [described], headers)
    return _answer_document(request, described, headers)


async def put_object(door: FrontDoor, request: Request) -> Response:
    """Validates and writes one object."""
    kind, ref = kind_of(request), ref_of(request)
    body = await read_body(request)
    if len(body) > MAX_BYTES:
        raise ApiError(413, f"the object has {len(body)} bytes; at most {MAX_BYTES} can be stored; split it")
    document = await asyncio.to_thread(only_document, body, kind, ref)
    if document.message is None:
        raise ApiError(422, f"the body is no {kind.name}", document.problems())
    problems = await _judge(door, document, force=flag(request, "force"))
    try:
        written = await write_object(door.store, kind, document.message, expected_version(request, body))
    except RefusedError as failure:
        told = Problem(Severity.ERROR, document.ref, failure.path, str(failure))
        raise ApiError(422, "the object cannot be stored", [told]) from failure
    answer = {
        "version": written.version,
        "created": written.created,
        "changed": written.changed,
        "problems": [describe_problem(problem) for problem in problems],
    }
    return JSONResponse(answer, 201 if written.created else 200, headers={"ETag": etag(written.version)})


async def _judge(door: FrontDoor, document: Document, *, force: bool) -> Problems:
    """The problems of an object that may be written; raises for one that may not."""
    if force and not door.ready():
        return ()
    _demand_ready(door)
    problems = await door.validate((document,), ())
    door.validated(not is_rejected(problems))
    if is_rejected(problems) and not force:
        raise ApiError(422, "the object has errors; mend it, or write it all the same with ?force=true", problems)
    return problems


async def delete_object(door: FrontDoor, request: Request) -> Response:
    """Deletes one object."""
    kind, ref = kind_of(request), ref_of(request)
    expected = version_in(request.headers.get("if-match", ""))
    if not await remove_object(door.store, kind, ref, expected):
        raise ApiError(404, f"there is no {kind.name} {ref}")
    return Response(status_code=204)


def _demand_ready(door: FrontDoor) -> None:
    if not door.ready():
        message = "the configuration in service is not known yet, nothing can be validated against it; try again"
        raise ApiError(503, message, headers={"Retry-After": "2"})


def _answer_document(request: Request, document: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    if "yaml" in request.headers.get("accept", ""):
        return Response(codec.to_yaml(document), media_type="application/yaml", headers=headers)
    return JSONResponse(document, headers=headers)
