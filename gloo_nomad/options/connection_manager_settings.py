"""How HTTP is spoken to clients: ``httpConnectionManagerSettings``, but for upgrades and tracing.

What is set here wins over the defaults for the edge in ``envoy.connection_managers``. An enum without "unset" leaves
the default alone by its first value (``pathWithEscapedSlashesAction`` has KEEP_UNCHANGED to turn ours off).
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/http_conn_man
"""

from collections.abc import Iterator
from typing import Any, Final

from envoy.extensions.http.early_header_mutation.header_mutation.v3 import header_mutation_pb2
from envoy.extensions.http.header_formatters.preserve_case.v3 import preserve_case_pb2
from envoy.extensions.request_id.uuid.v3 import uuid_pb2

from gloo_nomad.acceptance.headers import value_fault
from gloo_nomad.acceptance.names import address_fault, range_fault
from gloo_nomad.api.gen import hcm_pb2, headers_pb2, http_listener_options_pb2
from gloo_nomad.messages import typed_config
from gloo_nomad.options.added_headers import build_added, check_removed
from gloo_nomad.options.guards import field_path, refuse_durations, refuse_enum
from gloo_nomad.options.hooks import EVERY, Claims, ListenerContext
from gloo_nomad.reports import Finding, Findings, error, is_rejected, warning

_PATH: Final = "httpConnectionManagerSettings"
_MESSAGE: Final = "hcm.options.gloo.solo.io.HttpConnectionManagerSettings"

_FLAGS: Final = (
    "append_x_forwarded_port",
    "merge_slashes",
    "preserve_external_request_id",
    "proxy_100_continue",
    "skip_xff_append",
    "strip_any_host_port",
)
_VALUES: Final = ("server_name", "via", "xff_num_trusted_hops")
"""Wrapped in the contract, plain at Envoy."""
_WRAPPED: Final = ("generate_request_id", "max_request_headers_kb", "normalize_path", "use_remote_address")
_DURATIONS: Final = (
    "delayed_close_timeout",
    "drain_timeout",
    "request_headers_timeout",
    "request_timeout",
    "stream_idle_timeout",
)
_COMMON_DURATIONS: Final = ("idle_timeout", "max_connection_duration", "max_stream_duration")
_COMMON_COUNTS: Final = ("max_headers_count", "max_requests_per_connection")
_ENUMS: Final = ("codec_type", "forward_client_cert_details", "server_header_transformation")
_HTTP1: Final = ("accept_http_10", "allow_chunked_length", "default_host_for_http_10", "enable_trailers")
_HTTP2: Final = (
    "initial_connection_window_size",
    "initial_stream_window_size",
    "max_concurrent_streams",
    "override_stream_error_on_invalid_http_message",
)
_TOLD_DETAILS: Final = ("cert", "chain", "dns", "uri")

FIELDS: Claims = {
    "gloo.solo.io.HttpListenerOptions": ("http_connection_manager_settings",),
    _MESSAGE: (
        *_FLAGS,
        *_VALUES,
        *_WRAPPED,
        *_DURATIONS,
        *_COMMON_DURATIONS,
        *_COMMON_COUNTS,
        *_ENUMS,
        *_HTTP1,
        "early_header_manipulation",
        "headers_with_underscores_action",
        "http2_protocol_options",
        "internal_address_config",
        "path_with_escaped_slashes_action",
        "preserve_case_header_key_format",
        "proper_case_header_key_format",
        "set_current_client_cert_details",
        "uuid_request_id_config",
    ),
    "protocol.options.gloo.solo.io.Http2ProtocolOptions": _HTTP2,
}
READS: Claims = {
    f"{_MESSAGE}.CidrRange": EVERY,
    f"{_MESSAGE}.InternalAddressConfig": EVERY,
    f"{_MESSAGE}.SetCurrentClientCertDetails": EVERY,
    f"{_MESSAGE}.UuidRequestIdConfigSettings": EVERY,
    "headers.options.gloo.solo.io.EarlyHeaderManipulation": EVERY,
    "solo.io.envoy.api.v2.core.HeaderValueOption": EVERY,
    "solo.io.envoy.api.v2.core.HeaderValue": EVERY,
}

