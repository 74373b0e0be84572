"""What is kept, as bytes: objects by source and kind as the store has them, and what the pipeline holds on to.

Objects are kept as protobuf, everything around them as MessagePack. Statuses are not kept: Consul has them.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec
from google.protobuf.message import DecodeError, Message

from gloo_nomad.api.codec import Rejection
from gloo_nomad.api.kinds import KINDS
from gloo_nomad.api.refs import Ref
from gloo_nomad.good_listeners import Key as ListenerKey
from gloo_nomad.kept.file import KeptError
from gloo_nomad.lastgood import Key as HostKey
from gloo_nomad.proxies import Listener, VirtualHost
from gloo_nomad.store.change import Entry
from gloo_nomad.store.issued import ISSUED, IssuedCertificate
from gloo_nomad.store.mesh import MESH_IDENTITY, MESH_SERVICE, MeshIdentity
from gloo_nomad.store.services import CONSUL_SERVICE, NOMAD_SERVICE, ServiceInstances

Groups = Mapping[tuple[str, str], Mapping[Ref, Entry]]
"""Objects by source and kind."""
T = TypeVar("T")

_VALUES: Final[Mapping[str, type]] = {
    **{name: kind.message for name, kind in KINDS.items()},
    CONSUL_SERVICE: ServiceInstances,
    NOMAD_SERVICE: ServiceInstances,
    MESH_SERVICE: ServiceInstances,
    MESH_IDENTITY: MeshIdentity,
    ISSUED: IssuedCertificate,
}
"""What the value of an entry is, by kind."""


@dataclass(frozen=True, slots=True)
class Held:
    """Last good versions that are in service because what there is now is rejected."""

    hosts: tuple[tuple[HostKey, VirtualHost], ...] = ()
    listeners: tuple[tuple[ListenerKey, Listener], ...] = ()


@dataclass(frozen=True, slots=True)
class Content:
    """What one file holds."""

    groups: Groups = field(default_factory=dict)
    held: Held = field(default_factory=Held)


class _Entry(msgspec.Struct, array_like=True, frozen=True):
    namespace: str
    name: str
    value: bytes | None
    rejection: tuple[str, str] | None
    version: int
    created: int
    claimed: dict[str, int]


class _Group(msgspec.Struct, array_like=True, frozen=True):
    source: str
    kind: str
    entries: list[bytes]


class _Content(msgspec.Struct, array_like=True, frozen=True):
    groups: list[_Group]
    held: bytes


def encode_content(content: Content, prepare: Callable[[str, Any], Any] = lambda _kind, value: value) -> bytes:
    """The content as bytes. *prepare* gives what is to be kept in place of an object, by its kind.

    In small steps, so that a thread that does it keeps no other one waiting.
    """
    groups = [
        _Group(source, kind, [_encode_entry(kind, ref, entry, prepare) for ref, entry in entries.items()])
        for (source, kind), entries in content.groups.items()
    ]
    return msgspec.msgpack.encode(_Content(groups, _encode(content.held)))


def decode_content(data: bytes) -> Content:
    """What was encoded. Raises ``KeptError`` for anything else."""
    try:
        found = msgspec.msgpack.decode(data, type=_Content)
        groups = {(group.source, group.kind): dict(_decode_entries(group)) for group in found.groups}
        return Content(groups, _decode(found.held, Held))
    except (msgspec.MsgspecError, DecodeError, KeyError) as failure:
        raise KeptError(f"holds what cannot be read ({type(failure).__name__})") from failure


def _encode_entry(kind: str, ref: Ref, entry: Entry, prepare: Callable[[str, Any], Any]) -> bytes:
    value = None if entry.value is None else _encode(prepare(kind, entry.value))
    rejection = None if entry.rejection is None else tuple(entry.rejection)
    return msgspec.msgpack.encode(
        _Entry(*ref, value, rejection, entry.version, entry.created, dict(entry.claimed))  # type: ignore[arg-type]  # a pair
    )


def _decode_entries(group: _Group) -> Iterable[tuple[Ref, Entry]]:
    wanted = _VALUES[group.kind]
    for data in group.entries:
        found = msgspec.msgpack.decode(data, type=_Entry)
        value = None if found.value is None else _decode(found.value, wanted)
        rejection = None if found.rejection is None else Rejection(*found.rejection)
        entry = Entry(value, rejection, {}, found.version, found.created, found.claimed)
        yield Ref(found.namespace, found.name), entry


def _encode(value: Any) -> bytes:
    if isinstance(value, Message):
        return value.SerializeToString(deterministic=True)
    return msgspec.msgpack.encode(value, enc_hook=_encode_other)


def _decode(data: bytes, wanted: type[T]) -> T:
    if issubclass(wanted, Message):
        return wanted.FromString(data)
    return msgspec.msgpack.decode(data, type=wanted, dec_hook=_decode_other)


def _encode_other(value: Any) -> Any:
    """What MessagePack has no form for: messages inside of values, and mappings that are no dictionaries."""
    return value.SerializeToString(deterministic=True) if isinstance(value, Message) else dict(value)


def _decode_other(wanted: type, data: Any) -> Any:
    if not issubclass(wanted, Message) or not isinstance(data, bytes):
        raise msgspec.ValidationError("expected a message")
    return wanted.FromString(data)
