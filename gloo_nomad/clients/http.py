"""HTTP to the outside, and what can go wrong with it.

The exceptions of all clients::

    WorldError                 the world failed, not the user and not this program
    ├── UnreachableError       no connection: refused, reset, name, certificate
    ├── TimedOutError          connected, but no complete answer in time
    ├── BadAnswerError         an answer that is not what the protocol says, or too long
    └── RefusedError           an answer with an error code
        ├── BadRequestError    400 and every 4xx without a class of its own
        ├── ForbiddenError     401, 403: token missing, unknown or without the right
        ├── NotFoundError      404
        ├── ConflictError      409, 412: somebody else was faster
        ├── RateLimitedError   429: too many requests or connections
        └── ServerError        5xx
            └── SealedError    503 of a Vault that is sealed or standing by

Their texts name the server, the request and a remedy. They never hold a token, a value, or more than a line of the
answer.
"""

import asyncio
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import aiohttp
from yarl import URL

from gloo_nomad.clients.address import NO_TLS, Address, Tls

MAX_BODY: Final = 256 * 1024 * 1024
"""Bytes of one answer. Ten thousand virtual services of ten routes are about 75 MiB in Consul's encoding."""
MAX_CONNECTIONS: Final = 150
"""Consul allows one client address 200 connections (``limits.http_max_conns_per_client``)."""
CONNECT_TIMEOUT: Final = 5.0
REQUEST_TIMEOUT: Final = 15.0
_EXCERPT: Final = 160
BAD_HEADER: Final = "the token or namespace has a character that no header may have"


class WorldError(Exception):
    """The world failed: what a client's caller catches and tries again."""


class UnreachableError(WorldError):
    """No connection to the server."""


class TimedOutError(WorldError):
    """No complete answer in time."""


class BadAnswerError(WorldError):
    """An answer that the protocol does not know, or one that is too long."""


class RefusedError(WorldError):
    """The server answered with an error code."""


class BadRequestError(RefusedError):
    """The server does not understand the request, or will never accept it."""


class ForbiddenError(RefusedError):
    """The token is missing, unknown, or lacks a right."""


class NotFoundError(RefusedError):
    """What was asked for does not exist."""


class ConflictError(RefusedError):
    """Somebody else changed it first."""


class RateLimitedError(RefusedError):
    """The server wants fewer requests or connections."""


class ServerError(RefusedError):
    """The server failed."""


class SealedError(ServerError):
    """A Vault that cannot answer because it is sealed, standing by, or not initialised."""


_BY_STATUS: Final[Mapping[int, type[RefusedError]]] = {
    401: ForbiddenError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    412: ConflictError,
    429: RateLimitedError,
}


def refusal(status: int, where: str, body: str = "") -> RefusedError:
    """The exception for an error code; *where* names server and request, *body* is shortened to a line."""
    kind = _BY_STATUS.get(status) or (ServerError if status >= HTTPStatus.INTERNAL_SERVER_ERROR else BadRequestError)
    return kind(f"{where}: {status} {excerpt(body)}".rstrip())


def excerpt(text: str) -> str:
    """One printable line out of a text, short enough for a message."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 2 * _EXCERPT]).split())
    return line if len(line) <= _EXCERPT else line[: _EXCERPT - 1] + "…"


def no_connection(failure: BaseException | None) -> str:
    """That there is no connection, in the system's words: refused, no route, name not known. Empty if it has none."""
    if not isinstance(failure, OSError) or not failure.errno:
        return ""
    is_name = isinstance(failure, socket.gaierror)
    return f"cannot connect: {failure.strerror if is_name else os.strerror(failure.errno)}"


def _why(failure: Exception) -> str:
    """Why there was no answer, in the system's own words where it has some: connection refused, no route to host."""
    if isinstance(failure, aiohttp.ClientConnectorError) and not isinstance(failure, aiohttp.ClientSSLError):
        return no_connection(failure.os_error) or f"cannot connect: {excerpt(str(failure.os_error))}"
    return f"{type(failure).__name__}: {excerpt(str(failure))}"


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer, whatever its code."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """Its beginning, for messages."""
        return self.body[:1024].decode(errors="replace")


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """How to reach one server. ``system`` is its name in messages; times are seconds."""

    system: str
    address: Address
    tls: Tls = NO_TLS
    headers: Mapping[str, str] = field(default_factory=dict)
    max_connections: int = MAX_CONNECTIONS
    max_body: int = MAX_BODY


class HttpSession:
    """Connections to one server: kept alive, bounded in number, time and size.

    Cancelling a request closes its connection. Redirects are not followed: a token must not travel to a third server.
    Answers are asked for uncompressed: compressing them costs more than sending them over a local network.
    """

    def __init__(self, options: HttpOptions) -> None:
        self.options = options
        self._session: aiohttp.ClientSession | None = None

    async def request(
        self,
        method: str,
        target: str,
        *,
        data: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = REQUEST_TIMEOUT,  # noqa: ASYNC109  # part of one request, not a scope
    ) -> HttpAnswer:
        """Asks for *target* (a path with its query, already quoted), within *timeout* seconds."""
        url = URL(self.options.address.base + target, encoded=True)
        limits = aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_TIMEOUT)
        where = f"{self.options.system} at {self.options.address}, {method} {target.partition('?')[0]}"
        server_name = self.options.tls.server_name or None
        if not all(value.isprintable() for value in (headers or {}).values()):
            raise BadRequestError(f"{where}: {BAD_HEADER}")
        try:
            async with self._open().request(
                method,
                url,
                data=data,
                headers=headers,
                timeout=limits,
                allow_redirects=False,
                server_hostname=server_name,
            ) as response:
                return HttpAnswer(response.status, response.headers, await self._body(response, where))
        except TimeoutError:
            raise TimedOutError(f"{where}: no complete answer within {timeout:g} s") from None
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as failure:
            raise UnreachableError(f"{where}: {_why(failure)}") from None

    async def close(self) -> None:
        """Ends all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _body(self, response: aiohttp.ClientResponse, where: str) -> bytes:
        limit = self.options.max_body
        parts: list[bytes] = []
        size = 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > limit:
                response.close()
                raise BadAnswerError(f"{where}: the answer is longer than {limit} bytes")
            parts.append(part)
        return b"".join(parts)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=self._connector(),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept-Encoding": "identity", "User-Agent": "gloo-nomad", **self.options.headers},
                auto_decompress=False,
                read_bufsize=1024 * 1024,
            )
        return self._session

    def _connector(self) -> aiohttp.BaseConnector:
        limit = self.options.max_connections
        if self.options.address.is_unix:
            return aiohttp.UnixConnector(self.options.address.path, limit=limit)
        if self.options.address.scheme == "https":
            return aiohttp.TCPConnector(limit=limit, ssl=self.options.tls.context())
        return aiohttp.TCPConnector(limit=limit)
