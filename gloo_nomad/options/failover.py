"""Other places for when too few hosts of an upstream are healthy: priorities, and localities in each of them.

https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/priority
"""

from collections.abc import Iterator
from typing import Any, Final

from gloo_nomad.acceptance.names import address_fault, is_ip_address
from gloo_nomad.acceptance.values import duration_fault
from gloo_nomad.api.gen import failover_pb2, settings_pb2, upstream_pb2
from gloo_nomad.options.hooks import EVERY, Claims, ClusterContext
from gloo_nomad.reports import Finding, Findings, error, is_rejected, warning

_ENDPOINT: Final = "gloo.solo.io.LbEndpoint"
FIELDS: Claims = {
    "gloo.solo.io.Upstream": ("failover",),
    "gloo.solo.io.GlooOptions": ("failover_upstream_dns_polling_interval",),
}
READS: Claims = {
    "gloo.solo.io.Failover": EVERY,
    "gloo.solo.io.Failover.PrioritizedLocality": EVERY,
    "gloo.solo.io.Failover.Policy": EVERY,
    "gloo.solo.io.LocalityLbEndpoints": EVERY,
    "gloo.solo.io.Locality": EVERY,
    _ENDPOINT: EVERY,
    f"{_ENDPOINT}.HealthCheckConfig": ("port_value", "hostname"),
}
_ONE_CHECK: Final = "Envoy checks all hosts of an upstream alike; write it into `healthChecks` of the Upstream"
WARNED: Final = {f"{_ENDPOINT}.HealthCheckConfig": {"path": _ONE_CHECK, "method": _ONE_CHECK}}

MAX_PRIORITIES: Final = 128
"""Envoy's bound."""
_LEAST_NANOSECONDS: Final = 1_000_000
_SOCKET_METADATA: Final = "envoy.transport_socket_match"
_MARK: Final = "failover"

Place = tuple[int, int, int]
"""Priority, locality and endpoint, by their positions."""


def apply_cluster(upstream: upstream_pb2.Upstream, out: Any, context: ClusterContext) -> Findings:
    if not upstream.HasField("failover"):
        return ()
    findings = [*_check(upstream, out)]
    if is_rejected(findings):
        return findings
    if out.type != out.EDS:
        _resolve_names(upstream.failover, out)
        findings += _apply_polling(context.settings, out)
        apply_endpoints(upstream, out.load_assignment)
    return [*findings, *_apply_sockets(upstream.failover, out, context)]


def apply_endpoints(upstream: upstream_pb2.Upstream, out: Any) -> None:
    """The places behind the upstream's own hosts, each priority below the one before.

    Endpoints that are served apart have no names: those are left out.
    """
    if not upstream.HasField("failover"):
        return
    policy, named = upstream.failover.policy, upstream.WhichOneof("upstream_type") == "static"
    if policy.HasField("overprovisioning_factor"):
        out.policy.overprovisioning_factor.value = policy.overprovisioning_factor.value
    last = max((group.priority for group in out.endpoints), default=0)
    for priority, prioritized in enumerate(upstream.failover.prioritized_localities):
        for index, locality in enumerate(prioritized.locality_endpoints):
            _apply_locality(locality, (priority, index), out.endpoints.add(priority=last + priority + 1), named=named)


def _endpoints(failover: failover_pb2.Failover) -> Iterator[tuple[Place, failover_pb2.LbEndpoint]]:
    for priority, prioritized in enumerate(failover.prioritized_localities):
        for index, locality in enumerate(prioritized.locality_endpoints):
            for number, endpoint in enumerate(locality.lb_endpoints):
                yield (priority, index, number), endpoint


def _path(place: Place) -> str:
    priority, locality, endpoint = place
    return f"failover.prioritizedLocalities[{priority}].localityEndpoints[{locality}].lbEndpoints[{endpoint}]"


def _check(upstream: upstream_pb2.Upstream, out: Any) -> Iterator[Finding]:
    failover = upstream.failover
    if not upstream.health_checks and not upstream.HasField("outlier_detection"):
        text = "without healthChecks or outlierDetection every host counts as healthy, and only having none counts"
        yield warning("failover", text)
    if len(failover.prioritized_localities) >= MAX_PRIORITIES:
        yield error("failover.prioritizedLocalities", f"must be less than {MAX_PRIORITIES}")
    policy = failover.policy
    if policy.HasField("overprovisioning_factor") and not policy.overprovisioning_factor.value:
        yield error("failover.policy.overprovisioningFactor", "must be above 0; 140 is usual")
    for priority, prioritized in enumerate(failover.prioritized_localities):
        yield from _check_localities(prioritized, f"failover.prioritizedLocalities[{priority}]")
    for place, endpoint in _endpoints(failover):
        yield from _check_endpoint(endpoint, _path(place))
        if address_fault(endpoint.address) or is_ip_address(endpoint.address) or out.type in _named(out):
            continue
        yield warning(f"{_path(place)}.address", "is left out: beside such an upstream only IP addresses are possible")


def _named(out: Any) -> tuple[Any, ...]:
    """Types of clusters whose hosts may have names; a socket's may not, nor those that are served apart."""
    has_pipe = any(
        host.endpoint.address.HasField("pipe") for group in out.load_assignment.endpoints for host in group.lb_endpoints
    )
    return () if has_pipe else (out.STATIC, out.STRICT_DNS)


