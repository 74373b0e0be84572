"""Changes the Host header of a request before it is forwarded.

``hostRewrite`` sets it, ``autoHostRewrite`` takes the name of the chosen host, ``hostRewriteHeader`` copies another
header, ``hostRewritePathRegex`` makes it from the path. ``appendXForwardedHost`` keeps the original one.
"""

from collections.abc import Iterator
from typing import Any, Final

from gloo_nomad.acceptance.headers import name_fault, value_fault
from gloo_nomad.api.gen import route_options_pb2
from gloo_nomad.messages import regex_matcher
from gloo_nomad.options.guards import check_rewrite, refuse_unforwarded
from gloo_nomad.options.hooks import Claims, RouteContext
from gloo_nomad.reports import Finding, Findings, error, is_rejected, warning

_REWRITES: Final = ("host_rewrite", "auto_host_rewrite", "host_rewrite_path_regex", "host_rewrite_header")

FIELDS: Claims = {"gloo.solo.io.RouteOptions": (*_REWRITES, "append_x_forwarded_host")}


def apply_route(options: route_options_pb2.RouteOptions, out: Any, context: RouteContext) -> Findings:
    findings = [*refuse_unforwarded(options, _REWRITES, context), *_check(options)]
    if is_rejected(findings):
        return findings
    if not options.HasField("append_x_forwarded_host"):
        pass
    elif context.has_route_action:
        out.route.append_x_forwarded_host = options.append_x_forwarded_host.value
    else:
        findings.append(warning("appendXForwardedHost", "has no effect: this route forwards nothing"))
    _apply_rewrite(options, out)
    return findings


def _check(options: route_options_pb2.RouteOptions) -> Iterator[Finding]:
    kind = options.WhichOneof("host_rewrite_type")
    if kind == "host_rewrite" and (fault := value_fault(options.host_rewrite)):
        yield error("hostRewrite", fault)
    elif kind == "host_rewrite_header" and (fault := name_fault(options.host_rewrite_header.value)):
        yield error("hostRewriteHeader", fault)
    elif kind == "host_rewrite_path_regex":
        yield from check_rewrite(options.host_rewrite_path_regex, "hostRewritePathRegex")


def _apply_rewrite(options: route_options_pb2.RouteOptions, out: Any) -> None:
    kind = options.WhichOneof("host_rewrite_type")
    if kind == "host_rewrite":
        out.route.host_rewrite_literal = options.host_rewrite
    elif kind == "auto_host_rewrite":
        out.route.auto_host_rewrite.value = options.auto_host_rewrite.value
    elif kind == "host_rewrite_header":
        out.route.host_rewrite_header = options.host_rewrite_header.value
    elif kind == "host_rewrite_path_regex":
        rewrite = out.route.host_rewrite_path_regex
        rewrite.pattern.CopyFrom(regex_matcher(options.host_rewrite_path_regex.pattern.regex))
        rewrite.substitution = options.host_rewrite_path_regex.substitution
