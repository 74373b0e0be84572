"""How connections to an upstream are made and kept, and how HTTP is spoken on them: ``connectionConfig``.

https://www.envoyproxy.io/docs/envoy/latest/api-v3/extensions/upstreams/http/v3/http_protocol_options.proto
"""

from collections.abc import Iterator
from typing import Any, Final

from envoy.extensions.http.header_formatters.preserve_case.v3 import preserve_case_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2

from gloo_nomad.api.gen import connection_pb2, protocol_pb2, upstream_pb2
from gloo_nomad.messages import typed_config
from gloo_nomad.options.guards import field_path, refuse_durations, refuse_enum
from gloo_nomad.options.hooks import EVERY, Claims, ClusterContext
from gloo_nomad.reports import Finding, Findings, error, is_rejected, warning

_MESSAGE: Final = "gloo.solo.io.ConnectionConfig"
FIELDS: Claims = {
    _MESSAGE: (
        "max_requests_per_connection",
        "tcp_keepalive",
        "per_connection_buffer_limit_bytes",
        "common_http_protocol_options",
        "http1_protocol_options",
    ),
}
READS: Claims = {
    f"{_MESSAGE}.TcpKeepAlive": EVERY,
    "protocol.options.gloo.solo.io.HttpProtocolOptions": EVERY,
    "protocol.options.gloo.solo.io.Http1ProtocolOptions": EVERY,
}

OPTIONS_NAME: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
"""Under which a cluster carries its protocol options."""
MAX_KEEPALIVE_PROBES: Final = 127
MAX_KEEPALIVE_SECONDS: Final = 32_767
"""Linux refuses more, and Envoy then fails to connect (net/ipv4/tcp.c, ``MAX_TCP_KEEPCNT``, ``MAX_TCP_KEEPIDLE``)."""
_PATH: Final = "connectionConfig"
_COMMON: Final = f"{_PATH}.commonHttpProtocolOptions"
_HTTP1: Final = f"{_PATH}.http1ProtocolOptions"
_PRESERVE_CASE: Final = "envoy.http.stateful_header_formatters.preserve_case"
_TIMES: Final = ("keepalive_time", "keepalive_interval")
_PROTOCOL_FIELDS: Final = ("common_http_protocol_options", "http1_protocol_options")


def apply_cluster(upstream: upstream_pb2.Upstream, out: Any, context: ClusterContext) -> Findings:
    if not upstream.HasField("connection_config"):
        return ()
    config = upstream.connection_config
    findings = [*_check_keepalive(config.tcp_keepalive), *_check_common(config.common_http_protocol_options)]
    if is_rejected(findings):
        return findings
    if config.HasField("per_connection_buffer_limit_bytes"):
        out.per_connection_buffer_limit_bytes.value = config.per_connection_buffer_limit_bytes.value
    if config.HasField("tcp_keepalive"):
        _apply_keepalive(config.tcp_keepalive, out.upstream_connection_options.tcp_keepalive)
    if config.max_requests_per_connection or any(config.HasField(name) for name in _PROTOCOL_FIELDS):
        findings += _apply_protocol_options(config, out)
    return findings


def _check_keepalive(keepalive: connection_pb2.ConnectionConfig.TcpKeepAlive) -> Iterator[Finding]:
    path = f"{_PATH}.tcpKeepalive"
    if keepalive.keepalive_probes > MAX_KEEPALIVE_PROBES:
        yield error(
            f"{path}.keepaliveProbes", f"must be at most {MAX_KEEPALIVE_PROBES}, as the operating system has it"
        )
    yield from refuse_durations(keepalive, _TIMES, path)
    for name in _TIMES:
        if getattr(keepalive, name).seconds >= MAX_KEEPALIVE_SECONDS:
            text = f"must be less than {MAX_KEEPALIVE_SECONDS}s, as the operating system has it"
            yield error(field_path(keepalive, name, path), text)
        elif getattr(keepalive, name).nanos > 0:
            yield warning(field_path(keepalive, name, path), "is rounded up to whole seconds")


def _apply_keepalive(keepalive: connection_pb2.ConnectionConfig.TcpKeepAlive, out: Any) -> None:
    out.SetInParent()
    if keepalive.keepalive_probes:
        out.keepalive_probes.value = keepalive.keepalive_probes
    for name in _TIMES:
        time = getattr(keepalive, name)
        if whole := time.seconds + (time.nanos > 0):
            getattr(out, name).value = whole


def _check_common(common: protocol_pb2.HttpProtocolOptions) -> Iterator[Finding]:
    yield from refuse_durations(common, ("idle_timeout", "max_stream_duration"), _COMMON)
    yield from refuse_enum(common, "headers_with_underscores_action", _COMMON)
    if common.headers_with_underscores_action:
        text = "has no effect on an upstream: Envoy looks at requests of clients only; set it on the gateway"
        yield warning(f"{_COMMON}.headersWithUnderscoresAction", text)


def _apply_protocol_options(config: connection_pb2.ConnectionConfig, out: Any) -> Iterator[Finding]:
    """Onto the options that the cluster has, or those of HTTP/1.1, which it speaks without any."""
    options = http_protocol_options_pb2.HttpProtocolOptions()
    if OPTIONS_NAME in out.typed_extension_protocol_options:
        out.typed_extension_protocol_options[OPTIONS_NAME].Unpack(options)
    else:
        options.explicit_http_config.http_protocol_options.SetInParent()
    _apply_common(config, options)
    target = _http1_options(options)
    if target is not None:
        _apply_http1(config.http1_protocol_options, target)
    elif config.HasField("http1_protocol_options"):
        yield warning(_HTTP1, "has no effect together with useHttp2")
    out.typed_extension_protocol_options[OPTIONS_NAME].CopyFrom(typed_config(options))


def _http1_options(options: Any) -> Any:
    if options.HasField("use_downstream_protocol_config"):
        return options.use_downstream_protocol_config.http_protocol_options
    if options.explicit_http_config.HasField("http_protocol_options"):
        return options.explicit_http_config.http_protocol_options
    return None


def _apply_common(config: connection_pb2.ConnectionConfig, out: Any) -> None:
    common = config.common_http_protocol_options
    if config.max_requests_per_connection:
        out.common_http_protocol_options.max_requests_per_connection.value = config.max_requests_per_connection
    for name in ("idle_timeout", "max_stream_duration"):
        if common.HasField(name):
            getattr(out.common_http_protocol_options, name).CopyFrom(getattr(common, name))
    if common.max_headers_count:
        out.common_http_protocol_options.max_headers_count.value = common.max_headers_count


def _apply_http1(http1: protocol_pb2.Http1ProtocolOptions, out: Any) -> None:
    out.enable_trailers = http1.enable_trailers
    if http1.HasField("override_stream_error_on_invalid_http_message"):
        value = http1.override_stream_error_on_invalid_http_message.value
        out.override_stream_error_on_invalid_http_message.value = value
    if http1.proper_case_header_key_format:
        out.header_key_format.proper_case_words.SetInParent()
    elif http1.preserve_case_header_key_format:
        formatter = out.header_key_format.stateful_formatter
        formatter.name = _PRESERVE_CASE
        formatter.typed_config.CopyFrom(typed_config(preserve_case_pb2.PreserveCaseFormatterConfig()))
