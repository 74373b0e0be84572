"""Upstream type ``static``: hosts by address or name.

All addresses: Envoy keeps them as they are. Any name: Envoy resolves all, again and again (STRICT_DNS).
TLS goes by ``useTls``, or by port 443 when that is not set; every host may have a server name of its own.
"""

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct

from gloo_nomad.acceptance.names import address_fault, is_ip_address, server_name_fault
from gloo_nomad.api.gen import static_pb2, upstream_pb2
from gloo_nomad.options.hooks import Claims, ClusterContext
from gloo_nomad.reports import Finding, error

TYPE: Final = "static"
FIELDS: Claims = {
    "gloo.solo.io.Upstream": ("static",),
    "static.options.gloo.solo.io.UpstreamSpec": ("hosts", "use_tls", "auto_sni_rewrite"),
    "static.options.gloo.solo.io.Host": ("addr", "port", "sni_addr", "load_balancing_weight", "metadata"),
}

_SOCKET_METADATA: Final = "envoy.transport_socket_match"
_HTTPS: Final = 443
_MAX_WEIGHT_SUM: Final = 0xFFFF_FFFF


def apply_type(upstream: upstream_pb2.Upstream, out: Any, context: ClusterContext) -> Iterator[Finding]:
    """Hosts onto a STATIC or STRICT_DNS cluster."""
    hosts = upstream.static.hosts
    if not hosts:
        yield error("static.hosts", "is empty: name at least one host with addr and port")
    out.type = "STRICT_DNS" if any(not is_ip_address(host.addr) for host in hosts) else "STATIC"
    if out.type == out.STRICT_DNS:
        has_ipv6 = any(":" in host.addr for host in hosts)
        out.dns_lookup_family = "V4_PREFERRED" if has_ipv6 else "V4_ONLY"
    out.load_assignment.cluster_name = out.name
    locality = out.load_assignment.endpoints.add()
    several_names = len(server_names(upstream)) > 1
    for index, host in enumerate(hosts):
        yield from _host_findings(host, f"static.hosts[{index}]")
        endpoint = locality.lb_endpoints.add()
        _apply_host(host, endpoint)
        if several_names:
            _mark_socket(endpoint, _server_name(upstream, host))
    if sum(_weight(host) for host in hosts) > _MAX_WEIGHT_SUM:
        yield error("static.hosts", f"all loadBalancingWeight together exceed {_MAX_WEIGHT_SUM}")


def wants_tls(upstream: upstream_pb2.Upstream) -> bool:
    """``useTls``, or if it is not set, whether any host has port 443."""
    if upstream.static.HasField("use_tls"):
        return upstream.static.use_tls.value
    return any(host.port == _HTTPS for host in upstream.static.hosts)


def server_names(upstream: upstream_pb2.Upstream) -> tuple[str, ...]:
    """The distinct server names of the hosts, "" among them if some have none."""
    return tuple(sorted({_server_name(upstream, host) for host in upstream.static.hosts}))


def _server_name(upstream: upstream_pb2.Upstream, host: static_pb2.Host) -> str:
    """The host's own ``sniAddr``, else the upstream's ``sslConfig.sni``, else the host's name.

    The last one unless ``autoSniRewrite`` is off, and never an IP address: TLS has no server name for those
    (https://www.rfc-editor.org/rfc/rfc6066#section-3).
    """
    written = host.sni_addr or upstream.ssl_config.sni
    if written:
        return written
    spec = upstream.static
    rewrite = not spec.HasField("auto_sni_rewrite") or spec.auto_sni_rewrite.value
    return host.addr if rewrite and not is_ip_address(host.addr) else ""


def _apply_host(host: static_pb2.Host, out: Any) -> None:
    address = out.endpoint.address.socket_address
    address.address = host.addr
    address.port_value = host.port
    out.endpoint.hostname = host.addr
    out.endpoint.health_check_config.hostname = host.addr
    if host.HasField("load_balancing_weight"):
        out.load_balancing_weight.value = host.load_balancing_weight.value
    for namespace, values in host.metadata.items():
        out.metadata.filter_metadata[namespace].CopyFrom(values)


def _mark_socket(out: Any, server_name: str) -> None:
    marks = Struct()
    json_format.ParseDict({"sni": server_name}, marks)
    out.metadata.filter_metadata[_SOCKET_METADATA].CopyFrom(marks)


def _host_findings(host: static_pb2.Host, path: str) -> Iterator[Finding]:
    if fault := address_fault(host.addr):
        yield error(f"{path}.addr", fault)
    if not 1 <= host.port <= 65535:
        yield error(f"{path}.port", f"{host.port} is no port; it must be between 1 and 65535")
    if host.HasField("load_balancing_weight") and host.load_balancing_weight.value < 1:
        yield error(f"{path}.loadBalancingWeight", "must be at least 1; leave the host out to send it nothing")
    if fault := server_name_fault(host.sni_addr):
        yield error(f"{path}.sniAddr", fault)


def _weight(host: static_pb2.Host) -> int:
    return host.load_balancing_weight.value if host.HasField("load_balancing_weight") else 1
