"""Forwards to whatever host a request names: the gateway's resolver of names, a cluster of its own, and routes to it.

It reaches all that Envoy can reach, its own admin interface included: give it to strangers only behind authorisation.
https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/http/http_proxy
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.clusters.dynamic_forward_proxy.v3 import cluster_pb2 as forward_cluster_pb2
from envoy.extensions.common.dynamic_forward_proxy.v3 import dns_cache_pb2
from envoy.extensions.filters.http.dynamic_forward_proxy.v3 import dynamic_forward_proxy_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.network.dns_resolver.cares.v3 import cares_dns_resolver_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2

from gloo_nomad.acceptance.headers import name_fault
from gloo_nomad.acceptance.names import address_fault, is_ip_address
from gloo_nomad.acceptance.quoting import quote
from gloo_nomad.api.gen import dfp_pb2, envoy_core_pb2
from gloo_nomad.messages import duration, to_bytes, typed_config, version_of
from gloo_nomad.options.guards import field_path, refuse_breaches, refuse_durations, refuse_enum
from gloo_nomad.options.hooks import EVERY, Claims, GeneratedCluster, ListenerContext, RouteContext
from gloo_nomad.options.stages import Stage, StagedFilter
from gloo_nomad.reports import Finding, Findings, error, is_rejected

FILTER: Final = "envoy.filters.http.dynamic_forward_proxy"

_DFP: Final = "dfp.options.gloo.solo.io"
_SOCKET_FIELDS: Final = ("address", "port_value", "protocol", "resolver_name", "ipv4_compat")
FIELDS: Claims = {
    "gloo.solo.io.HttpListenerOptions": ("dynamic_forward_proxy",),
    "gloo.solo.io.RouteAction": ("dynamic_forward_proxy",),
    f"{_DFP}.FilterConfig": EVERY,
    f"{_DFP}.PerRouteConfig": EVERY,
    f"{_DFP}.DnsCacheConfig": (
        "cares_dns",
        "dns_cache_circuit_breaker",
        "dns_failure_refresh_rate",
        "dns_lookup_family",
        "dns_query_timeout",
        "dns_refresh_rate",
        "host_ttl",
        "max_hosts",
        "preresolve_hostnames",
    ),
    f"{_DFP}.CaresDnsResolverConfig": EVERY,
    f"{_DFP}.DnsCacheCircuitBreakers": EVERY,
    f"{_DFP}.DnsResolverOptions": EVERY,
    f"{_DFP}.RefreshRate": EVERY,
}
READS: Claims = {
    "gloo.solo.io.CircuitBreakerConfig": EVERY,
    "solo.io.envoy.config.core.v3.Address": ("socket_address",),
    "solo.io.envoy.config.core.v3.SocketAddress": _SOCKET_FIELDS,
}
REFUSED: Claims = {
    f"{_DFP}.DnsCacheConfig": ("apple_dns",),
    "solo.io.envoy.config.core.v3.Address": ("pipe",),
    "solo.io.envoy.config.core.v3.SocketAddress": ("named_port",),
}
ROUTES_READ: Final = ("dynamic_forward_proxy",)

PREFIX: Final = "solo_io_generated_dfp:"
CONNECT_SECONDS: Final = 5
BUFFER_BYTES: Final = 32_768
"""As for all clusters, by Envoy's best practices for the edge."""
_PATH: Final = "dynamicForwardProxy"
_ADDRESS_RESOLVER: Final = "envoy.ip"
"""The only one that Envoy has for IP addresses, by its name."""
_CARES: Final = "envoy.network.dns_resolver.cares"
_PROTOCOL_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_LIMITS: Final = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
_DEFAULT_MAX_HOSTS: Final = 1024


def http_filters(context: ListenerContext) -> Iterable[StagedFilter | Finding]:
    if not context.options.HasField("dynamic_forward_proxy"):
        return
    wanted = context.options.dynamic_forward_proxy
    findings = [*_check(wanted)]
    yield from findings
    if not is_rejected(findings):
        config = dynamic_forward_proxy_pb2.FilterConfig(
            dns_cache_config=_build_cache(wanted), save_upstream_address=wanted.save_upstream_address
        )
        built = http_connection_manager_pb2.HttpFilter(name=FILTER, typed_config=typed_config(config))
        yield StagedFilter(Stage.OUT_AUTH, built)


def extra_clusters(context: ListenerContext) -> Iterable[GeneratedCluster | Finding]:
    if not context.options.HasField("dynamic_forward_proxy"):
        return
    wanted = context.options.dynamic_forward_proxy
    if is_rejected(_check(wanted)):
        return
    cluster = _build_cluster(wanted)
    breakers = (
        wanted.circuit_breakers if wanted.HasField("circuit_breakers") else context.settings.gloo.circuit_breakers
    )
    if any(breakers.HasField(name) for name in _LIMITS) or breakers.track_remaining:
        thresholds = cluster.circuit_breakers.thresholds.add(track_remaining=breakers.track_remaining)
        for name in _LIMITS:
            if breakers.HasField(name):
                getattr(thresholds, name).value = getattr(breakers, name).value
    yield GeneratedCluster(cluster, wanted.ssl_config if wanted.HasField("ssl_config") else None, path=_PATH)


