"""Consul: KV, transactions, sessions and locks, healthy instances, the catalog.

All methods are coroutines and raise the exceptions of ``clients.http`` only. A method with *index* and *wait* blocks
until the answer is newer than *index*, or *wait* seconds are over (see ``clients.blocking``).

Consul ends a blocking KV query of a client that went away only when its *wait* is over, and counts its connection until
then; those of the health and catalog endpoints end at once. Whoever watches many keys keeps the waits short.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlencode

import aiohttp

from gloo_nomad.clients.address import NO_TLS, Address, Tls
from gloo_nomad.clients.blocking import client_timeout
from gloo_nomad.clients.consul_answers import (
    ChecksAnswer,
    HealthAnswer,
    KeysAnswer,
    KvAnswer,
    LeafAnswer,
    NamesAnswer,
    NodesAnswer,
    Registered,
    RegisteredEntry,
    RootsAnswer,
    TxnAnswer,
    decode_checks,
    decode_health,
    decode_keys,
    decode_leaf,
    decode_names,
    decode_node_services,
    decode_nodes,
    decode_pairs,
    decode_registered,
    decode_roots,
    decode_session,
    decode_txn,
)
from gloo_nomad.clients.consul_transport import Callback, Endpoints, Params, T, Transport, dumps
from gloo_nomad.clients.http import (
    MAX_BODY,
    MAX_CONNECTIONS,
    REQUEST_TIMEOUT,
    HttpOptions,
    HttpSession,
    NotFoundError,
    refusal,
)
from gloo_nomad.clients.token import NO_TOKEN, Token


@dataclass(frozen=True, slots=True)
class ConsulOptions:
    """How to reach Consul. Nothing else is read: neither the environment nor files besides those named here."""

    address: Address
    token: Token = NO_TOKEN
    datacenter: str = ""
    tls: Tls = NO_TLS
    consistency: str = "default"
    """For KV: ``default``, ``consistent`` or ``stale``."""
    namespace: str = ""
    """Consul Enterprise only."""
    partition: str = ""
    """Consul Enterprise only."""
    username: str = ""
    password: str = ""
    max_stale: float = 10.0
    """Seconds that a stale answer may be behind; an older one is asked for again from the leader."""
    max_connections: int = MAX_CONNECTIONS
    max_body: int = MAX_BODY

    def __repr__(self) -> str:
        return f"ConsulOptions(address={str(self.address)!r})"


@dataclass(frozen=True, slots=True)
class Reading:
    """How to read services. ``cached`` lets the agent answer out of its cache, ``stale`` any server."""

    stale: bool = True
    cached: bool = False
    consistent: bool = False

    @property
    def params(self) -> list[tuple[str, str]]:
        """As parameters of a query."""
        if self.consistent:
            return [("consistent", "1")]
        return [(name, "1") for name, chosen in (("stale", self.stale), ("cached", self.cached)) if chosen]


READ_STALE: Final = Reading()
READ_CACHED: Final = Reading(cached=True)
READ_CONSISTENT: Final = Reading(stale=False, consistent=True)
READ_LEADER: Final = Reading(stale=False)


class Scope(NamedTuple):
    """Which part of Consul is asked: empty parts are as the client's options say."""

    datacenter: str = ""
    namespace: str = ""
    partition: str = ""


OWN_SCOPE: Final = Scope()
D = TypeVar("D", HealthAnswer, NamesAnswer)


class Blocking(NamedTuple):
    """Wait for an answer newer than an index, for at most so many seconds; index 0 does not wait."""

    after: int
    wait: float

    @property
    def params(self) -> list[tuple[str, Any]]:
        """As parameters of a query."""
        return [("index", self.after), ("wait", f"{int(self.wait * 1000)}ms")] if self.after else []

    @property
    def timeout(self) -> float:
        """Seconds after which to give up."""
        return client_timeout(self.wait) if self.after else REQUEST_TIMEOUT


AT_ONCE: Final = Blocking(0, 0)


