"""Nomad: the services that its jobs register with Nomad itself, and the checks of their allocations.

python-nomad has no class for services; its extension point is ``Requester``, which builds the requests. Here it sends
them on an asyncio transport of ours: a blocking query for each service would need a thread for each, and could not be
ended.

A method with *index* and *wait* blocks until the answer is newer than *index*, or *wait* seconds are over (see
``clients.blocking``). All raise the exceptions of ``clients.http`` only.

Nomad allows one client address 100 connections (``limits.http_max_conns_per_client``), and counts that of an abandoned
blocking query until its *wait* is over.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec
from nomad.api.base import Requester

from gloo_nomad.clients.address import NO_TLS, Address, Tls
from gloo_nomad.clients.blocking import client_timeout
from gloo_nomad.clients.http import (
    REQUEST_TIMEOUT,
    BadAnswerError,
    ForbiddenError,
    HttpAnswer,
    HttpOptions,
    HttpSession,
    refusal,
)
from gloo_nomad.clients.token import NO_TOKEN, Token

MAX_CONNECTIONS: Final = 80


@dataclass(frozen=True, slots=True)
class NomadOptions:
    """How to reach Nomad. Nothing else is read, in particular not the environment."""

    address: Address
    token: Token = NO_TOKEN
    region: str = ""
    tls: Tls = NO_TLS

    def __repr__(self) -> str:
        return f"NomadOptions(address={str(self.address)!r})"


class NomadInstance(msgspec.Struct, frozen=True, rename="pascal"):
    """One instance of a service, as its job registered it."""

    id: str = msgspec.field(name="ID")
    service_name: str
    namespace: str
    address: str
    port: int
    alloc_id: str = msgspec.field(name="AllocID", default="")
    datacenter: str = ""
    tags: tuple[str, ...] | None = None
    """``canary_tags`` in place of ``tags`` while the allocation is a canary."""


class _ServiceName(msgspec.Struct, frozen=True, rename="pascal"):
    service_name: str
    tags: tuple[str, ...] | None = None


class _Namespace(msgspec.Struct, frozen=True, rename="pascal"):
    namespace: str
    services: tuple[_ServiceName, ...] = ()


class CheckResult(msgspec.Struct, frozen=True, rename="pascal"):
    """What a check of an allocation's services said last: ``success``, ``failure``, or ``pending`` before the first."""

    service: str
    status: str


class _Allocation(msgspec.Struct, frozen=True, rename="pascal"):
    client_status: str = ""


@dataclass(frozen=True, slots=True)
class NomadNames:
    """The names of services with their tags, by namespace, and as of which index."""

    index: int
    names: Mapping[str, Mapping[str, tuple[str, ...]]]


@dataclass(frozen=True, slots=True)
class NomadInstances:
    """The instances of a service, and as of which index."""

    index: int
    instances: tuple[NomadInstance, ...] = ()


class _Endpoint(Requester):  # type: ignore[misc]  # the library has no types
    """One endpoint of the library; ``request`` returns a coroutine of the answer, whatever its code."""

    def __init__(self, endpoint: str, session: HttpSession, region: str) -> None:
        super().__init__(address="", region=region or None)  # the session knows the address
        self.ENDPOINT = endpoint
        self._http = session

    async def _request(
        self, method: str, endpoint: str, params: Mapping[str, Any], headers: Mapping[str, str], **options: Any
    ) -> HttpAnswer:
        query = urlencode({**params, **self._query_string_builder(endpoint, dict(params))})
        target = f"{self._url_builder(endpoint)}?{query}"
        return await self._http.request(method.upper(), target, headers=headers, timeout=options["timeout"])


