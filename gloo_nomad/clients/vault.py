"""Vault and OpenBao: the KV engine, and a token that is kept alive.

hvac does the talking, in threads. Texts of exceptions name paths, never what is stored there.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import hvac
import hvac.exceptions
import structlog

from gloo_nomad.clients.address import NO_TLS, Address, Tls
from gloo_nomad.clients.blocking import Report
from gloo_nomad.clients.http import (
    BadRequestError,
    ForbiddenError,
    NotFoundError,
    RateLimitedError,
    SealedError,
    ServerError,
    WorldError,
    excerpt,
)
from gloo_nomad.clients.threads import Threads, open_session
from gloo_nomad.clients.token import NO_TOKEN, Token

log = structlog.get_logger(__name__)

_RETRY: Final = 10.0
_FOREVER: Final = 600.0
"""Seconds until a token that does not expire is looked at again: its file may hold another one by then."""


@dataclass(frozen=True, slots=True)
class VaultOptions:
    """How to reach Vault. Nothing else is read, neither the environment nor ``~/.vault-token``."""

    address: Address
    token: Token = NO_TOKEN
    namespace: str = ""
    """Vault Enterprise and OpenBao."""
    tls: Tls = NO_TLS
    timeout: float = 10.0
    """Seconds for one call."""

    def __repr__(self) -> str:
        return f"VaultOptions(address={str(self.address)!r})"


@dataclass(frozen=True, slots=True, repr=False)
class StoredSecret:
    """A secret as it is stored, and its version (0 where the engine keeps none)."""

    data: Mapping[str, Any]
    version: int = 0


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long a token lives on, in seconds; 0 for ever."""

    ttl: float
    renewable: bool


