"""Envoy resources as the envoy stage makes them and the xDS server sends them: names, bytes and versions."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

_PREFIX: Final = "type.googleapis.com/"
CLUSTER: Final = _PREFIX + "envoy.config.cluster.v3.Cluster"
ENDPOINTS: Final = _PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER: Final = _PREFIX + "envoy.config.listener.v3.Listener"
ROUTES: Final = _PREFIX + "envoy.config.route.v3.RouteConfiguration"
VIRTUAL_HOST: Final = _PREFIX + "envoy.config.route.v3.VirtualHost"
SCOPED_ROUTES: Final = _PREFIX + "envoy.config.route.v3.ScopedRouteConfiguration"
SECRET: Final = _PREFIX + "envoy.extensions.transport_sockets.tls.v3.Secret"
RUNTIME: Final = _PREFIX + "envoy.service.runtime.v3.Runtime"

PUSH_ORDER: Final = (SECRET, CLUSTER, ENDPOINTS, LISTENER, ROUTES, VIRTUAL_HOST, SCOPED_ROUTES, RUNTIME)
"""Make before break: what is referred to goes first."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource: ``body`` is the message in wire format, ``version`` the hash of what it was made from.

    Equal bodies have equal versions, and the same unchanged resource is the same object in the next snapshot.
    """

    name: str
    version: str
    body: bytes

    @property
    def pieces(self) -> tuple[bytes, bytes]:
        """The body in two parts, of which the second one is kept in memory anyway."""
        return b"", self.body


class JoinedResource(Resource):
    """One whose body is put together whenever it is asked for: what few ask for takes no memory."""

    __slots__ = ("_parts",)
    _parts: Callable[[], Iterable[bytes]]

    def __init__(self, name: str, version: str, parts: Callable[[], Iterable[bytes]]) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "version", version)
        object.__setattr__(self, "_parts", parts)

    @property
    def body(self) -> bytes:
        """The parts, joined."""
        return b"".join(self._parts())


class PrefixedResource(Resource):
    """One whose body shares all but its beginning with others."""

    __slots__ = ("_head", "_rest")
    _head: bytes
    _rest: bytes

    def __init__(self, name: str, version: str, head: bytes, rest: bytes) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "version", version)
        object.__setattr__(self, "_head", head)
        object.__setattr__(self, "_rest", rest)

    @property
    def body(self) -> bytes:
        """All of it."""
        return self._head + self._rest

    @property
    def pieces(self) -> tuple[bytes, bytes]:
        """Its beginning and what is shared."""
        return self._head, self._rest


Resources = Mapping[str, Resource]
"""Resources of one type, by name."""

NO_RESOURCES: Final[Resources] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class XdsSnapshot:
    """Everything that the Envoys of one role are served, by type URL.

    Virtual hosts as resources of their own exist in the delta protocol alone. Where ``delta`` has a type, delta streams
    are served that instead of what ``types`` has.
    """

    types: Mapping[str, Resources] = field(default_factory=lambda: MappingProxyType({}))
    delta: Mapping[str, Resources] = field(default_factory=lambda: MappingProxyType({}))

    def of(self, type_url: str) -> Resources:
        """The resources of a type; empty for one that is not served."""
        return self.types.get(type_url, NO_RESOURCES)

    def for_delta(self) -> "XdsSnapshot":
        """What delta streams are served."""
        return XdsSnapshot(MappingProxyType({**self.types, **self.delta})) if self.delta else self

    def with_type(self, type_url: str, resources: Resources) -> "XdsSnapshot":
        """The same snapshot with the resources of one type replaced."""
        return XdsSnapshot(MappingProxyType({**self.types, type_url: resources}), self.delta)
