"""Sends copies of requests to another upstream, whose answers nobody waits for.

https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/route/v3/route_components.proto#config-route-v3-routeaction-requestmirrorpolicy
"""

from collections.abc import Iterator
from typing import Any, Final

from gloo_nomad.acceptance.headers import value_fault
from gloo_nomad.api.gen import route_options_pb2, shadowing_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.options.guards import build_percentage, refuse_percentage, refuse_unforwarded
from gloo_nomad.options.hooks import EVERY, Claims, RouteContext
from gloo_nomad.reports import Finding, Findings, error, is_rejected, warning

FIELDS: Claims = {
    "gloo.solo.io.RouteOptions": ("shadowing",),
    "shadowing.options.gloo.solo.io.RouteShadowing": EVERY,
}
_PATH: Final = "shadowing"


def apply_route(options: route_options_pb2.RouteOptions, out: Any, context: RouteContext) -> Findings:
    if not options.HasField("shadowing"):
        return ()
    shadowing = options.shadowing
    findings = [*refuse_unforwarded(options, ("shadowing",), context), *_check(shadowing)]
    if is_rejected(findings):
        return findings
    ref = Ref(shadowing.upstream.namespace, shadowing.upstream.name)
    cluster = context.find_cluster(ref)
    if not cluster:
        return (*findings, warning(f"{_PATH}.upstream", f"upstream {ref} does not exist; nothing is copied"))
    _apply_mirror(shadowing, cluster, out.route.request_mirror_policies.add())
    return findings


def _check(shadowing: shadowing_pb2.RouteShadowing) -> Iterator[Finding]:
    if not shadowing.upstream.name:
        yield error(f"{_PATH}.upstream", "is required: where the copies go")
    yield from refuse_percentage(shadowing, "percentage", _PATH)
    if fault := value_fault(shadowing.host_rewrite_literal):
        yield error(f"{_PATH}.hostRewriteLiteral", fault)


def _apply_mirror(shadowing: shadowing_pb2.RouteShadowing, cluster: str, out: Any) -> None:
    out.cluster = cluster
    out.runtime_fraction.default_value.CopyFrom(build_percentage(shadowing.percentage))
    out.disable_shadow_host_suffix_append = shadowing.disable_shadow_host_suffix_append
    out.host_rewrite_literal = shadowing.host_rewrite_literal
