"""Upstreams that are reached through an HTTP proxy: ``httpProxyHostname`` asks it for a tunnel by CONNECT.

Envoy opens tunnels in its TCP proxy only, so a request goes through Envoy twice. The cluster keeps its name, TLS and
version of HTTP, and has one endpoint: a listener of Envoy's own, on an abstract Unix socket, whose TCP proxy asks the
hosts of the upstream, which are in a second cluster. An internal listener would do without the socket, but it has to be
switched on in the bootstrap, which is the user's.
https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/http/upgrades#tunneling-tcp-over-http
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2

from gloo_nomad.acceptance.formats import format_fault
from gloo_nomad.acceptance.headers import change_fault, value_fault
from gloo_nomad.acceptance.names import is_ip_address
from gloo_nomad.acceptance.quoting import quote
from gloo_nomad.api.gen import upstream_pb2
from gloo_nomad.envoy.names import TCP_PROXY, hidden_cluster_name, tunnel_listener_name
from gloo_nomad.messages import to_bytes, typed_config, version_of
from gloo_nomad.options.guards import refuse_breaches
from gloo_nomad.options.hooks import EVERY, Claims, ClusterContext
from gloo_nomad.reports import Finding, error, is_rejected, warning

FIELDS: Claims = {
    "gloo.solo.io.Upstream": ("http_proxy_hostname", "http_connect_headers", "http_connect_ssl_config"),
}
READS: Claims = {"gloo.solo.io.HeaderValue": EVERY}

MAX_SOCKET_BYTES: Final = 107
"""Longer names are replaced by their hash (unix(7))."""
MAX_HEADERS: Final = 1000
_VERSION_CHARACTERS: Final = 8
_STAT_PREFIX: Final = "tunnel"
_KEPT: Final = (
    "name",
    "connect_timeout",
    "per_connection_buffer_limit_bytes",
    "circuit_breakers",
    "typed_extension_protocol_options",
    "transport_socket",
)
"""What concerns the service at the other end of the tunnel; the rest concerns the proxy."""


class Tunnel(NamedTuple):
    """What is served beside the cluster of a tunnelled upstream."""

    cluster: Any
    """Envoy's Cluster of the proxy."""
    listener: Any


def is_tunnelled(upstream: upstream_pb2.Upstream) -> bool:
    """Whether the hosts of an upstream are a proxy."""
    return bool(upstream.http_proxy_hostname.value)


def tunnel_server_names(upstream: upstream_pb2.Upstream) -> tuple[str, ...]:
    """The name that TLS through the tunnel sends: that of the service, never that of the proxy's hosts."""
    if not is_tunnelled(upstream):
        return ()
    host = upstream.http_proxy_hostname.value.rpartition(":")[0]
    return (upstream.ssl_config.sni or ("" if is_ip_address(host.strip("[]")) or "%" in host else host),)


def split_tunnel(
    upstream: upstream_pb2.Upstream, out: Any, context: ClusterContext
) -> tuple[Tunnel | None, list[Finding]]:
    """Turns a finished cluster into one that leads into a tunnel; the rest of it, and what is wrong."""
    findings = [*_check(upstream)]
    if not is_tunnelled(upstream):
        return None, findings
    proxy = _build_proxy(upstream, out.name)
    path = _socket_name(out.name, proxy)
    hidden = _split_cluster(out, path)
    if upstream.HasField("http_connect_ssl_config"):
        config = upstream.http_connect_ssl_config
        socket, said = context.build_socket(config, config.sni)
        findings += [finding.under("httpConnectSslConfig") for finding in said]
        hidden.transport_socket.CopyFrom(socket)
    listener = listener_pb2.Listener(name=tunnel_listener_name(out.name))
    listener.address.pipe.path = path
    listener.per_connection_buffer_limit_bytes.CopyFrom(out.per_connection_buffer_limit_bytes)
    listener.filter_chains.add().filters.add(name=TCP_PROXY, typed_config=typed_config(proxy))
    if not is_rejected(findings):
        findings += [*refuse_breaches(hidden, ""), *refuse_breaches(proxy, "")]
    return Tunnel(hidden, listener), findings


def _check(upstream: upstream_pb2.Upstream) -> Iterator[Finding]:
    target = upstream.http_proxy_hostname.value
    if not is_tunnelled(upstream):
        for name, written in _without_effect(upstream):
            if written:
                yield warning(name, "has no effect without httpProxyHostname")
        return
    if fault := value_fault(target) or format_fault(target):
        yield error("httpProxyHostname", fault.replace("value of the header", "name"))
    elif " " in target:
        yield error("httpProxyHostname", f"{quote(target)} is no name of a host")
    elif not target.rpartition(":")[2].isdecimal() and "%" not in target:
        yield warning("httpProxyHostname", f"{quote(target)} has no port; most proxies want one, as in host:443")
    if len(upstream.http_connect_headers) > MAX_HEADERS:
        yield error("httpConnectHeaders", f"may have at most {MAX_HEADERS} entries")
        return
    yield from _check_headers(upstream.http_connect_headers)


def _without_effect(upstream: upstream_pb2.Upstream) -> tuple[tuple[str, bool], ...]:
    return (
        ("httpConnectHeaders", bool(upstream.http_connect_headers)),
        ("httpConnectSslConfig", upstream.HasField("http_connect_ssl_config")),
    )


def _check_headers(headers: Iterable[upstream_pb2.HeaderValue]) -> Iterator[Finding]:
    for index, header in enumerate(headers):
        path = f"httpConnectHeaders[{index}]"
        if fault := change_fault(header.key):
            yield error(f"{path}.key", fault)
        if fault := value_fault(header.value) or format_fault(header.value):
            yield error(f"{path}.value", fault)


def _split_cluster(out: Any, path: str) -> Any:
    """The proxy's cluster; *out* keeps what concerns the service, and leads to the socket."""
    hidden = cluster_pb2.Cluster()
    hidden.CopyFrom(out)
    hidden.name = hidden_cluster_name(out.name)
    if hidden.type == hidden.EDS:
        hidden.eds_cluster_config.service_name = out.name
    for name in ("typed_extension_protocol_options", "transport_socket", "transport_socket_matches"):
        hidden.ClearField(name)
    for descriptor, _ in out.ListFields():
        if descriptor.name not in _KEPT:
            out.ClearField(descriptor.name)
    out.type = "STATIC"
    out.load_assignment.cluster_name = out.name
    endpoint = out.load_assignment.endpoints.add().lb_endpoints.add().endpoint
    endpoint.address.pipe.path = path
    return hidden


def _socket_name(cluster: str, proxy: Any) -> str:
    """An abstract socket: ``@`` stands for the NUL that it begins with.

    Another place has another socket: connections that are open would go on to the old one, and be used again.
    """
    version = version_of(to_bytes(proxy))
    path = f"@/{cluster}/{version[:_VERSION_CHARACTERS]}"
    return path if len(path.encode()) <= MAX_SOCKET_BYTES else f"@/{version}"


def _build_proxy(upstream: upstream_pb2.Upstream, cluster: str) -> Any:
    proxy = tcp_proxy_pb2.TcpProxy(stat_prefix=_STAT_PREFIX, cluster=hidden_cluster_name(cluster))
    proxy.tunneling_config.hostname = upstream.http_proxy_hostname.value
    for header in upstream.http_connect_headers:
        value = base_pb2.HeaderValue(key=header.key, value=header.value)
        proxy.tunneling_config.headers_to_add.add(
            header=value, append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
        )
    return proxy
