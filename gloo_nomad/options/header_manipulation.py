"""Adds and removes headers of requests and responses, on a virtual host, a route, or one destination of several.

https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/headers#custom-request-response-headers
"""

from typing import Any, Final

from gloo_nomad.api.gen import (
    headers_pb2,
    route_options_pb2,
    virtual_host_options_pb2,
    weighted_destination_options_pb2,
)
from gloo_nomad.options.added_headers import build_added, check_removed
from gloo_nomad.options.hooks import EVERY, Claims, Context, RouteContext, VirtualHostContext
from gloo_nomad.reports import Finding, Findings, is_rejected

_PATH: Final = "headerManipulation"

FIELDS: Claims = {
    "gloo.solo.io.RouteOptions": ("header_manipulation",),
    "gloo.solo.io.VirtualHostOptions": ("header_manipulation",),
    "gloo.solo.io.WeightedDestinationOptions": ("header_manipulation",),
}
READS: Claims = {
    "gloo.solo.io.Secret": ("header",),
    "gloo.solo.io.HeaderSecret": EVERY,
    "headers.options.gloo.solo.io.HeaderManipulation": EVERY,
    "headers.options.gloo.solo.io.HeaderValueOption": EVERY,
    "headers.options.gloo.solo.io.HeaderValue": EVERY,
    "solo.io.envoy.api.v2.core.HeaderValueOption": EVERY,
    "solo.io.envoy.api.v2.core.HeaderValue": EVERY,
}


def apply_route(options: route_options_pb2.RouteOptions, out: Any, context: RouteContext) -> Findings:
    return _apply(options, out, context)


def apply_virtual_host(
    options: virtual_host_options_pb2.VirtualHostOptions, out: Any, context: VirtualHostContext
) -> Findings:
    return _apply(options, out, context)


def apply_destination(
    options: weighted_destination_options_pb2.WeightedDestinationOptions, out: Any, context: RouteContext
) -> Findings:
    return _apply(options, out, context)


def _apply(options: Any, out: Any, context: Context) -> Findings:
    if not options.HasField("header_manipulation"):
        return ()
    wanted: headers_pb2.HeaderManipulation = options.header_manipulation
    findings: list[Finding] = []
    added = {
        side: [
            *build_added(getattr(wanted, f"{side}_headers_to_add"), f"{_PATH}.{side}HeadersToAdd", context, findings)
        ]
        for side in ("request", "response")
    }
    findings += check_removed(wanted.request_headers_to_remove, f"{_PATH}.requestHeadersToRemove")
    findings += check_removed(wanted.response_headers_to_remove, f"{_PATH}.responseHeadersToRemove")
    if not is_rejected(findings):
        out.request_headers_to_add.extend(added["request"])
        out.response_headers_to_add.extend(added["response"])
        out.request_headers_to_remove.extend(wanted.request_headers_to_remove)
        out.response_headers_to_remove.extend(wanted.response_headers_to_remove)
    return findings
