"""Consul's answers as typed values. What nobody reads stays undecoded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec
from consul import base

F = TypeVar("F")


class KvPair(msgspec.Struct, frozen=True, gc=False, rename="pascal"):
    """One key.

    Its value stays as it came (base64 inside JSON) until ``text`` is asked for, because most values of an answer are
    those that the reader has already. The raw value keeps the whole answer in memory: do not keep pairs.
    """

    key: str
    create_index: int = 0
    modify_index: int = 0
    session: str = ""
    """Who holds the lock on this key."""
    value: msgspec.Raw = msgspec.Raw(b"null")

    def text(self) -> bytes:
        """The value; raises ``msgspec.DecodeError`` if it is not what Consul sends."""
        return msgspec.json.decode(self.value, type=bytes | None) or b""

    def raw(self) -> bytes:
        """The value as it came: equal if and only if the values are equal."""
        return bytes(self.value)


@dataclass(frozen=True, slots=True)
class KvAnswer:
    """Keys, and as of which index; no keys is an answer like any other."""

    index: int
    pairs: tuple[KvPair, ...] = ()
    size: int = 0
    """Bytes of the answer."""


@dataclass(frozen=True, slots=True)
class KeysAnswer:
    """Names of keys, and as of which index."""

    index: int
    keys: tuple[str, ...] = ()


class Weights(msgspec.Struct, frozen=True, gc=False, rename="pascal"):
    """How much traffic an instance wants."""

    passing: int = 1
    warning: int = 1


class Port(msgspec.Struct, frozen=True, gc=False, rename="pascal"):
    """One of several ports of an instance."""

    name: str = ""
    port: int = 0


class Node(msgspec.Struct, frozen=True, gc=False, rename="pascal"):
    """The machine of an instance."""

    node: str = ""
    address: str = ""
    datacenter: str = ""


class Service(msgspec.Struct, frozen=True, gc=False):
    """An instance of a service, as registered."""

    id: str = msgspec.field(name="ID", default="")
    tags: tuple[str, ...] | None = msgspec.field(name="Tags", default=None)
    address: str = msgspec.field(name="Address", default="")
    port: int = msgspec.field(name="Port", default=0)
    weights: Weights | None = msgspec.field(name="Weights", default=None)
    ports: tuple[Port, ...] | None = msgspec.field(name="Ports", default=None)


class Check(msgspec.Struct, frozen=True, gc=False):
    """What a check of an instance, or of its node, says."""

    id: str = msgspec.field(name="CheckID", default="")
    status: str = msgspec.field(name="Status", default="")
    node: str = msgspec.field(name="Node", default="")
    service: str = msgspec.field(name="ServiceName", default="")
    """Empty for a check of the whole node."""


class HealthEntry(msgspec.Struct, frozen=True, gc=False, rename="pascal"):
    """An instance with its node."""

    node: Node
    service: Service
    checks: tuple[Check, ...] | None = None

    @property
    def status(self) -> str:
        """The worst of what its checks say; maintenance mode is a critical check of Consul's own."""
        said = {check.status for check in self.checks or ()}
        return next((status for status in ("critical", "warning") if status in said), "passing")


class NodeEntry(msgspec.Struct, frozen=True, gc=False, rename="pascal"):
    """A node as the catalog lists it."""

    node: str = ""
    address: str = ""


class Registered(Service, frozen=True, gc=False):
    """A service as registered on a node."""

    name: str = msgspec.field(name="Service", default="")


class NodeServices(msgspec.Struct, frozen=True, rename="pascal"):
    """Everything that is registered on a node."""

    services: tuple[Registered, ...] | None = None


class Registration(msgspec.Struct, frozen=True):
    """What a service says of itself beside its address."""

    address: str = msgspec.field(name="Address", default="")
    meta: dict[str, str] | None = msgspec.field(name="Meta", default=None)


class RegisteredEntry(msgspec.Struct, frozen=True, rename="pascal"):
    """An instance with its node, for people: not on the path that requests take."""

    node: Node
    service: Registration

    @property
    def host(self) -> str:
        """Where the instance is."""
        return self.service.address or self.node.address


@dataclass(frozen=True, slots=True)
class HealthAnswer:
    """The instances of a service, and as of which index."""

    index: int
    entries: tuple[HealthEntry, ...] = ()
    last_contact: float = 0.0
    """Seconds since the server that answered last heard from the leader."""


@dataclass(frozen=True, slots=True)
class NamesAnswer:
    """The names of all services of a datacenter with their tags, and as of which index."""

    index: int
    names: Mapping[str, tuple[str, ...]]
    last_contact: float = 0.0


@dataclass(frozen=True, slots=True)
class ChecksAnswer:
    """The checks of a datacenter that do not pass, and as of which index."""

    index: int
    checks: frozenset[Check] = frozenset()


@dataclass(frozen=True, slots=True)
class NodesAnswer:
    """The nodes of a datacenter, and as of which index."""

    index: int
    nodes: tuple[NodeEntry, ...] = ()


class LeafAnswer(msgspec.Struct, frozen=True, rename="pascal"):
    """The certificate that a service has in the mesh. Its text never shows the key."""

    cert_pem: str = msgspec.field(name="CertPEM")
    """The certificate, and those between it and a root."""
    private_key_pem: str = msgspec.field(name="PrivateKeyPEM")
    service_uri: str = msgspec.field(name="ServiceURI")
    index: int = 0

    def __repr__(self) -> str:
        return f"LeafAnswer(service_uri={self.service_uri!r})"


