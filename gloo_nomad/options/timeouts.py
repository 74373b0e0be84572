"""How long a request may take, from its end to the answer, between two bytes, and altogether.

0s switches a time-out off. https://www.envoyproxy.io/docs/envoy/latest/faq/configuration/timeouts
"""

from typing import Any, Final

from gloo_nomad.api.gen import route_options_pb2
from gloo_nomad.options.guards import refuse_durations, refuse_unforwarded
from gloo_nomad.options.hooks import EVERY, Claims, RouteContext
from gloo_nomad.reports import Findings, is_rejected

_DURATIONS: Final = ("timeout", "idle_timeout")
_OPTIONS: Final = (*_DURATIONS, "max_stream_duration")
_STREAM: Final = ("max_stream_duration", "grpc_timeout_header_max", "grpc_timeout_header_offset")

FIELDS: Claims = {"gloo.solo.io.RouteOptions": _OPTIONS}
READS: Claims = {"gloo.solo.io.RouteOptions.MaxStreamDuration": EVERY}


def apply_route(options: route_options_pb2.RouteOptions, out: Any, context: RouteContext) -> Findings:
    if not any(options.HasField(name) for name in _OPTIONS):
        return ()
    findings = [
        *refuse_unforwarded(options, _OPTIONS, context),
        *refuse_durations(options, _DURATIONS),
        *refuse_durations(options.max_stream_duration, _STREAM, "maxStreamDuration"),
    ]
    if is_rejected(findings):
        return findings
    for name in _DURATIONS:
        if options.HasField(name):
            getattr(out.route, name).CopyFrom(getattr(options, name))
    for name in _STREAM:
        if options.max_stream_duration.HasField(name):  # type: ignore[arg-type]
            getattr(out.route.max_stream_duration, name).CopyFrom(getattr(options.max_stream_duration, name))
    return findings
