"""Vault and OpenBao: the KV engine, and a token that is kept alive.

hvac does the talking, in threads. Texts of exceptions name paths, never what is stored there.
"""

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import hvac

from gloo_nomad.clients.address import NO_TLS, Address, Tls
from gloo_nomad.clients.blocking import Report
from gloo_nomad.clients.http import BadRequestError, ForbiddenError, NotFoundError
from gloo_nomad.clients.threads import Threads, open_session
from gloo_nomad.clients.token import NO_TOKEN, Token
from gloo_nomad.clients.vault_errors import NoMountError, translate_failure
from gloo_nomad.clients.vault_logins import Login
from gloo_nomad.clients.vault_session import Lifetime, Session

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class VaultOptions:
    """How to reach Vault. Nothing else is read, neither the environment nor ``~/.vault-token``."""

    address: Address
    token: Token = NO_TOKEN
    login: Login | None = None
    """Where the token comes from, in place of ``token``."""
    namespace: str = ""
    """Vault Enterprise and OpenBao."""
    tls: Tls = NO_TLS
    timeout: float = 10.0
    """Seconds for one call."""

    def __repr__(self) -> str:
        return f"VaultOptions(address={str(self.address)!r})"


@dataclass(frozen=True, slots=True)
class KvEngine:
    """A KV engine: its version, 1 or 2, and the UUID that it got when it was mounted; empty if that is not known.

    Another Vault has another one, and so has an engine that was mounted anew. A restored snapshot brings it back.
    """

    version: int
    uuid: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class StoredSecret:
    """A secret as it is stored, and its version (0 where the engine keeps none)."""

    data: Mapping[str, Any]
    version: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class IssuedPair:
    """A certificate, its key, and the certificates above it from its issuer to the root, as PEM."""

    certificate: str
    private_key: str
    chain: tuple[str, ...]


