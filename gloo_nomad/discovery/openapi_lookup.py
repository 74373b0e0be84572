"""Asks a service for its OpenAPI document: a few usual paths, the ones that the reference tries first.

No redirect is followed, so nothing but the service itself is asked. A page that is no document, such as the one that
some services answer every path with, is the same as none.
"""

import asyncio
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from gloo_nomad.clients.http import BadAnswerError, HttpOptions, HttpSession
from gloo_nomad.discovery.documents import MAX_BYTES, NoDocumentError, parse_document
from gloo_nomad.discovery.origins import Origin
from gloo_nomad.discovery.rest_functions import FoundFunctions, translate_document

PATHS: Final = (
    "/swagger.json",
    "/swagger/docs/v1",
    "/swagger/docs/v2",
    "/v1/swagger",
    "/v2/swagger",
    "/openapi.json",
    "/openapi.yaml",
    "/v3/api-docs",
    "/v2/api-docs",
    "/swagger/v1/swagger.json",
)
"""Where documents usually are: the paths of the reference, then those of common frameworks."""
HEADERS: Final = {
    "X-Gloo-Discovery": "Swagger-Discovery",
    "Accept": "application/json, application/yaml;q=0.9, */*;q=0.5",
}
MAX_REMEMBERED: Final = 256 * 1024
"""Bytes of a document that is kept in memory with what it means."""
TIMEOUT: Final = 5.0
"""Seconds for one answer."""


@dataclass(frozen=True, slots=True)
class FoundDocument:
    """A document that a service has, and where."""

    path: str
    functions: FoundFunctions


async def find_document(origin: Origin, paths: tuple[str, ...] = PATHS) -> FoundDocument | str:
    """The first document at one of the *paths*, or why there is none.

    Raises:
        WorldError: the service does not answer.
    """
    session = HttpSession(
        HttpOptions("the service", origin.address, origin.tls, HEADERS, max_connections=1, max_body=MAX_BYTES)
    )
    reason = "none of the usual paths has a document"
    try:
        for path in paths:
            found = await _read(session, path)
            if isinstance(found, FoundFunctions):
                return FoundDocument(path, found)
            reason = f"{path} {found}" if found else reason
    finally:
        await session.close()
    return reason


async def _read(session: HttpSession, path: str) -> FoundFunctions | str:
    """The functions of the document at *path*, or why it is none; "" if there is nothing."""
    try:
        answer = await session.request("GET", path, timeout=TIMEOUT)
    except BadAnswerError as failure:
        return str(failure)
    if answer.status != 200:
        return ""
    return await asyncio.to_thread(read_functions, answer.body)


def read_functions(body: bytes) -> FoundFunctions | str:
    """The functions in a document, or why it is none. A document that is read again and again is understood once."""
    return _remembered(body) if len(body) <= MAX_REMEMBERED else _translate(body)


@lru_cache(maxsize=64)
def _remembered(body: bytes) -> FoundFunctions | str:
    return _translate(body)


def _translate(body: bytes) -> FoundFunctions | str:
    try:
        document: dict[str, Any] = parse_document(body)
    except NoDocumentError as failure:
        return str(failure)
    return translate_document(document)
