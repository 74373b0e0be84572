"""python-consul2's endpoint classes on an asyncio transport of ours.

The library's own ``aio`` adapter opens a connection per request and has no time-outs. Its extension point is what its
adapters use: a subclass of ``consul.base.HTTPClient`` whose methods return coroutines. A callback of the caller turns
the answer into a value, so that the hot paths can decode with msgspec.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from consul import base

from gloo_nomad.clients.http import (
    REQUEST_TIMEOUT,
    BadAnswerError,
    ForbiddenError,
    HttpAnswer,
    HttpSession,
    NotFoundError,
    refusal,
)
from gloo_nomad.clients.token import Token

T = TypeVar("T")
Params = Sequence[tuple[str, Any]]
Callback = Callable[[Any], T]


class Transport(base.HTTPClient):  # type: ignore[misc]  # the library has no types
    """Sends what the endpoint classes ask for; every method returns a coroutine of the callback's value.

    Error codes become the exceptions of ``clients.http``, except those that *passing* names and 404, which in Consul
    mostly means an empty result and is the callback's to judge.
    """

    def __init__(self, session: HttpSession, fixed: Params = ()) -> None:
        """*fixed* parameters go with every request."""
        super().__init__()
        self.base_uri = ""  # the session knows the address, and the library quotes paths and parameters
        self._session = session
        self._fixed = list(fixed)

    async def get(
        self,
        callback: Callback[T],
        path: str,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout: float = REQUEST_TIMEOUT,  # noqa: ASYNC109  # part of one request
    ) -> T:
        """GET, for at most *timeout* seconds."""
        return await self._send("GET", callback, path, params, headers, timeout=timeout)

    async def put(
        self,
        callback: Callback[T],
        path: str,
        params: Params | None = None,
        data: bytes | str | None = "",
        headers: Mapping[str, str] | None = None,
        *,
        passing: frozenset[int] = frozenset(),
    ) -> T:
        """PUT; the callback also judges the error codes in *passing*."""
        return await self._send("PUT", callback, path, params, headers, data=data, passing=passing)

    async def delete(
        self,
        callback: Callback[T],
        path: str,
        params: Params | None = None,
        data: bytes | str | None = "",
        headers: Mapping[str, str] | None = None,
    ) -> T:
        """DELETE."""
        return await self._send("DELETE", callback, path, params, headers, data=data)

    async def post(
        self,
        callback: Callback[T],
        path: str,
        params: Params | None = None,
        data: bytes | str | None = "",
        headers: Mapping[str, str] | None = None,
    ) -> T:
        """POST."""
        return await self._send("POST", callback, path, params, headers, data=data)

    async def _send(
        self,
        method: str,
        callback: Callback[T],
        path: str,
        params: Params | None,
        headers: Mapping[str, str] | None,
        *,
        data: bytes | str | None = None,
        timeout: float = REQUEST_TIMEOUT,  # noqa: ASYNC109  # part of one request
        passing: frozenset[int] = frozenset(),
    ) -> T:
        target = self.uri(path, [*(params or ()), *self._fixed])
        answer = await self._session.request(method, target, data=data, headers=headers, timeout=timeout)
        where = f"{self._session.options.system} at {self._session.options.address}, {method} {path}"
        if answer.status != 404 and answer.status not in passing:
            _check(answer, where)
        try:
            return callback(base.Response(answer.status, answer.headers, answer.body, answer.body))
        except base.NotFound:
            raise NotFoundError(f"{where}: 404") from None
        except base.ACLPermissionDenied:
            raise ForbiddenError(f"{where}: the token may not read what is there; give it that right") from None
        except (base.ConsulException, ValueError, KeyError, TypeError, IndexError) as failure:
            raise BadAnswerError(f"{where}: unexpected answer ({type(failure).__name__})") from None


def _check(answer: HttpAnswer, where: str) -> None:
    if answer.status >= 400:
        raise refusal(answer.status, where, answer.text)
    if answer.status >= 300:
        raise BadAnswerError(
            f"{where}: {answer.status}, a redirect that is not followed; check the address and the key"
        )


class Endpoints(base.Consul):  # type: ignore[misc]  # the library has no types
    """The library's endpoint objects.

    Its constructor is left out on purpose: it lets CONSUL_HTTP_ADDR and CONSUL_HTTP_TOKEN win over its arguments,
    while here the settings have read them already.
    """

    def __init__(self, transport: Transport, token: Token, dc: str = "", consistency: str = "default") -> None:
        self.http = transport
        self.dc = dc or None
        self.consistency = consistency
        self._token = token
        self.catalog = base.Consul.Catalog(self)
        self.health = base.Consul.Health(self)
        self.kv = base.Consul.KV(self)
        self.session = base.Consul.Session(self)
        self.status = base.Consul.Status(self)

    @property
    def token(self) -> str:
        """The present token; the endpoint classes ask for it at each request."""
        return self._token.read()


def dumps(value: Any) -> bytes:
    """JSON for a request."""
    return json.dumps(value).encode()
