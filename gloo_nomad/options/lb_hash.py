"""Keeps similar requests on the same host: what ring hash and Maglev load balancers hash.

https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/route/v3/route_components.proto#config-route-v3-routeaction-hashpolicy
"""

from collections.abc import Iterator
from typing import Any

from envoy.config.route.v3 import route_components_pb2

from gloo_nomad.acceptance.headers import name_fault, value_fault
from gloo_nomad.api.gen import lbhash_pb2, route_options_pb2
from gloo_nomad.options.guards import refuse_durations, refuse_unforwarded
from gloo_nomad.options.hooks import EVERY, Claims, RouteContext
from gloo_nomad.reports import Finding, Findings, error, is_rejected

FIELDS: Claims = {"gloo.solo.io.RouteOptions": ("lb_hash",)}
READS: Claims = {
    "lbhash.options.gloo.solo.io.RouteActionHashConfig": EVERY,
    "lbhash.options.gloo.solo.io.HashPolicy": EVERY,
    "lbhash.options.gloo.solo.io.Cookie": EVERY,
}


def apply_route(options: route_options_pb2.RouteOptions, out: Any, context: RouteContext) -> Findings:
    if not options.HasField("lb_hash"):
        return ()
    findings = [*refuse_unforwarded(options, ("lb_hash",), context)]
    for index, policy in enumerate(options.lb_hash.hash_policies):
        findings += _check(policy, f"lbHash.hashPolicies[{index}]")
    if not is_rejected(findings):
        out.route.hash_policy.extend(_build_policy(policy) for policy in options.lb_hash.hash_policies)
    return findings


def _check(policy: lbhash_pb2.HashPolicy, path: str) -> Iterator[Finding]:
    kind = policy.WhichOneof("KeyType")
    if kind is None:
        yield error(path, "needs header, cookie or sourceIp")
    elif kind == "header" and (fault := name_fault(policy.header, pseudo=True)):
        yield error(f"{path}.header", fault)
    elif kind == "cookie":
        if fault := name_fault(policy.cookie.name):
            yield error(f"{path}.cookie.name", fault.replace("header", "cookie"))
        if fault := value_fault(policy.cookie.path):
            yield error(f"{path}.cookie.path", fault.replace("header", "cookie"))
        yield from refuse_durations(policy.cookie, ("ttl",), f"{path}.cookie")


def _build_policy(policy: lbhash_pb2.HashPolicy) -> Any:
    built = route_components_pb2.RouteAction.HashPolicy(terminal=policy.terminal)
    kind = policy.WhichOneof("KeyType")
    if kind == "header":
        built.header.header_name = policy.header
    elif kind == "source_ip":
        built.connection_properties.source_ip = policy.source_ip
    else:
        built.cookie.name = policy.cookie.name
        built.cookie.path = policy.cookie.path
        if policy.cookie.HasField("ttl"):
            built.cookie.ttl.CopyFrom(policy.cookie.ttl)
    return built
