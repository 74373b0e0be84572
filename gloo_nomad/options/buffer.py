"""Reads whole requests before they are forwarded: for a gateway, or for a virtual host, a route or a destination.

This is also the limit on the size of requests: a body of more than ``maxRequestBytes`` is answered with 413.
Where only a virtual host or what is in it asks for it, the gateway's filter is there and off for all others.
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/buffer_filter
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from envoy.extensions.filters.http.buffer.v3 import buffer_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from gloo_nomad.api.gen import (
    envoy_buffer_pb2,
    route_options_pb2,
    virtual_host_options_pb2,
    weighted_destination_options_pb2,
)
from gloo_nomad.messages import typed_config
from gloo_nomad.options.hooks import EVERY, Claims, ListenerContext, RouteContext, VirtualHostContext
from gloo_nomad.options.stages import Stage, StagedFilter
from gloo_nomad.reports import Finding, Findings, error, is_rejected

FILTER: Final = "envoy.filters.http.buffer"

FIELDS: Claims = {
    "gloo.solo.io.HttpListenerOptions": ("buffer",),
    "gloo.solo.io.RouteOptions": ("buffer_per_route",),
    "gloo.solo.io.VirtualHostOptions": ("buffer_per_route",),
    "gloo.solo.io.WeightedDestinationOptions": ("buffer_per_route",),
    "solo.io.envoy.extensions.filters.http.buffer.v3.Buffer": EVERY,
    "solo.io.envoy.extensions.filters.http.buffer.v3.BufferPerRoute": EVERY,
}

_UNASKED_BYTES: Final = 1
"""A bound that a filter has to have and nobody sees, because it is off unless a route brings its own."""


def http_filters(context: ListenerContext) -> Iterable[StagedFilter | Finding]:
    if context.options.HasField("buffer"):
        findings = [*_check(context.options.buffer, "buffer")]
        yield from findings
        if not findings:
            yield _build_filter(context.options.buffer.max_request_bytes.value, disabled=False)
    elif FILTER in context.used_filters:
        yield _build_filter(_UNASKED_BYTES, disabled=True)


def apply_route(options: route_options_pb2.RouteOptions, out: Any, context: RouteContext) -> Findings:
    return _apply(options, out)


def apply_virtual_host(
    options: virtual_host_options_pb2.VirtualHostOptions, out: Any, context: VirtualHostContext
) -> Findings:
    return _apply(options, out)


def apply_destination(
    options: weighted_destination_options_pb2.WeightedDestinationOptions, out: Any, context: RouteContext
) -> Findings:
    return _apply(options, out)


def _apply(options: Any, out: Any) -> Findings:
    if not options.HasField("buffer_per_route"):
        return ()
    wanted: envoy_buffer_pb2.BufferPerRoute = options.buffer_per_route
    findings = [*_check_override(wanted)]
    if not is_rejected(findings):
        built = buffer_pb2.BufferPerRoute(disabled=True)
        if wanted.WhichOneof("override") == "buffer":
            built = buffer_pb2.BufferPerRoute(buffer=_build(wanted.buffer.max_request_bytes.value))
        out.typed_per_filter_config[FILTER].CopyFrom(typed_config(built))
    return findings


def _check_override(wanted: envoy_buffer_pb2.BufferPerRoute) -> Iterator[Finding]:
    match wanted.WhichOneof("override"):
        case "buffer":
            yield from _check(wanted.buffer, "bufferPerRoute.buffer")
        case "disabled" if not wanted.disabled:
            yield error("bufferPerRoute.disabled", "can only be true; leave bufferPerRoute out, or give it a buffer")
        case None:
            yield error("bufferPerRoute", "says nothing: give it a buffer, or disabled: true")


def _check(wanted: envoy_buffer_pb2.Buffer, path: str) -> Iterator[Finding]:
    if not wanted.max_request_bytes.value:
        yield error(f"{path}.maxRequestBytes", "is required, and at least 1")


def _build(limit: int) -> Any:
    built = buffer_pb2.Buffer()
    built.max_request_bytes.value = limit
    return built


def _build_filter(limit: int, *, disabled: bool) -> StagedFilter:
    config = typed_config(_build(limit))
    built = http_connection_manager_pb2.HttpFilter(name=FILTER, typed_config=config, disabled=disabled)
    return StagedFilter(Stage.ROUTE, built)