def apply_forward_proxy(wanted: dfp_pb2.PerRouteConfig, out: Any, context: RouteContext) -> Findings:
    if not context.listener.HasField("dynamic_forward_proxy"):
        return [error("", "needs httpGateway.options.dynamicForwardProxy on every Gateway that serves this route")]
    out.route.cluster = _cluster_name(context.listener.dynamic_forward_proxy)
    config = dynamic_forward_proxy_pb2.PerRouteConfig()
    match wanted.WhichOneof("host_rewrite_specifier"):
        case "host_rewrite":
            config.host_rewrite_literal = wanted.host_rewrite
            if fault := _host_fault(wanted.host_rewrite):
                return [error("hostRewrite", fault)]
        case "auto_host_rewrite_header":
            config.host_rewrite_header = wanted.auto_host_rewrite_header
            if fault := name_fault(wanted.auto_host_rewrite_header):
                return [error("autoHostRewriteHeader", fault)]
        case _:
            return ()
    out.typed_per_filter_config[FILTER].CopyFrom(typed_config(config))
    return ()


def _host_fault(host: str) -> str:
    """Why *host*, perhaps with a port, is no host to connect to, or ""."""
    name, colon, port = host.rpartition(":")
    if colon and port.isascii() and port.isdigit() and "]" not in port and not is_ip_address(host):
        return address_fault(name.removeprefix("[").removesuffix("]")) or _port_fault(int(port))
    return address_fault(host)


def _port_fault(port: int) -> str:
    return "" if 1 <= port <= 65535 else f"{port} is no port; it must be between 1 and 65535"


def _check(wanted: dfp_pb2.FilterConfig) -> Iterator[Finding]:
    cache, path = wanted.dns_cache_config, f"{_PATH}.dnsCacheConfig"
    findings = [*refuse_enum(cache, "dns_lookup_family", path)]
    durations = ("dns_refresh_rate", "host_ttl", "dns_query_timeout")
    findings += refuse_durations(cache, durations, path)
    findings += _check_failure_rate(cache.dns_failure_refresh_rate, f"{path}.dnsFailureRefreshRate")
    hosts = cache.max_hosts.value if cache.HasField("max_hosts") else _DEFAULT_MAX_HOSTS
    if not hosts:
        findings.append(error(f"{path}.maxHosts", "must be at least 1"))
    if len(cache.preresolve_hostnames) > hosts:
        findings.append(error(f"{path}.preresolveHostnames", f"has more entries than maxHosts, which is {hosts}"))
    for index, address in enumerate(cache.preresolve_hostnames):
        findings += _check_address(address, f"{path}.preresolveHostnames[{index}]")
    if cache.HasField("apple_dns"):
        text = (
            "Envoy has the resolver of Apple's systems on these only; leave it out for the usual one, or use caresDns"
        )
        findings.append(error(f"{path}.appleDns", text))
    for index, resolver in enumerate(cache.cares_dns.resolvers):
        findings += _check_resolver(resolver, f"{path}.caresDns.resolvers[{index}]")
    yield from findings
    if not is_rejected(findings):
        written = {name: field_path(cache, name) for name in ("dns_refresh_rate", "host_ttl")}
        yield from refuse_breaches(_build_cache(wanted), path, written=written)


def _check_failure_rate(rate: dfp_pb2.RefreshRate, path: str) -> Iterator[Finding]:
    yield from refuse_durations(rate, ("base_interval", "max_interval"), path)
    if rate.HasField("base_interval") and rate.base_interval.ToNanoseconds() < 1_000_000:
        yield error(f"{path}.baseInterval", "must be at least 1ms")
    if rate.HasField("max_interval") and _seconds(rate.max_interval) < _seconds(_base_interval(rate)):
        yield error(f"{path}.maxInterval", "must not be less than baseInterval, which is 2s if unset")


def _check_address(address: envoy_core_pb2.SocketAddress, path: str) -> Iterator[Finding]:
    if fault := address_fault(address.address):
        yield error(f"{path}.address", fault)
    yield from _check_socket(address, path)