_HAS_DETAILS: Final = frozenset(
    {
        hcm_pb2.HttpConnectionManagerSettings.APPEND_FORWARD,
        hcm_pb2.HttpConnectionManagerSettings.SANITIZE_SET,
    }
)
_EARLY_MUTATION: Final = "envoy.http.early_header_mutation.header_mutation"
_PRESERVE_CASE: Final = "envoy.http.stateful_header_formatters.preserve_case"


def apply_connection_manager(
    options: http_listener_options_pb2.HttpListenerOptions, out: Any, context: ListenerContext
) -> Findings:
    if not options.HasField("http_connection_manager_settings"):
        return ()
    settings = options.http_connection_manager_settings
    findings = [*_check(settings), *_apply_early_headers(settings.early_header_manipulation, out, context)]
    if not is_rejected(findings):
        _apply_plain(settings, out)
        _apply_enums(settings, out)
        _apply_http1(settings, out.http_protocol_options)
        _copy_set(settings.http2_protocol_options, out.http2_protocol_options, _HTTP2)
        _apply_identity(settings, out)
    return [finding.under(_PATH) for finding in findings]


def _check(settings: hcm_pb2.HttpConnectionManagerSettings) -> Iterator[Finding]:
    yield from refuse_durations(settings, (*_DURATIONS, *_COMMON_DURATIONS))
    for name in (*_ENUMS, "headers_with_underscores_action", "path_with_escaped_slashes_action"):
        yield from refuse_enum(settings, name)
    for name in ("server_name", "via"):
        if fault := value_fault(getattr(settings, name).value):
            yield error(field_path(settings, name), fault)
    host = settings.default_host_for_http_10.value
    if host and (fault := _host_fault(host)):
        yield error("defaultHostForHttp10", fault)
    yield from _check_counts(settings)
    yield from _check_identity(settings)


def _host_fault(host: str) -> str:
    name, colon, port = host.rpartition(":")
    if colon and port.isascii() and port.isdigit() and int(port) <= 65535:
        host = name.removeprefix("[").removesuffix("]")
    return address_fault(host)


def _check_counts(settings: hcm_pb2.HttpConnectionManagerSettings) -> Iterator[Finding]:
    if settings.HasField("max_headers_count") and not settings.max_headers_count.value:
        yield error("maxHeadersCount", "must be at least 1")
    if settings.HasField("max_request_headers_kb") and not 1 <= settings.max_request_headers_kb.value <= 8192:
        yield error("maxRequestHeadersKb", "must be between 1 and 8192")
    http2 = settings.http2_protocol_options
    for name in ("initial_stream_window_size", "initial_connection_window_size"):
        if http2.HasField(name) and not 65535 <= getattr(http2, name).value <= 2147483647:
            yield error(field_path(http2, name, "http2ProtocolOptions"), "must be between 65535 and 2147483647 bytes")
    if http2.HasField("max_concurrent_streams") and not 1 <= http2.max_concurrent_streams.value <= 2147483647:
        yield error("http2ProtocolOptions.maxConcurrentStreams", "must be between 1 and 2147483647")


def _check_identity(settings: hcm_pb2.HttpConnectionManagerSettings) -> Iterator[Finding]:
    for index, cidr in enumerate(settings.internal_address_config.cidr_ranges):
        if fault := range_fault(cidr.address_prefix, cidr.prefix_len.value):
            yield error(f"internalAddressConfig.cidrRanges[{index}]", fault)
    if not settings.HasField("set_current_client_cert_details"):
        return
    if settings.forward_client_cert_details not in _HAS_DETAILS:
        text = "has no effect unless forwardClientCertDetails is APPEND_FORWARD or SANITIZE_SET"
        yield warning("setCurrentClientCertDetails", text)


