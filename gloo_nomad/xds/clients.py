"""The connected Envoys as records: for the admin page, ``gloo-nomad check`` and the statuses."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from gloo_nomad.xds.ledger import Nack


@dataclass(frozen=True, slots=True)
class TypeState:
    """One type on one stream: how many names it asks for, and what was sent, accepted and rejected.

    ``rejected`` holds only what is not accepted at present, by resource name; an empty name stands for a response
    without resources.
    """

    type_url: str
    wildcard: bool
    subscribed: int
    sent_version: str
    acked_version: str
    unanswered: int
    rejected: Mapping[str, Nack]

    @property
    def is_current(self) -> bool:
        """Whether the client accepted what it was sent last."""
        return not (self.unanswered or self.rejected)


@dataclass(frozen=True, slots=True)
class Node:
    """Who a client says it is; empty texts are unknown."""

    node_id: str
    cluster: str
    role: str
    version: str


@dataclass(frozen=True, slots=True)
class Client:
    """One connected stream; ``connected_since`` in seconds since 1970, ``protocol`` is ``delta`` or ``sotw``."""

    stream: int
    node: Node
    peer: str
    protocol: str
    connected_since: float
    types: tuple[TypeState, ...]

    @property
    def rejections(self) -> tuple[tuple[str, str, Nack], ...]:
        """What it rejects at present: type URL, resource name, reason."""
        return tuple((state.type_url, name, nack) for state in self.types for name, nack in state.rejected.items())


class Describable(Protocol):
    """A stream that can say what it is."""

    def describe(self) -> Client:
        """The stream as a record."""


class ClientRegistry:
    """The streams that are open now."""

    def __init__(self) -> None:
        self._streams: dict[int, Describable] = {}
        self._last = 0

    def add(self, stream: Describable) -> int:
        """Registers a stream and returns its number."""
        self._last += 1
        self._streams[self._last] = stream
        return self._last

    def remove(self, number: int) -> None:
        """Forgets a stream that ended."""
        self._streams.pop(number, None)

    def __len__(self) -> int:
        return len(self._streams)

    def __iter__(self) -> Iterator[Client]:
        return (stream.describe() for stream in tuple(self._streams.values()))


def rejections_of(rejected: Mapping[str, Nack]) -> Mapping[str, Nack]:
    """A copy that does not change any more."""
    return MappingProxyType(dict(rejected))
