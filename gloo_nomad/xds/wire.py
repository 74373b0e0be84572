"""Discovery responses in wire format: every resource is framed once and shared by all streams.

A resource's body is never parsed or copied here. What goes around it (name, version, type URL, lengths) is encoded
when it is published; a response is the concatenation of such frames, which protobuf allows for repeated fields.
"""

from dataclasses import dataclass
from typing import Final
from weakref import WeakValueDictionary

from gloo_nomad.messages import delimited, digest, length_delimited_tag, varint
from gloo_nomad.resources import Resource

IDENTIFIER: Final = "gloo-nomad"
"""What Envoy shows as ``control_plane.identifier``."""

# Field numbers of envoy/service/discovery/v3/discovery.proto.
_VERSION, _RESOURCES, _SOTW_TYPE_URL, _SOTW_NONCE, _SOTW_CONTROL_PLANE = 1, 2, 4, 5, 6
_DELTA_TYPE_URL, _DELTA_NONCE, _DELTA_REMOVED, _DELTA_CONTROL_PLANE = 4, 5, 6, 7
_RESOURCE_VERSION, _RESOURCE_ANY, _RESOURCE_NAME = 1, 2, 3
_ANY_TYPE_URL, _ANY_VALUE = 1, 2
_CONTROL_PLANE: Final = delimited(1, IDENTIFIER.encode())


@dataclass(frozen=True, slots=True, eq=False)
class Wire:
    """One resource ready to be sent; compared by identity.

    ``delta_head`` and ``sotw_head`` are what precedes ``body`` in a response of either protocol;
    ``fingerprint`` is a 128-bit number of type, name and version, so that sums of them are versions of sets.
    """

    name: str
    version: str
    body: bytes
    delta_head: bytes
    sotw_head: bytes
    fingerprint: int

    @property
    def size(self) -> int:
        """Bytes that it adds to a delta response."""
        return len(self.delta_head) + len(self.body)


def build_wire(type_url: str, resource: Resource) -> Wire:
    """Frames a resource for both protocols."""
    begin, body = resource.pieces
    name, version, size = resource.name.encode(), resource.version.encode(), len(begin) + len(body)
    inner = delimited(_ANY_TYPE_URL, type_url.encode()) + _opening(_ANY_VALUE, size)
    in_any = _opening(_RESOURCES, len(inner) + size) + inner + begin
    named = delimited(_RESOURCE_NAME, name) + delimited(_RESOURCE_VERSION, version)
    in_resource = named + _opening(_RESOURCE_ANY, len(inner) + size) + inner
    head = _opening(_RESOURCES, len(in_resource) + size) + in_resource + begin
    fingerprint = int.from_bytes(digest(type_url.encode(), name, version))
    return Wire(resource.name, resource.version, body, head, in_any, fingerprint)


def _opening(number: int, length: int) -> bytes:
    """Tag and length of a field whose content follows."""
    return length_delimited_tag(number) + varint(length)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One response as the state machines decide it; equal ones have equal bytes."""

    delta: bool
    type_url: str
    nonce: str
    version: str
    wires: tuple[Wire, ...]
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Frame:
    """An encoded response; lives as long as a stream is sending it."""

    payload: bytes


class Encoder:
    """Encodes responses, once for all streams that send the same one at the same time."""

    def __init__(self) -> None:
        self._frames: WeakValueDictionary[Outgoing, Frame] = WeakValueDictionary()

    def encode(self, outgoing: Outgoing) -> Frame:
        """The response's bytes, shared with the streams that are still sending them."""
        frame = self._frames.get(outgoing)
        if frame is None:
            frame = Frame(build_delta_bytes(outgoing) if outgoing.delta else build_sotw_bytes(outgoing))
            self._frames[outgoing] = frame
        return frame

    def __len__(self) -> int:
        return len(self._frames)


def build_delta_bytes(outgoing: Outgoing) -> bytes:
    """A DeltaDiscoveryResponse."""
    parts = [delimited(_VERSION, outgoing.version.encode())]
    for wire in outgoing.wires:
        parts += (wire.delta_head, wire.body)
    parts += (
        delimited(_DELTA_TYPE_URL, outgoing.type_url.encode()),
        delimited(_DELTA_NONCE, outgoing.nonce.encode()),
        *(delimited(_DELTA_REMOVED, name.encode()) for name in outgoing.removed),
        delimited(_DELTA_CONTROL_PLANE, _CONTROL_PLANE),
    )
    return b"".join(parts)


def build_sotw_bytes(outgoing: Outgoing) -> bytes:
    """A DiscoveryResponse."""
    parts = [delimited(_VERSION, outgoing.version.encode())]
    for wire in outgoing.wires:
        parts += (wire.sotw_head, wire.body)
    parts += (
        delimited(_SOTW_TYPE_URL, outgoing.type_url.encode()),
        delimited(_SOTW_NONCE, outgoing.nonce.encode()),
        delimited(_SOTW_CONTROL_PLANE, _CONTROL_PLANE),
    )
    return b"".join(parts)