class ConsulClient:
    """One Consul agent."""

    def __init__(self, options: ConsulOptions) -> None:
        self.options = options
        self._session = HttpSession(
            HttpOptions(
                "Consul",
                options.address,
                options.tls,
                _authorization(options),
                options.max_connections,
                options.max_body,
            )
        )
        self._transport = Transport(self._session, _enterprise(options.namespace, options.partition))
        self._api = Endpoints(self._transport, options.token, options.datacenter, options.consistency)

    async def close(self) -> None:
        """Ends all connections."""
        await self._session.close()

    # --- KV

    async def kv_list(self, prefix: str, index: int = 0, wait: float = 60.0) -> KvAnswer:
        """All keys that begin with *prefix*, with their values undecoded."""
        return await self._kv(decode_pairs, prefix, [("recurse", "1")], Blocking(index, wait))

    async def kv_keys(self, prefix: str, index: int = 0, wait: float = 60.0) -> KeysAnswer:
        """The names of all keys that begin with *prefix*."""
        return await self._kv(decode_keys, prefix, [("keys", "1")], Blocking(index, wait))

    async def kv_get(self, key: str, index: int = 0, wait: float = 60.0) -> KvAnswer:
        """One key: one pair, or none."""
        return await self._kv(decode_pairs, key, [], Blocking(index, wait))

    async def kv_put(self, key: str, value: bytes, cas: int | None = None) -> bool:
        """Writes a value, with *cas* only if the key's ModifyIndex is that (0: if there is no such key).

        The answer says whether it was written.
        """
        return bool(await self._api.kv.put(_checked(key), value, cas=cas))

    async def kv_delete(self, key: str, cas: int | None = None) -> bool:
        """Deletes a key, with *cas* only if its ModifyIndex is that. True also if there was none."""
        return bool(await self._api.kv.delete(_checked(key), cas=cas))

    async def kv_delete_tree(self, prefix: str) -> bool:
        """Deletes all keys that begin with *prefix*, which must end in a slash."""
        if not prefix.endswith("/") or prefix == "/":
            raise ValueError("the prefix of a tree ends in a slash and is not empty")
        return bool(await self._api.kv.delete(_checked(prefix), recurse=True))

    async def txn(self, operations: Sequence[Mapping[str, Any]]) -> TxnAnswer:
        """One transaction, at most 64 operations: its answer, whose ``Errors`` are set if it was rolled back."""
        passing = frozenset({409})
        return await self._transport.put(
            decode_txn, "/v1/txn", self._dc(""), dumps(operations), self._headers(), passing=passing
        )

    # --- sessions and locks

    async def session_create(self, name: str, ttl: int, behavior: str = "release", lock_delay: int = 15) -> str:
        """A session that ends *ttl* seconds after its last renewal; its id.

        Consul takes 10 to 86,400, and less where its ``session_ttl_min`` says so, which the library does not know.
        """
        if not 1 <= ttl <= 86_400 or behavior not in {"release", "delete"}:
            raise ValueError("a session lives 1 to 86400 seconds and its behaviour is release or delete")
        wanted = {"Name": name, "TTL": f"{ttl}s", "Behavior": behavior, "LockDelay": f"{lock_delay}s"}
        return await self._transport.put(
            decode_session, "/v1/session/create", self._dc(""), dumps(wanted), self._headers()
        )

    async def session_renew(self, session: str) -> bool:
        """Keeps a session; False if it has ended already."""
        try:
            await self._api.session.renew(session)
        except NotFoundError:
            return False
        return True

    async def session_destroy(self, session: str) -> None:
        """Ends a session, and with it its locks."""
        await self._api.session.destroy(session)

    async def kv_acquire(self, key: str, value: bytes, session: str) -> bool:
        """Takes the lock on a key; False if somebody else holds it, or the lock delay is not over."""
        return bool(await self._api.kv.put(_checked(key), value, acquire=session))

    async def kv_release(self, key: str, value: bytes, session: str) -> bool:
        """Gives the lock on a key back; False if this session does not hold it."""
        return bool(await self._api.kv.put(_checked(key), value, release=session))

    # --- tokens

    async def knows_token(self) -> bool:
        """True for a token that Consul knows, False where ACLs are off; ForbiddenError for one that it does not."""
        target, headers = f"/v1/acl/token/self?{urlencode(self._scope(OWN_SCOPE))}", self._headers()
        answer = await self._session.request("GET", target, headers=headers)
        if answer.status == HTTPStatus.UNAUTHORIZED and "disabled" in answer.text:
            return False
        if answer.status != HTTPStatus.OK:
            raise refusal(answer.status, f"Consul at {self.options.address}, token", answer.text)
        return True

    # --- services

    async def health_service(
        self,
        name: str,
        scope: Scope = OWN_SCOPE,
        blocking: Blocking = AT_ONCE,
        reading: Reading = READ_STALE,
        *,
        passing: bool = True,
        connect: bool = False,
    ) -> HealthAnswer:
        """The instances of a service, only those all of whose checks pass unless *passing* is false.

        With *connect* those through which the mesh reaches it: its sidecars, or itself if it is native.
        """
        path = f"/v1/health/{'connect' if connect else 'service'}/{name}"
        params = [*([("passing", "1")] if passing else []), *self._scope(scope)]
        return await self._fresh(decode_health, path, params, blocking, reading)

    async def registered_service(self, name: str) -> tuple[RegisteredEntry, ...]:
        """All instances of a service, also those whose checks fail, with their metadata."""
        path = f"/v1/health/service/{name}"
        return await self._get(decode_registered, path, [("stale", "1"), *self._dc("")], AT_ONCE)

    async def catalog_services(
        self, scope: Scope = OWN_SCOPE, blocking: Blocking = AT_ONCE, reading: Reading = READ_STALE
    ) -> NamesAnswer:
        """The names and tags of all services of a datacenter."""
        return await self._fresh(decode_names, "/v1/catalog/services", self._scope(scope), blocking, reading)

    async def failing_checks(self, scope: Scope = OWN_SCOPE, blocking: Blocking = AT_ONCE) -> ChecksAnswer:
        """The checks of a datacenter that do not pass; their index moves with any check."""
        params = [("filter", 'Status != "passing"'), ("stale", "1"), *self._scope(scope)]
        return await self._get(decode_checks, "/v1/health/state/any", params, blocking)

    async def nodes(self, scope: Scope = OWN_SCOPE, blocking: Blocking = AT_ONCE) -> NodesAnswer:
        """The nodes of a datacenter."""
        return await self._get(decode_nodes, "/v1/catalog/nodes", [("stale", "1"), *self._scope(scope)], blocking)

    async def node_services(self, node: str, scope: Scope = OWN_SCOPE) -> tuple[Registered, ...]:
        """What is registered on a node, as the leader knows it."""
        path = f"/v1/catalog/node-services/{node}"
        return await self._get(decode_node_services, path, self._scope(scope), AT_ONCE)

    async def datacenters(self) -> tuple[str, ...]:
        """The names of all datacenters that the agent knows, sorted."""
        return tuple(sorted(map(str, await self._api.catalog.datacenters())))

    async def own_datacenter(self) -> str:
        """The datacenter that is meant where none is named.

        The agent lists datacenters by their distance from it, and its own is the one without any.
        https://developer.hashicorp.com/consul/api-docs/catalog#list-datacenters
        """
        return self.options.datacenter or next(map(str, await self._api.catalog.datacenters()), "")

    async def leader(self) -> str:
        """The address of the Raft leader; empty while there is none."""
        return str(await self._api.status.leader())

    # --- the mesh, of which the agent itself keeps certificates up to date

    async def connect_leaf(self, service: str, index: int = 0, wait: float = 60.0) -> LeafAnswer:
        """The certificate and key of a service; the agent has them renewed, and when the roots rotate."""
        return await self._get(decode_leaf, f"/v1/agent/connect/ca/leaf/{service}", [], Blocking(index, wait))

    async def connect_roots(self, index: int = 0, wait: float = 60.0) -> RootsAnswer:
        """The roots that certificates in the mesh are verified with."""
        return await self._get(decode_roots, "/v1/agent/connect/ca/roots", [], Blocking(index, wait))

    # --- the requests behind them

    async def _kv(self, callback: Callback[T], key: str, params: Params, blocking: Blocking) -> T:
        consistency = self.options.consistency
        mode = [(consistency, "1")] if consistency != "default" else []
        return await self._get(callback, f"/v1/kv/{_checked(key)}", [*params, *mode, *self._dc("")], blocking)

    async def _get(self, callback: Callback[T], path: str, params: Params, blocking: Blocking) -> T:
        return await self._transport.get(
            callback, path, [*params, *blocking.params], self._headers(), timeout=blocking.timeout
        )

    async def _fresh(self, callback: Callback[D], path: str, params: Params, blocking: Blocking, reading: Reading) -> D:
        """Reads as *reading* says, and again from the leader if the answer is too old.

        X-Consul-KnownLeader says nothing here: agents that stream answer false although they are up to date.
        """
        answer: D = await self._get(callback, path, [*params, *reading.params], blocking)
        if answer.last_contact > self.options.max_stale and not reading.consistent:
            answer = await self._get(callback, path, params, blocking)
        return answer

    def _dc(self, dc: str) -> list[tuple[str, str]]:
        where = dc or self.options.datacenter
        return [("dc", where)] if where else []

    def _scope(self, scope: Scope) -> list[tuple[str, str]]:
        return [*self._dc(scope.datacenter), *_enterprise(scope.namespace, scope.partition)]

    def _headers(self) -> dict[str, str]:
        token = self.options.token.read()
        return {"X-Consul-Token": token} if token else {}


def _enterprise(namespace: str, partition: str) -> list[tuple[str, str]]:
    """Parameters that only Consul Enterprise takes; the first of two with one name counts."""
    return [(name, value) for name, value in (("ns", namespace), ("partition", partition)) if value]


def _authorization(options: ConsulOptions) -> dict[str, str]:
    """For a proxy in front of Consul that asks for a password."""
    username = options.username or options.address.username
    password = options.password or options.address.password
    return {"Authorization": aiohttp.BasicAuth(username, password).encode()} if username else {}


def is_key(text: str) -> bool:
    """Whether a key or prefix reaches Consul as it is: its router cleans ``a//b``, ``.`` and ``..``."""
    return bool(text) and not text.startswith("/") and "//" not in text and not {".", ".."} & set(text.split("/"))


def _checked(key: str) -> str:
    """A key that reaches Consul as it is; any other would name another key."""
    if not is_key(key):
        raise ValueError(f"{key!r} is no key: it must not be empty, begin with a slash, or hold //, . or .. as a part")
    return key
