"""Which HTTP version Envoy speaks to an upstream: HTTP/1.1, HTTP/2 if asked for, or what the client speaks."""

from collections.abc import Iterator
from typing import Any, Final

from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2

from gloo_nomad.api.gen import upstream_pb2
from gloo_nomad.envoy.names import HTTP_PROTOCOL_OPTIONS
from gloo_nomad.messages import typed_config
from gloo_nomad.options.guards import refuse_breaches
from gloo_nomad.options.hooks import Claims
from gloo_nomad.reports import Finding, error, warning

_HTTP2_FIELDS: Final = (
    "initial_stream_window_size",
    "initial_connection_window_size",
    "max_concurrent_streams",
    "override_stream_error_on_invalid_http_message",
)
FIELDS: Claims = {"gloo.solo.io.Upstream": ("use_http2", "protocol_selection", *_HTTP2_FIELDS)}

STREAM_WINDOW: Final = 65_536
CONNECTION_WINDOW: Final = 1_048_576
"""Bounds of Envoy's best practices for the edge; by default a stream may buffer 256 MiB."""


def apply_protocol(upstream: upstream_pb2.Upstream, out: Any) -> Iterator[Finding]:
    """The protocol options of a cluster; nothing for plain HTTP/1.1, which is Envoy's default."""
    options = http_protocol_options_pb2.HttpProtocolOptions()
    match upstream.protocol_selection:
        case upstream_pb2.Upstream.USE_DOWNSTREAM_PROTOCOL:
            options.use_downstream_protocol_config.http_protocol_options.SetInParent()
            _apply_http2(upstream, options.use_downstream_protocol_config.http2_protocol_options)
        case upstream_pb2.Upstream.USE_CONFIGURED_PROTOCOL:
            if not upstream.use_http2.value:
                yield from _unused(upstream)
                return
            _apply_http2(upstream, options.explicit_http_config.http2_protocol_options)
        case _:
            yield error("protocolSelection", f"{upstream.protocol_selection} is none of the selections")
            return
    yield from refuse_breaches(options, "useHttp2")
    out.typed_extension_protocol_options[HTTP_PROTOCOL_OPTIONS].CopyFrom(typed_config(options))


def _unused(upstream: upstream_pb2.Upstream) -> Iterator[Finding]:
    for name in _HTTP2_FIELDS:
        if upstream.HasField(name):
            path = upstream.DESCRIPTOR.fields_by_name[name].camelcase_name
            yield warning(path, "has no effect without useHttp2")


def _apply_http2(upstream: upstream_pb2.Upstream, out: Any) -> None:
    out.initial_stream_window_size.value = STREAM_WINDOW
    out.initial_connection_window_size.value = CONNECTION_WINDOW
    for name in _HTTP2_FIELDS:
        if upstream.HasField(name):
            getattr(out, name).value = getattr(upstream, name).value