class VaultClient:
    """One Vault. All methods raise the exceptions of ``clients.http`` only."""

    def __init__(self, options: VaultOptions) -> None:
        self.options = options
        self._session = open_session(options.tls)
        self._threads = Threads(f"Vault at {options.address}", options.timeout * 1.5)
        self._api = self._open()
        self._tokens = Session(options.token, options.login, self._open(), self._call_once)

    def _open(self) -> Any:
        options = self.options
        return hvac.Client(
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

    async def kv_engine(self, mount: str) -> KvEngine:
        """Which KV engine is mounted there. Where the token may not know: one of version 2."""
        target = f"/v1/sys/internal/ui/mounts/{mount}"
        try:
            return await self._call(f"mount {mount}", lambda: _kv_engine(self._api.adapter.get(target)))
        except ForbiddenError:
            return KvEngine(2)

    async def list_names(self, mount: str, path: str, version: int = 2) -> tuple[str, ...]:
        """The names below a path, folders with a slash at their end; none for a path that does not exist.

        A mount that does not exist is an error, not an empty one.
        """
        engine = self._engine(version)

        def ask() -> tuple[str, ...]:
            answer = engine.list_secrets(path, mount_point=mount)
            return tuple(sorted(str(name) for name in answer["data"]["keys"]))

        try:
            return await self._call(f"LIST {mount}/{path}", ask)
        except NotFoundError as missing:
            if isinstance(missing, NoMountError):
                raise
            return ()

    async def current_version(self, mount: str, path: str) -> int:
        """The version that ``read_secret`` would give, in KV 2; 0 if it is deleted, destroyed or was never written."""
        engine = self._engine(2)

        def ask() -> int:
            return _current_version(engine.read_secret_metadata(path, mount_point=mount)["data"])

        try:
            return await self._call(f"metadata of {mount}/{path}", ask)
        except NotFoundError:
            return 0

    async def list_versions(self, mount: str, path: str) -> Mapping[str, int] | None:
        """The same for all names below a path in one request; folders are left out.

        None where the server does not know the request (only OpenBao does), the token may not make it, or nothing is
        there. https://openbao.org/api-docs/secret/kv/kv-v2/
        """

        def ask() -> Mapping[str, int]:
            answer = self._api.adapter.list(f"/v1/{mount}/detailed-metadata/{path}")
            known = answer["data"]["key_info"]
            return {name: _current_version(known[name]) for name in sorted(known) if not name.endswith("/")}

        try:
            return await self._call(f"versions below {mount}/{path}", ask)
        except (NotFoundError, ForbiddenError, BadRequestError):
            return None

    async def read_secret(self, mount: str, path: str, version: int = 2) -> StoredSecret | None:
        """The secret at a path, None if there is none; *version* is the engine's."""
        engine = self._engine(version)

        def ask() -> StoredSecret:
            if version == 1:
                return StoredSecret(dict(engine.read_secret(path, mount_point=mount)["data"]))
            answer = engine.read_secret_version(path, mount_point=mount, raise_on_deleted_version=True)
            return StoredSecret(dict(answer["data"]["data"] or {}), int(answer["data"]["metadata"]["version"]))

        try:
            return await self._call(f"read {mount}/{path}", ask)
        except NotFoundError:
            return None

    async def write_secret(self, mount: str, path: str, data: Mapping[str, Any], cas: int | None = None) -> int:
        """Writes a secret into a KV 2 engine, with *cas* only if its version is that; its new version."""
        engine = self._engine(2)

        def ask() -> int:
            answer = engine.create_or_update_secret(path, dict(data), cas=cas, mount_point=mount)
            return int(answer["data"]["version"])

        return await self._call(f"write {mount}/{path}", ask)

    async def delete_secret(self, mount: str, path: str) -> None:
        """Removes a secret with all its versions from a KV 2 engine."""
        engine = self._engine(2)
        await self._call(
            f"delete {mount}/{path}", lambda: engine.delete_metadata_and_all_versions(path, mount_point=mount)
        )

    async def issue_certificate(self, mount: str, role: str, parameters: Mapping[str, str]) -> IssuedPair:
        """A new certificate of a PKI engine; *parameters* are those of its API, ``common_name`` among them."""
        asked = {name: value for name, value in parameters.items() if name != "common_name"}
        pki = self._api.secrets.pki

        def ask() -> IssuedPair:
            answer = pki.generate_certificate(role, parameters["common_name"], dict(asked), mount_point=mount)
            data = answer["data"]
            chain = tuple(map(str, data.get("ca_chain") or (data["issuing_ca"],)))
            return IssuedPair(str(data["certificate"]), str(data["private_key"]), chain)

        return await self._call(f"certificate of {mount}/issue/{role}", ask)

    async def make_key(self, mount: str, name: str) -> tuple[str, str]:
        """A new key of 32 bytes from the transit engine: in base64, and wrapped by the engine's key of that name."""
        transit = self._api.secrets.transit
        answer = await self._call(
            f"data key of {mount}/{name}",
            lambda: transit.generate_data_key(name, key_type="plaintext", mount_point=mount),
        )
        return str(answer["data"]["plaintext"]), str(answer["data"]["ciphertext"])

    async def unwrap_key(self, mount: str, name: str, wrapped: str) -> str:
        """A key that was wrapped, in base64. ``BadRequestError`` if another key wrapped it."""
        transit = self._api.secrets.transit
        answer = await self._call(
            f"decrypt by {mount}/{name}", lambda: transit.decrypt_data(name, wrapped, mount_point=mount)
        )
        return str(answer["data"]["plaintext"])

    async def look_up_token(self) -> Lifetime:
        """How long the present token lives."""
        return await self._tokens.look_up()

    async def keep_token(self, report: Report) -> None:
        """Keeps the token alive for ever (``vault_session``)."""
        await self._tokens.keep(report)

    def _engine(self, version: int) -> Any:
        return self._api.secrets.kv.v2 if version == 2 else self._api.secrets.kv.v1

    async def _call(self, what: str, function: Callable[[], T]) -> T:
        """Calls with the present token, and once more if that was refused and there is another one now.

        The function takes Vault's answer apart itself: one of another shape is a ``BadAnswerError`` like any other.
        """
        token = self._api.token = await self._tokens.token()
        try:
            return await self._call_once(what, function)
        except ForbiddenError:
            if not await self._tokens.replace(token):
                raise
        self._api.token = await self._tokens.token()
        return await self._call_once(what, function)

    async def _call_once(self, what: str, function: Callable[[], T]) -> T:
        return await self._threads.call(what, function, translate_failure)


def _kv_engine(answer: Any) -> KvEngine:
    data = answer["data"]
    options = data.get("options") or {}
    return KvEngine(1 if str(options.get("version", "1")) == "1" else 2, str(data.get("uuid") or ""))


def _current_version(metadata: Mapping[str, Any]) -> int:
    """The version in force, 0 if it is gone. A time of deletion may lie ahead (``delete_version_after``)."""
    current = int(metadata["current_version"])
    state = metadata["versions"].get(str(current), {})
    deleted = state.get("deletion_time")
    if state.get("destroyed") or (deleted and dt.datetime.fromisoformat(deleted) <= dt.datetime.now(dt.UTC)):
        return 0
    return current
