"""What the gateway stage hands to the envoy stage: proxies as frozen values.

A ``gloo.solo.io.Proxy`` message copies whatever is put into it, which would lose the identity that incremental
translation lives on. So a proxy is a tree of values here, whose leaves are messages of the contract.
"""

from dataclasses import dataclass, field
from typing import Final

from gloo_nomad.api.gen import (
    http_listener_options_pb2,
    listener_options_pb2,
    proxy_pb2,
    ssl_pb2,
    tcp_listener_options_pb2,
)
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.reports import Problems

NO_PROBLEMS: Final[Problems] = ()


@dataclass(frozen=True, slots=True, eq=False)
class VirtualHost:
    """One virtual host, made from one VirtualService and the route tables it delegates to."""

    source: ObjectRef
    message: proxy_pb2.VirtualHost
    """Name ``<namespace>.<name>``, domains, and routes with delegation and option inheritance resolved.

    Each route's ``metadata_static.sources`` names the objects it came from, the innermost last; what is wrong with a
    route is reported on that one.
    """
    paths: tuple[str, ...] = ()
    """For each route its path in the object that it came from: ``virtualHost.routes[2]`` or ``routes[0]``."""
    ssl: ssl_pb2.SslConfig | None = None


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


@dataclass(frozen=True, slots=True, eq=False)
class TcpGroup:
    """TCP hosts: one filter chain for each."""

    source: ObjectRef
    hosts: tuple[proxy_pb2.TcpHost, ...]
    options: tcp_listener_options_pb2.TcpListenerOptions
    matcher: proxy_pb2.Matcher | None = None
    path: str = "tcpGateway"


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
