"""Nomad: the services that its jobs register with Nomad itself.

python-nomad does the talking, in threads. It has no class for services; its extension point is ``Requester``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import nomad.api.exceptions
from nomad.api.base import Requester

from gloo_nomad.clients.address import NO_TLS, Address, Tls
from gloo_nomad.clients.blocking import client_timeout
from gloo_nomad.clients.http import WorldError, refusal
from gloo_nomad.clients.threads import Threads, connection_error, open_session
from gloo_nomad.clients.token import NO_TOKEN, Token

_TIMEOUT: Final = 10.0


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
    datacenter: str = ""
    tags: tuple[str, ...] | None = None


class _ServiceName(msgspec.Struct, frozen=True, rename="pascal"):
    service_name: str
    tags: tuple[str, ...] | None = None


class _Namespace(msgspec.Struct, frozen=True, rename="pascal"):
    namespace: str
    services: tuple[_ServiceName, ...] = ()


@dataclass(frozen=True, slots=True)
class NomadNames:
    """The names of services with their tags, by namespace, and as of which index."""

    index: int
    names: Mapping[str, Mapping[str, tuple[str, ...]]]


@dataclass(frozen=True, slots=True)
class NomadInstances:
    """The instances of a service, and as of which index."""

    index: int
    instances: tuple[NomadInstance, ...]


class _Services(Requester):  # type: ignore[misc]  # the library has no types
    ENDPOINT = "services"


class _Service(Requester):  # type: ignore[misc]  # the library has no types
    ENDPOINT = "service"


class NomadClient:
    """One Nomad agent. All methods raise the exceptions of ``clients.http`` only.

    With *index* and *wait* they block until the answer is newer (see ``clients.blocking``).
    """

    def __init__(self, options: NomadOptions) -> None:
        self.options = options
        self._session = open_session(options.tls)
        self._threads = Threads(f"Nomad at {options.address}", client_timeout(300))
        settings = {"address": options.address.base, "session": self._session, "region": options.region or None}
        self._services = _Services(**settings, verify=True)
        self._service = _Service(**settings, verify=True)

    async def close(self) -> None:
        """Ends all connections."""
        self._threads.close()
        self._session.close()

    async def list_services(self, namespace: str = "*", index: int = 0, wait: float = 60.0) -> NomadNames:
        """The names of all services of a namespace, ``*`` for all that the token may see."""
        answer = await self._get(self._services, (), namespace, index, wait)
        found = msgspec.json.decode(answer.content, type=tuple[_Namespace, ...])
        names = {
            entry.namespace: {service.service_name: tuple(sorted(service.tags or ())) for service in entry.services}
            for entry in sorted(found, key=lambda entry: entry.namespace)
        }
        return NomadNames(_index(answer), names)

    async def read_service(
        self, name: str, namespace: str = "default", index: int = 0, wait: float = 60.0
    ) -> NomadInstances:
        """The instances of a service; none if there is no such service."""
        answer = await self._get(self._service, (name,), namespace, index, wait)
        return NomadInstances(_index(answer), msgspec.json.decode(answer.content, type=tuple[NomadInstance, ...]))

    async def _get(self, requester: Any, path: tuple[str, ...], namespace: str, index: int, wait: float) -> Any:
        params: dict[str, Any] = {"namespace": namespace}
        if index:
            params |= {"index": index, "wait": f"{int(wait * 1000)}ms"}
        token = self.options.token.read()
        headers = {"X-Nomad-Token": token} if token else {}
        timeout = client_timeout(wait) if index else _TIMEOUT
        what = "/".join((requester.ENDPOINT, *path))
        return await self._threads.call(
            what,
            lambda: requester.request(*path, method="get", params=params, headers=headers, timeout=timeout),
            _translate,
        )


def _index(answer: Any) -> int:
    return int(answer.headers["X-Nomad-Index"])


def _translate(failure: Exception, where: str) -> WorldError | None:
    """The same failure as one of ours; python-nomad wraps both refused answers and broken connections."""
    if not isinstance(failure, nomad.api.exceptions.BaseNomadException):
        return None
    cause = failure.nomad_resp
    status = getattr(cause, "status_code", None)
    if status is not None:
        return refusal(status, where, cause.content[:1024].decode(errors="replace"))
    return connection_error(cause, where) if isinstance(cause, Exception) else None