class VaultClient:
    """One Vault. All methods raise the exceptions of ``clients.http`` only."""

    def __init__(self, options: VaultOptions) -> None:
        self.options = options
        self._session = open_session(options.tls)
        self._threads = Threads(f"Vault at {options.address}", options.timeout * 1.5)
        self._api = hvac.Client(
            url=options.address.base,
            token="",
            namespace=options.namespace or None,
            session=self._session,
            verify=True,
            cert=(),
            timeout=options.timeout,
            allow_redirects=False,
            strict_http=True,
        )

    async def close(self) -> None:
        """Ends all connections."""
        self._threads.close()
        self._session.close()

    async def kv_version(self, mount: str) -> int:
        """Which KV engine is mounted there: 1 or 2. Version 2 where the token may not know."""
        try:
            answer = await self._call(
                f"mount {mount}", lambda: self._api.adapter.get(f"/v1/sys/internal/ui/mounts/{mount}")
            )
        except ForbiddenError:
            return 2
        options = answer["data"].get("options") or {}
        return 1 if str(options.get("version", "1")) == "1" else 2

    async def list_names(self, mount: str, path: str, version: int = 2) -> tuple[str, ...]:
        """The names below a path, folders with a slash at their end; none for a path that does not exist.

        A mount that does not exist is an error, not an empty one.
        """
        engine = self._engine(version)
        try:
            answer = await self._call(f"LIST {mount}/{path}", lambda: engine.list_secrets(path, mount_point=mount))
        except NotFoundError as missing:
            if isinstance(missing, NoMountError):
                raise
            return ()
        return tuple(sorted(str(name) for name in answer["data"]["keys"]))

    async def current_version(self, mount: str, path: str) -> int:
        """The version that ``read_secret`` would give, in KV 2; 0 if it is deleted, destroyed or was never written."""
        engine = self._engine(2)
        try:
            answer = await self._call(
                f"metadata of {mount}/{path}", lambda: engine.read_secret_metadata(path, mount_point=mount)
            )
        except NotFoundError:
            return 0
        current = int(answer["data"]["current_version"])
        state = answer["data"]["versions"].get(str(current), {})
        return 0 if state.get("deletion_time") or state.get("destroyed") else current

    async def read_secret(self, mount: str, path: str, version: int = 2) -> StoredSecret | None:
        """The secret at a path, None if there is none; *version* is the engine's."""
        engine = self._engine(version)
        options = {"raise_on_deleted_version": True} if version == 2 else {}
        read = engine.read_secret_version if version == 2 else engine.read_secret
        try:
            answer = await self._call(f"read {mount}/{path}", lambda: read(path, mount_point=mount, **options))
        except NotFoundError:
            return None
        if version == 1:
            return StoredSecret(answer["data"])
        return StoredSecret(answer["data"]["data"] or {}, int(answer["data"]["metadata"]["version"]))

    async def write_secret(self, mount: str, path: str, data: Mapping[str, Any], cas: int | None = None) -> int:
        """Writes a secret into a KV 2 engine, with *cas* only if its version is that; its new version."""
        engine = self._engine(2)
        answer = await self._call(
            f"write {mount}/{path}",
            lambda: engine.create_or_update_secret(path, dict(data), cas=cas, mount_point=mount),
        )
        return int(answer["data"]["version"])

    async def delete_secret(self, mount: str, path: str) -> None:
        """Removes a secret with all its versions from a KV 2 engine."""
        engine = self._engine(2)
        await self._call(
            f"delete {mount}/{path}", lambda: engine.delete_metadata_and_all_versions(path, mount_point=mount)
        )

    async def look_up_token(self) -> Lifetime:
        """How long the present token lives."""
        answer = await self._call("token", self._api.auth.token.lookup_self)
        return Lifetime(float(answer["data"]["ttl"]), bool(answer["data"].get("renewable")))

    async def renew_token(self) -> Lifetime:
        """Prolongs the present token."""
        answer = await self._call("renewal of the token", self._api.auth.token.renew_self)
        return Lifetime(float(answer["auth"]["lease_duration"]), bool(answer["auth"]["renewable"]))

    async def keep_token(self, report: Report, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Prolongs the token for ever, each time when a third of what remains of its life is over.

        A token that may not look at itself is left alone: it is of use as long as reading works.
        """
        while True:
            try:
                lifetime = await self.look_up_token()
                report(None)
                await sleep(renewal_delay(lifetime, random.random()))  # noqa: S311  # jitter
                if lifetime.ttl and lifetime.renewable:
                    await self.renew_token()
            except ForbiddenError:
                log.info("token not renewable by itself", server=str(self.options.address))
                await sleep(_FOREVER)
            except WorldError as failure:
                report(failure)
                await sleep(_RETRY)

    def _engine(self, version: int) -> Any:
        return self._api.secrets.kv.v2 if version == 2 else self._api.secrets.kv.v1

    async def _call(self, what: str, function: Callable[[], Any]) -> Any:
        self._api.token = self.options.token.read()
        return await self._threads.call(what, function, _translate)


class NoMountError(NotFoundError):
    """There is no engine at the path: a mistake in the settings or in Vault, not an empty engine."""


def renewal_delay(lifetime: Lifetime, jitter: float) -> float:
    """Seconds until a token is to be renewed; *jitter* is between 0 and 1."""
    if not lifetime.ttl:
        return _FOREVER
    return max(1.0, min(lifetime.ttl / 3, _FOREVER) * (0.9 + 0.2 * jitter))


_KINDS: Final[Mapping[type[Exception], type[WorldError]]] = {
    hvac.exceptions.Unauthorized: ForbiddenError,
    hvac.exceptions.Forbidden: ForbiddenError,
    hvac.exceptions.RateLimitExceeded: RateLimitedError,
    hvac.exceptions.InternalServerError: ServerError,
    hvac.exceptions.BadGateway: ServerError,
    hvac.exceptions.VaultDown: SealedError,
    hvac.exceptions.VaultNotInitialized: SealedError,
}


def _translate(failure: Exception, where: str) -> WorldError | None:
    """The same failure as one of ours, with the server's reasons and without its body."""
    if not isinstance(failure, hvac.exceptions.VaultError):
        return None
    reasons = excerpt(", ".join(map(str, failure.errors or ()))) or type(failure).__name__
    if isinstance(failure, hvac.exceptions.InvalidPath):
        kind: type[WorldError] = NoMountError if "no handler for route" in reasons else NotFoundError
    else:
        kind = _KINDS.get(type(failure), BadRequestError)
    return kind(f"{where}: {reasons}")