def _check_localities(prioritized: failover_pb2.Failover.PrioritizedLocality, path: str) -> Iterator[Finding]:
    if not prioritized.locality_endpoints:
        yield error(f"{path}.localityEndpoints", "is empty: name at least one place")
    seen: set[tuple[str, str, str]] = set()
    for index, locality in enumerate(prioritized.locality_endpoints):
        here = f"{path}.localityEndpoints[{index}]"
        name = (locality.locality.region, locality.locality.zone, locality.locality.sub_zone)
        if name in seen:
            yield error(f"{here}.locality", "is named twice in one priority; put all its endpoints together")
        seen.add(name)
        if not locality.lb_endpoints:
            yield error(f"{here}.lbEndpoints", "is empty: name at least one endpoint with address and port")
        if locality.HasField("load_balancing_weight") and not locality.load_balancing_weight.value:
            yield error(f"{here}.loadBalancingWeight", "must be at least 1; leave the place out to send it nothing")


def _check_endpoint(endpoint: failover_pb2.LbEndpoint, path: str) -> Iterator[Finding]:
    if fault := address_fault(endpoint.address):
        yield error(f"{path}.address", fault)
    if not 1 <= endpoint.port <= 65535:
        yield error(f"{path}.port", f"{endpoint.port} is no port; it must be between 1 and 65535")
    if endpoint.HasField("load_balancing_weight") and not endpoint.load_balancing_weight.value:
        yield error(f"{path}.loadBalancingWeight", "must be at least 1; leave the endpoint out to send it nothing")
    if endpoint.health_check_config.port_value > 65535:
        yield error(f"{path}.healthCheckConfig.portValue", "is no port; it must be at most 65535")


def _resolve_names(failover: failover_pb2.Failover, out: Any) -> None:
    """One name among the endpoints makes Envoy look up all of them."""
    named = any(not is_ip_address(endpoint.address) for _, endpoint in _endpoints(failover))
    if named and out.type == out.STATIC and _named(out):
        out.type = "STRICT_DNS"
        out.dns_lookup_family = "V4_PREFERRED"


def _apply_polling(settings: settings_pb2.Settings, out: Any) -> Iterator[Finding]:
    """How often names are looked up; ``dnsRefreshRate`` of the Upstream, which is applied later, wins."""
    if out.type != out.STRICT_DNS or not settings.gloo.HasField("failover_upstream_dns_polling_interval"):
        return
    interval = settings.gloo.failover_upstream_dns_polling_interval
    if duration_fault(interval) or interval.ToNanoseconds() < _LEAST_NANOSECONDS:
        text = "Settings.gloo.failoverUpstreamDnsPollingInterval: must be 0.001s at least, and not too long for Envoy"
        yield warning("failover", text)
        return
    out.dns_refresh_rate.CopyFrom(interval)


def _apply_locality(
    locality: failover_pb2.LocalityLbEndpoints, where: tuple[int, int], out: Any, *, named: bool
) -> None:
    if locality.HasField("locality"):
        place = locality.locality
        out.locality.region, out.locality.zone, out.locality.sub_zone = place.region, place.zone, place.sub_zone
    if locality.HasField("load_balancing_weight"):
        out.load_balancing_weight.value = locality.load_balancing_weight.value
    for number, endpoint in enumerate(locality.lb_endpoints):
        if named or is_ip_address(endpoint.address):
            _apply_endpoint(endpoint, (*where, number), out.lb_endpoints.add())


def _apply_endpoint(endpoint: failover_pb2.LbEndpoint, place: Place, out: Any) -> None:
    address = out.endpoint.address.socket_address
    address.address, address.port_value = endpoint.address, endpoint.port
    out.endpoint.hostname = endpoint.address
    check = endpoint.health_check_config
    if check.port_value:
        out.endpoint.health_check_config.port_value = check.port_value
    if check.hostname:
        out.endpoint.health_check_config.hostname = check.hostname
    if endpoint.HasField("load_balancing_weight"):
        out.load_balancing_weight.value = endpoint.load_balancing_weight.value
    for namespace in sorted(endpoint.metadata):
        out.metadata.filter_metadata[namespace].CopyFrom(endpoint.metadata[namespace])
    if endpoint.HasField("upstream_ssl_config"):
        out.metadata.filter_metadata[_SOCKET_METADATA].update({_MARK: _mark(place)})


def _mark(place: Place) -> str:
    return "-".join(map(str, place))


def _apply_sockets(failover: failover_pb2.Failover, out: Any, context: ClusterContext) -> Iterator[Finding]:
    """TLS of its own for each endpoint that asks for it; the others have what the upstream has."""
    for place, endpoint in _endpoints(failover):
        if not endpoint.HasField("upstream_ssl_config"):
            continue
        config = endpoint.upstream_ssl_config
        name = config.sni or ("" if is_ip_address(endpoint.address) else endpoint.address)
        socket, said = context.build_socket(config, name)
        yield from (finding.under(f"{_path(place)}.upstreamSslConfig") for finding in said)
        match = out.transport_socket_matches.add(name=f"{_MARK}-{_mark(place)}")
        match.match.update({_MARK: _mark(place)})
        match.transport_socket.CopyFrom(socket)
