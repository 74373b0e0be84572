"""How often the names of hosts are looked up.

https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/service_discovery#strict-dns
"""

from collections.abc import Iterator
from typing import Any, Final

from gloo_nomad.acceptance.values import duration_fault
from gloo_nomad.api.gen import upstream_pb2
from gloo_nomad.options.hooks import Claims, ClusterContext
from gloo_nomad.reports import Finding, Findings, error, is_rejected, warning

FIELDS: Claims = {"gloo.solo.io.Upstream": ("dns_refresh_rate", "respect_dns_ttl")}

_NOT_BY_NAME: Final = "only works for hosts by name, and this upstream has none that Envoy looks up; remove it"
_SHORTEST_NANOSECONDS: Final = 1_000_000
"""Envoy wants more than one millisecond."""


def apply_cluster(upstream: upstream_pb2.Upstream, out: Any, context: ClusterContext) -> Findings:
    if not upstream.HasField("dns_refresh_rate") and not upstream.HasField("respect_dns_ttl"):
        return ()
    findings = [*_check(upstream, out)]
    if is_rejected(findings):
        return findings
    if upstream.HasField("dns_refresh_rate") and not findings:
        out.dns_refresh_rate.CopyFrom(upstream.dns_refresh_rate)
    if upstream.HasField("respect_dns_ttl"):
        out.respect_dns_ttl = upstream.respect_dns_ttl.value
    return findings


def _check(upstream: upstream_pb2.Upstream, out: Any) -> Iterator[Finding]:
    by_name = out.type in (out.STRICT_DNS, out.LOGICAL_DNS)
    if upstream.HasField("respect_dns_ttl") and not by_name:
        yield error("respectDnsTtl", _NOT_BY_NAME)
    if not upstream.HasField("dns_refresh_rate"):
        return
    if not by_name:
        yield error("dnsRefreshRate", _NOT_BY_NAME)
    elif fault := duration_fault(upstream.dns_refresh_rate):
        yield error("dnsRefreshRate", fault)
    elif upstream.dns_refresh_rate.ToNanoseconds() <= _SHORTEST_NANOSECONDS:
        yield warning("dnsRefreshRate", "is not used: it must be longer than 1ms; names are looked up every 5s")
