"""Statistics of their own for kinds of requests: Envoy counts each request for the first kind that it is of.

https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/route/v3/route_components.proto#config-route-v3-virtualcluster
"""

from collections.abc import Iterator
from typing import Any, Final

from gloo_nomad.acceptance.quoting import quote
from gloo_nomad.acceptance.regexes import regex_fault
from gloo_nomad.api.gen import stats_pb2, virtual_host_options_pb2
from gloo_nomad.messages import regex_matcher
from gloo_nomad.options.hooks import EVERY, Claims, VirtualHostContext
from gloo_nomad.reports import Finding, Findings, error, is_rejected

FIELDS: Claims = {
    "gloo.solo.io.VirtualHostOptions": ("stats",),
    "stats.options.gloo.solo.io.Stats": EVERY,
    "stats.options.gloo.solo.io.VirtualCluster": EVERY,
}
METHODS: Final = ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE")


def apply_virtual_host(
    options: virtual_host_options_pb2.VirtualHostOptions, out: Any, context: VirtualHostContext
) -> Findings:
    if not options.HasField("stats"):
        return ()
    findings: list[Finding] = []
    for index, kind in enumerate(options.stats.virtual_clusters):
        findings += _check(kind, f"stats.virtualClusters[{index}]")
    if not is_rejected(findings):
        for kind in options.stats.virtual_clusters:
            _apply_kind(kind, out.virtual_clusters.add())
    return findings


def _check(kind: stats_pb2.VirtualCluster, path: str) -> Iterator[Finding]:
    if not kind.name or not kind.name.isprintable():
        yield error(f"{path}.name", "is required: a name for the statistics")
    if fault := regex_fault(kind.pattern):
        yield error(f"{path}.pattern", fault)
    if kind.method and kind.method.upper() not in METHODS:
        yield error(f"{path}.method", f"{quote(kind.method)} is no method; write one of {', '.join(METHODS)}")


def _apply_kind(kind: stats_pb2.VirtualCluster, out: Any) -> None:
    """A dot would split the name in Envoy's statistics."""
    out.name = kind.name.replace(".", "_")
    path = out.headers.add(name=":path")
    path.string_match.safe_regex.CopyFrom(regex_matcher(kind.pattern))
    if kind.method:
        method = out.headers.add(name=":method")
        method.string_match.exact = kind.method.upper()
