"""Changes the path of a request before it is forwarded.

https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/route/v3/route_components.proto#envoy-v3-api-field-config-route-v3-routeaction-prefix-rewrite
"""

from collections.abc import Iterator
from typing import Any, Final

from gloo_nomad.acceptance.paths import path_fault
from gloo_nomad.api.gen import route_options_pb2
from gloo_nomad.messages import regex_matcher
from gloo_nomad.options.guards import check_rewrite, refuse_unforwarded
from gloo_nomad.options.hooks import EVERY, Claims, RouteContext
from gloo_nomad.reports import Finding, Findings, error, is_rejected

_OPTIONS: Final = ("prefix_rewrite", "regex_rewrite")

FIELDS: Claims = {"gloo.solo.io.RouteOptions": _OPTIONS}
READS: Claims = {
    "solo.io.envoy.type.matcher.v3.RegexMatchAndSubstitute": EVERY,
    "solo.io.envoy.type.matcher.v3.RegexMatcher": EVERY,
}


def apply_route(options: route_options_pb2.RouteOptions, out: Any, context: RouteContext) -> Findings:
    if not any(options.HasField(name) for name in _OPTIONS):
        return ()
    findings = [*refuse_unforwarded(options, _OPTIONS, context), *_check(options)]
    if is_rejected(findings):
        return findings
    if options.HasField("prefix_rewrite"):
        out.route.prefix_rewrite = options.prefix_rewrite.value
    if options.HasField("regex_rewrite"):
        rewrite = out.route.regex_rewrite
        rewrite.pattern.CopyFrom(regex_matcher(options.regex_rewrite.pattern.regex))
        rewrite.substitution = options.regex_rewrite.substitution
    return findings


def _check(options: route_options_pb2.RouteOptions) -> Iterator[Finding]:
    if options.HasField("prefix_rewrite") and (fault := path_fault(options.prefix_rewrite.value)):
        yield error("prefixRewrite", fault)
    if not options.HasField("regex_rewrite"):
        return
    yield from check_rewrite(options.regex_rewrite, "regexRewrite")
    if options.prefix_rewrite.value:
        yield error("regexRewrite", "cannot be combined with prefixRewrite; keep one of them")