def _check_socket(address: envoy_core_pb2.SocketAddress, path: str) -> Iterator[Finding]:
    if address.HasField("named_port"):
        yield error(f"{path}.namedPort", "means nothing to Envoy, which has no names of ports; write portValue")
    elif fault := _port_fault(address.port_value):
        yield error(f"{path}.portValue", fault)
    if address.resolver_name not in {"", _ADDRESS_RESOLVER}:
        text = f"is not known to Envoy; leave it out, or write {_ADDRESS_RESOLVER}, which is the same"
        yield error(f"{path}.resolverName", text)
    yield from refuse_enum(address, "protocol", path)


def _check_resolver(resolver: envoy_core_pb2.Address, path: str) -> Iterator[Finding]:
    if not resolver.HasField("socket_address"):
        yield error(path, "must be a socketAddress: the IP address and port of a name server")
        return
    if not is_ip_address(resolver.socket_address.address):
        yield error(f"{path}.socketAddress.address", f"{quote(resolver.socket_address.address)} is no IP address")
    yield from _check_socket(resolver.socket_address, f"{path}.socketAddress")


def _cluster_name(wanted: dfp_pb2.FilterConfig) -> str:
    """The same for the same options, so that gateways share a cluster and its resolved names."""
    return PREFIX + version_of(to_bytes(wanted))


def _build_cache(wanted: dfp_pb2.FilterConfig) -> Any:
    """Envoy's DnsCacheConfig; Envoy refuses filters and clusters that share its name and not its content."""
    cache = wanted.dns_cache_config
    built = dns_cache_pb2.DnsCacheConfig(name=_cluster_name(wanted))
    built.dns_lookup_family = dfp_pb2.DnsLookupFamily.Name(cache.dns_lookup_family)
    for name in ("dns_refresh_rate", "host_ttl", "max_hosts", "dns_query_timeout"):
        if cache.HasField(name):
            getattr(built, name).CopyFrom(getattr(cache, name))
    if cache.HasField("dns_failure_refresh_rate"):
        rate = cache.dns_failure_refresh_rate
        built.dns_failure_refresh_rate.base_interval.CopyFrom(_base_interval(rate))
        if rate.HasField("max_interval"):
            built.dns_failure_refresh_rate.max_interval.CopyFrom(rate.max_interval)
    if cache.dns_cache_circuit_breaker.HasField("max_pending_requests"):
        limit = cache.dns_cache_circuit_breaker.max_pending_requests
        built.dns_cache_circuit_breaker.max_pending_requests.CopyFrom(limit)
    for address in cache.preresolve_hostnames:
        _copy_socket(address, built.preresolve_hostnames.add())
    if cache.HasField("cares_dns"):
        built.typed_dns_resolver_config.name = _CARES
        built.typed_dns_resolver_config.typed_config.CopyFrom(typed_config(_build_resolver(cache.cares_dns)))
    return built


def _build_resolver(wanted: dfp_pb2.CaresDnsResolverConfig) -> Any:
    built = cares_dns_resolver_pb2.CaresDnsResolverConfig()
    for resolver in wanted.resolvers:
        _copy_socket(resolver.socket_address, built.resolvers.add().socket_address)
    built.dns_resolver_options.use_tcp_for_dns_lookups = wanted.dns_resolver_options.use_tcp_for_dns_lookups
    built.dns_resolver_options.no_default_search_domain = wanted.dns_resolver_options.no_default_search_domain
    return built


def _copy_socket(address: envoy_core_pb2.SocketAddress, out: Any) -> None:
    for name in _SOCKET_FIELDS:
        setattr(out, name, getattr(address, name))


def _base_interval(rate: dfp_pb2.RefreshRate) -> Any:
    return rate.base_interval if rate.HasField("base_interval") else duration(2)


def _seconds(value: Any) -> float:
    return float(value.seconds + value.nanos / 1e9)


def _build_cluster(wanted: dfp_pb2.FilterConfig) -> Any:
    config = forward_cluster_pb2.ClusterConfig(dns_cache_config=_build_cache(wanted))
    cluster = cluster_pb2.Cluster(name=_cluster_name(wanted), lb_policy=cluster_pb2.Cluster.CLUSTER_PROVIDED)
    cluster.connect_timeout.CopyFrom(duration(CONNECT_SECONDS))
    cluster.per_connection_buffer_limit_bytes.value = BUFFER_BYTES
    if wanted.HasField("ssl_config") and wanted.ssl_config.WhichOneof("ssl_secrets") is None:
        # Without root certificates nothing can be verified; the server is told which host is meant all the same.
        config.allow_insecure_cluster_options = True
        options = http_protocol_options_pb2.HttpProtocolOptions()
        options.upstream_http_protocol_options.auto_sni = True
        options.explicit_http_config.http_protocol_options.SetInParent()
        cluster.typed_extension_protocol_options[_PROTOCOL_OPTIONS].CopyFrom(typed_config(options))
    cluster.cluster_type.name = "envoy.clusters.dynamic_forward_proxy"
    cluster.cluster_type.typed_config.CopyFrom(typed_config(config))
    return cluster