def _apply_plain(settings: hcm_pb2.HttpConnectionManagerSettings, out: Any) -> None:
    for name in (*_FLAGS, *_VALUES):
        if settings.HasField(name):
            setattr(out, name, getattr(settings, name).value)
    _copy_set(settings, out, (*_WRAPPED, *_DURATIONS))
    _copy_set(settings, out.common_http_protocol_options, (*_COMMON_DURATIONS, *_COMMON_COUNTS))


def _apply_enums(settings: hcm_pb2.HttpConnectionManagerSettings, out: Any) -> None:
    for name in _ENUMS:
        setattr(out, name, getattr(settings, name))
    if settings.path_with_escaped_slashes_action:
        out.path_with_escaped_slashes_action = settings.path_with_escaped_slashes_action
    if settings.HasField("headers_with_underscores_action"):
        action = settings.headers_with_underscores_action
        out.common_http_protocol_options.headers_with_underscores_action = action


def _apply_http1(settings: hcm_pb2.HttpConnectionManagerSettings, out: Any) -> None:
    for name in _HTTP1:
        if settings.HasField(name):
            setattr(out, name, getattr(settings, name).value)
    if settings.proper_case_header_key_format.value:
        out.header_key_format.proper_case_words.SetInParent()
    elif settings.preserve_case_header_key_format.value:
        formatter = out.header_key_format.stateful_formatter
        formatter.name = _PRESERVE_CASE
        formatter.typed_config.CopyFrom(typed_config(preserve_case_pb2.PreserveCaseFormatterConfig()))


def _apply_identity(settings: hcm_pb2.HttpConnectionManagerSettings, out: Any) -> None:
    """Who the client is, and what the request is called."""
    if settings.HasField("set_current_client_cert_details") and settings.forward_client_cert_details in _HAS_DETAILS:
        told, details = settings.set_current_client_cert_details, out.set_current_client_cert_details
        _copy_set(told, details, ("subject",))
        details.uri = not told.HasField("uri")
        for name in _TOLD_DETAILS:
            if told.HasField(name):
                setattr(details, name, getattr(told, name).value)
    if settings.HasField("internal_address_config"):
        internal = settings.internal_address_config
        out.internal_address_config.unix_sockets = internal.unix_sockets.value
        for cidr in internal.cidr_ranges:
            added = out.internal_address_config.cidr_ranges.add(address_prefix=cidr.address_prefix)
            added.prefix_len.value = cidr.prefix_len.value
    if settings.HasField("uuid_request_id_config"):
        config = uuid_pb2.UuidRequestIdConfig()
        _copy_set(settings.uuid_request_id_config, config, ("pack_trace_reason", "use_request_id_for_trace_sampling"))
        out.request_id_extension.typed_config.CopyFrom(typed_config(config))


def _apply_early_headers(
    wanted: headers_pb2.EarlyHeaderManipulation, out: Any, context: ListenerContext
) -> Iterator[Finding]:
    """Removes and adds headers before a route is chosen; what is added is added after what is removed was removed."""
    findings: list[Finding] = []
    path = "earlyHeaderManipulation"
    added = [*build_added(wanted.headers_to_add, f"{path}.headersToAdd", context, findings)]
    findings += check_removed(wanted.headers_to_remove, f"{path}.headersToRemove")
    yield from findings
    if is_rejected(findings) or not (added or wanted.headers_to_remove):
        return
    config = header_mutation_pb2.HeaderMutation()
    for name in wanted.headers_to_remove:
        config.mutations.add(remove=name)
    for entry in added:
        config.mutations.add(append=entry)
    out.early_header_mutation_extensions.add(name=_EARLY_MUTATION, typed_config=typed_config(config))


def _copy_set(source: Any, out: Any, names: tuple[str, ...]) -> None:
    for name in names:
        if source.HasField(name):
            getattr(out, name).CopyFrom(getattr(source, name))
