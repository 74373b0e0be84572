"""What the gateway stage hands to the envoy stage: proxies as frozen values.

A ``gloo.solo.io.Proxy`` message copies whatever is put into it, which would lose the identity that incremental
translation lives on. So a proxy is a tree of values here, whose leaves are messages of the contract.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, Self

from gloo_nomad.api.gen import (
    http_listener_options_pb2,
    listener_options_pb2,
    proxy_pb2,
    ssl_pb2,
    tcp_listener_options_pb2,
)
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.reports import Finding, Problem, Problems

OptionOrigins = Mapping[str, tuple[ObjectRef, str]]
"""Options written elsewhere: camelCase name of a top-level option to the object and the path of its options in it."""
NO_ORIGINS: Final[OptionOrigins] = MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False)
class RouteOrigin:
    """Where a route of a virtual host was written, so that what is wrong with it is said to the object at fault."""

    source: ObjectRef
    """The virtual service, or the route table that the route came from by delegation."""
    path: str
    """The route in its source: ``virtualHost.routes[2]`` or ``routes[0]``."""
    via: str = ""
    """For a delegated route, the route of the virtual service that leads to it."""
    options: OptionOrigins = field(default_factory=lambda: NO_ORIGINS)
    """Options that the route inherits from delegating routes or takes from RouteOption objects."""

    def place(self, path: str) -> tuple[ObjectRef, str]:
        """The object and the path in it, for a path relative to the route (``options.timeout``)."""
        written = _written_at(self.options, path)
        return written or (self.source, _join(self.path, path))


def _written_at(origins: OptionOrigins, path: str) -> tuple[ObjectRef, str] | None:
    inner = path.removeprefix("options.")
    found = origins.get(inner.split(".", 1)[0].split("[", 1)[0]) if inner != path else None
    return (found[0], _join(found[1], inner)) if found else None


def _join(path: str, tail: str) -> str:
    return f"{path}.{tail}" if tail and not tail.startswith("[") else path + tail


@dataclass(frozen=True, slots=True, eq=False)
class VirtualHost:
    """One virtual host, made from one VirtualService and the route tables it delegates to."""

    source: ObjectRef
    name: str
    """``<namespace>.<name>``."""
    domains: tuple[str, ...]
    packed: bytes
    """The message in wire format, a tenth of what it takes as an object; see ``message``."""
    paths: tuple[str, ...] = ()
    """For each route its path in the object that it came from: ``virtualHost.routes[2]`` or ``routes[0]``."""
    ssl: ssl_pb2.SslConfig | None = None
    origins: tuple[RouteOrigin, ...] = ()
    """For each route where it was written."""
    options: OptionOrigins = field(default_factory=lambda: NO_ORIGINS)
    """Options of the virtual host that are taken from VirtualHostOption objects."""

    @property
    def message(self) -> proxy_pb2.VirtualHost:
        """Name, domains, and routes with delegation and option inheritance resolved; read anew each time.

        Each route's ``metadata_static.sources`` names the objects it came from, the innermost last; what is wrong with
        a route is reported on that one.
        """
        return proxy_pb2.VirtualHost.FromString(self.packed)

    def with_message(self, message: proxy_pb2.VirtualHost) -> "VirtualHost":
        """The same with another message."""
        return replace(self, **_packed(message))

    @classmethod
    def of(cls, source: ObjectRef, message: proxy_pb2.VirtualHost, **rest: Any) -> Self:
        """A virtual host from its message."""
        return cls(source, **_packed(message), **rest)

    def report_route(self, index: int, finding: Finding) -> Problems:
        """A finding on a route (path relative to it) as problems: on the object at fault and on the virtual service.

        The virtual service on top is told of what is wrong below it (the contract's section 3.5).
        """
        origin = self.origins[index]
        source, path = origin.place(finding.path)
        problem = Problem(finding.severity, source, path, finding.message, finding.closed)
        if source == self.source:
            return (problem,)
        below = f"sub route table {source.ref}" if source == origin.source else str(source)
        text = f"on {below}: {problem}"
        return problem, Problem(finding.severity, self.source, origin.via or origin.path, text, finding.closed)

    def report_host(self, finding: Finding) -> Problems:
        """A finding on the virtual host (path relative to it: ``options.retries``) as problems."""
        written = _written_at(self.options, finding.path)
        if written is None:
            return (finding.on(self.source, "virtualHost"),)
        problem = Problem(finding.severity, *written, finding.message, finding.closed)
        return problem, Problem(
            finding.severity, self.source, "virtualHost", f"on {written[0]}: {problem}", finding.closed
        )


def _packed(message: proxy_pb2.VirtualHost) -> dict[str, Any]:
    packed = message.SerializeToString(deterministic=True)
    return {"name": message.name, "domains": tuple(message.domains), "packed": packed}


@dataclass(frozen=True, slots=True, eq=False)
class HttpGroup:
    """Virtual hosts that share a RouteConfiguration and HTTP options: one filter chain for each TLS configuration."""

    source: ObjectRef
    route_config: str
    options: http_listener_options_pb2.HttpListenerOptions
    virtual_hosts: tuple[VirtualHost, ...]
    ssl: tuple[tuple[ssl_pb2.SslConfig, tuple[ObjectRef, ...]], ...] = ()
    """Each TLS configuration with the virtual services that ask for it; empty for plain text."""
    matcher: proxy_pb2.Matcher | None = None
    path: str = "httpGateway"
    """Where the group stands in its source: ``httpGateway`` or ``hybridGateway.matchedGateways[1].httpGateway``."""
    stat_prefix: str = ""
    """Of Envoy's statistics, if a stored Proxy says it."""


@dataclass(frozen=True, slots=True, eq=False)
class TcpGroup:
    """TCP hosts: one filter chain for each."""

    source: ObjectRef
    hosts: tuple[proxy_pb2.TcpHost, ...]
    options: tcp_listener_options_pb2.TcpListenerOptions
    matcher: proxy_pb2.Matcher | None = None
    path: str = "tcpGateway"
    places: tuple[int, ...] = ()
    """For each host its place among those that were written: ``tcpHosts[2]``."""
    stat_prefix: str = ""
    """As in ``HttpGroup``."""


@dataclass(frozen=True, slots=True, eq=False)
class Listener:
    """One Gateway's address and port in one proxy."""

    source: ObjectRef
    name: str
    bind_address: str
    bind_port: int
    options: listener_options_pb2.ListenerOptions
    route_options: listener_options_pb2.RouteConfigurationOptions
    use_proxy_proto: bool
    http: tuple[HttpGroup, ...] = ()
    tcp: tuple[TcpGroup, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Proxy:
    """All listeners of one Envoy fleet, sorted by name; its xDS key is the role ``<namespace>~<name>``."""

    ref: Ref
    listeners: tuple[Listener, ...] = field(default=())

    @property
    def role(self) -> str:
        """What Envoy says of itself in ``node.metadata.role``."""
        return f"{self.ref.namespace}~{self.ref.name}"