class Root(msgspec.Struct, frozen=True, rename="pascal"):
    """A root of the mesh's certificates."""

    root_cert: str
    active: bool = False


class RootsAnswer(msgspec.Struct, frozen=True, rename="pascal"):
    """The roots of the mesh: the active one, and earlier ones as long as certificates of theirs may be in use."""

    roots: tuple[Root, ...]
    index: int = 0

    @property
    def pem(self) -> str:
        """All of them, in a fixed order."""
        return "".join(sorted({f"{root.root_cert.strip()}\n" for root in self.roots}))


_PAIRS: Final = msgspec.json.Decoder(tuple[KvPair, ...] | None)
_KEYS: Final = msgspec.json.Decoder(tuple[str, ...] | None)
_ENTRIES: Final = msgspec.json.Decoder(tuple[HealthEntry, ...] | None)
_REGISTERED: Final = msgspec.json.Decoder(tuple[RegisteredEntry, ...] | None)
_CHECKS: Final = msgspec.json.Decoder(tuple[Check, ...] | None)
_NODES: Final = msgspec.json.Decoder(tuple[NodeEntry, ...] | None)
_NODE_SERVICES: Final = msgspec.json.Decoder(NodeServices | None)
_NAMES: Final = msgspec.json.Decoder(dict[str, tuple[str, ...] | None] | None)


def decode_pairs(response: Any) -> KvAnswer:
    """A KV answer; 404 is the empty one."""
    pairs = () if response.code == 404 else _PAIRS.decode(response.content) or ()
    return KvAnswer(_index(response), _seen(response, pairs), len(response.content) if pairs else 0)


def decode_keys(response: Any) -> KeysAnswer:
    """An answer to ``?keys``; 404 is the empty one."""
    keys = () if response.code == 404 else _KEYS.decode(response.content) or ()
    return KeysAnswer(_index(response), _seen(response, keys))


def decode_health(response: Any) -> HealthAnswer:
    """Instances of a service. A service that does not exist has none."""
    entries = () if response.code == 404 else _ENTRIES.decode(response.content) or ()
    return HealthAnswer(_index(response), _seen(response, entries), _last_contact(response))


def decode_registered(response: Any) -> tuple[RegisteredEntry, ...]:
    """Instances of a service with what they say of themselves."""
    return () if response.code == 404 else _REGISTERED.decode(response.content) or ()


def decode_names(response: Any) -> NamesAnswer:
    """Names of services, in order."""
    found = {} if response.code == 404 else _NAMES.decode(response.content) or {}
    names = {name: tuple(sorted(tags or ())) for name, tags in sorted(found.items())}
    return NamesAnswer(_index(response), _seen(response, names), _last_contact(response))


def decode_checks(response: Any) -> ChecksAnswer:
    """Checks, in no order."""
    return ChecksAnswer(_index(response), frozenset(_CHECKS.decode(response.content) or ()))


def decode_nodes(response: Any) -> NodesAnswer:
    """Nodes."""
    return NodesAnswer(_index(response), _NODES.decode(response.content) or ())


def decode_node_services(response: Any) -> tuple[Registered, ...]:
    """What is registered on a node; nothing if there is no such node."""
    found = None if response.code == 404 else _NODE_SERVICES.decode(response.content)
    return (found.services or ()) if found else ()


def decode_leaf(response: Any) -> LeafAnswer:
    """A service's certificate."""
    return msgspec.structs.replace(msgspec.json.decode(response.content, type=LeafAnswer), index=_index(response))


def decode_roots(response: Any) -> RootsAnswer:
    """The roots of the mesh."""
    return msgspec.structs.replace(msgspec.json.decode(response.content, type=RootsAnswer), index=_index(response))


class TxnError(msgspec.Struct, frozen=True, rename="pascal"):
    """Why one operation of a transaction failed."""

    op_index: int = 0
    what: str = ""


class TxnKv(msgspec.Struct, frozen=True, gc=False, rename="pascal"):
    """A key that a transaction wrote."""

    key: str
    modify_index: int


class TxnResult(msgspec.Struct, frozen=True, gc=False):
    """What one operation of a transaction did."""

    kv: TxnKv | None = msgspec.field(name="KV", default=None)


class TxnAnswer(msgspec.Struct, frozen=True, rename="pascal"):
    """A transaction: what it wrote, or the errors because of which nothing was written."""

    results: tuple[TxnResult, ...] | None = None
    errors: tuple[TxnError, ...] | None = None


def decode_txn(response: Any) -> TxnAnswer:
    """The answer to a transaction, whether it was carried out (200) or rolled back (409)."""
    return msgspec.json.decode(response.content, type=TxnAnswer)


def _seen(response: Any, found: F) -> F:
    """What was found. Nothing because the token may see none of it raises ``ACLPermissionDenied``.

    Consul leaves out what a token may not read, without an error: what is empty then is not known to be empty.
    https://developer.hashicorp.com/consul/api-docs/api-structure#results-filtered-by-acls
    """
    if not found and response.headers.get("X-Consul-Results-Filtered-By-ACLs") == "true":
        raise base.ACLPermissionDenied
    return found


class _Session(msgspec.Struct, frozen=True):
    ID: str


def decode_session(response: Any) -> str:
    """The id of a session that was created."""
    return msgspec.json.decode(response.content, type=_Session).ID


def _index(response: Any) -> int:
    """The index of an answer; without one it is no answer (a proxy's error page, an agent without a leader)."""
    return int(response.headers["X-Consul-Index"])


def _last_contact(response: Any) -> float:
    return int(response.headers.get("X-Consul-LastContact", 0)) / 1000