class NomadClient:
    """One Nomad agent."""

    def __init__(self, options: NomadOptions) -> None:
        self.options = options
        self._session = HttpSession(HttpOptions("Nomad", options.address, options.tls, max_connections=MAX_CONNECTIONS))
        self._services, self._service, self._allocation, self._client = (
            _Endpoint(name, self._session, options.region)
            for name in ("services", "service", "allocation", "client/allocation")
        )

    async def close(self) -> None:
        """Ends all connections."""
        await self._session.close()

    async def list_services(self, namespace: str = "*", index: int = 0, wait: float = 60.0) -> NomadNames:
        """The names of all services of a namespace, ``*`` for all that the token may read.

        A token that may read no namespace is refused: Nomad itself answers that there is nothing, as of index 0, which
        no real answer has.
        """
        answer = await self._get(self._services, (), namespace, index, wait)
        found = _decode(answer, tuple[_Namespace, ...])
        names = {
            entry.namespace: {service.service_name: tuple(sorted(service.tags or ())) for service in entry.services}
            for entry in sorted(found, key=lambda entry: entry.namespace)
        }
        if not _index(answer):
            text = "its token may read jobs in no namespace; give it a policy with read-job"
            raise ForbiddenError(f"Nomad at {self.options.address}, services: {text}")
        return NomadNames(_index(answer), names)

    async def read_service(
        self, name: str, namespace: str = "default", index: int = 0, wait: float = 60.0
    ) -> NomadInstances:
        """The instances of a service; none if there is no such service."""
        answer = await self._get(self._service, (name,), namespace, index, wait)
        return NomadInstances(_index(answer), _decode(answer, tuple[NomadInstance, ...]))

    async def read_checks(self, allocation: str, namespace: str = "default") -> tuple[CheckResult, ...]:
        """What the checks of an allocation's services said last, as the Nomad client that runs it knows."""
        answer = await self._get(self._client, (allocation, "checks"), namespace)
        return tuple((_decode(answer, dict[str, CheckResult] | None) or {}).values())

    async def allocation_status(self, allocation: str, namespace: str = "default") -> str:
        """``pending`` until its tasks are started, then ``running``; in the end ``complete``, ``failed``, ``lost``."""
        answer = await self._get(self._allocation, (allocation,), namespace)
        status: str = _decode(answer, _Allocation).client_status
        return status

    async def signing_keys(self) -> dict[str, Any]:
        """The public keys of workload identities, as a JSON Web Key Set (RFC 7517); no token is needed."""
        answer = await self._session.request("GET", "/.well-known/jwks.json")
        if answer.status >= 300:
            where = f"Nomad at {self.options.address}, /.well-known/jwks.json"
            raise refusal(answer.status, where, answer.text)
        found: dict[str, Any] = _decode(answer, dict[str, Any])
        return found

    async def _get(
        self, endpoint: _Endpoint, path: tuple[str, ...], namespace: str, index: int = 0, wait: float = 0
    ) -> HttpAnswer:
        params: dict[str, Any] = {"namespace": namespace}
        if index:
            params |= {"index": index, "wait": f"{int(wait * 1000)}ms"}
        token = self.options.token.read()
        headers = {"X-Nomad-Token": token} if token else {}
        timeout = client_timeout(wait) if index else REQUEST_TIMEOUT
        quoted = [quote(part, safe="") for part in path]
        answer: HttpAnswer = await endpoint.request(
            *quoted, method="get", params=params, headers=headers, timeout=timeout
        )
        if answer.status >= 300:
            where = f"Nomad at {self.options.address}, {'/'.join((endpoint.ENDPOINT, *path))}"
            raise refusal(answer.status, where, answer.text)
        return answer


def _decode(answer: HttpAnswer, kind: Any) -> Any:
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except msgspec.MsgspecError as failure:
        raise BadAnswerError(f"Nomad: unexpected answer ({type(failure).__name__})") from None


def _index(answer: HttpAnswer) -> int:
    try:
        return int(answer.headers["X-Nomad-Index"])
    except (KeyError, ValueError):
        raise BadAnswerError("Nomad: an answer without an index") from None
