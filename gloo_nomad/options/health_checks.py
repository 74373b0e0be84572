"""Asks hosts whether they are well, and sends nothing to those that are not.

https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/health_checking
"""

import string
from collections.abc import Iterator
from typing import Any, Final

from envoy.config.core.v3 import base_pb2, health_check_pb2
from envoy.extensions.health_check.event_sinks.file.v3 import file_pb2

from gloo_nomad.acceptance.headers import value_fault
from gloo_nomad.acceptance.names import server_name_fault
from gloo_nomad.acceptance.quoting import quote
from gloo_nomad.api.gen import envoy_health_check_pb2, upstream_pb2
from gloo_nomad.messages import delimited, typed_config
from gloo_nomad.options.added_headers import build_added, check_removed
from gloo_nomad.options.custom_health_checks import apply_custom
from gloo_nomad.options.guards import field_path, refuse_durations
from gloo_nomad.options.hooks import EVERY, Claims, ClusterContext
from gloo_nomad.reports import Finding, Findings, error, warning

_MESSAGE: Final = "solo.io.envoy.api.v2.core.HealthCheck"
FIELDS: Claims = {"gloo.solo.io.Upstream": ("health_checks", "ignore_health_on_host_removal")}
READS: Claims = {
    _MESSAGE: EVERY,
    f"{_MESSAGE}.HttpHealthCheck": (
        "host",
        "path",
        "service_name",
        "request_headers_to_add",
        "use_http2",
        "request_headers_to_remove",
        "expected_statuses",
        "method",
    ),
    f"{_MESSAGE}.TcpHealthCheck": EVERY,
    f"{_MESSAGE}.Payload": EVERY,
    f"{_MESSAGE}.GrpcHealthCheck": EVERY,
    f"{_MESSAGE}.CustomHealthCheck": EVERY,
    "solo.io.envoy.type.Int64Range": EVERY,
    "static.options.gloo.solo.io.Host": ("health_check_config",),
    "static.options.gloo.solo.io.Host.HealthCheckConfig": EVERY,
}

_REQUIRED: Final = ("timeout", "interval", "unhealthy_threshold", "healthy_threshold")
_POSITIVE: Final = (
    "timeout",
    "interval",
    "no_traffic_interval",
    "unhealthy_interval",
    "unhealthy_edge_interval",
    "healthy_edge_interval",
)
_DURATIONS: Final = (*_POSITIVE, "interval_jitter", "initial_jitter")
_THRESHOLDS: Final = ("unhealthy_threshold", "healthy_threshold", "reuse_connection")
_EVENT_SINK: Final = "envoy.health_check.event_sink.file"
_MAX_EVENT_PATH: Final = 4096
_CONNECT: Final = 6
_METHODS: Final = frozenset(base_pb2.RequestMethod.keys()) - {"METHOD_UNSPECIFIED", "CONNECT"}
_NAME_FIELD: Final = 27
"""Number of ``HealthCheck.name``, which Envoy wants where there are several; the messages at hand do not have it."""


def apply_cluster(upstream: upstream_pb2.Upstream, out: Any, context: ClusterContext) -> Findings:
    if upstream.ignore_health_on_host_removal.value:
        out.ignore_health_on_host_removal = True
    if not upstream.health_checks and upstream.WhichOneof("upstream_type") != "static":
        return ()
    findings: list[Finding] = []
    for index, check in enumerate(upstream.health_checks):
        found = [*_check(check)]
        built = _build(check, upstream, context, found)
        findings += [finding.under(f"healthChecks[{index}]") for finding in found]
        if len(upstream.health_checks) > 1:
            built.MergeFromString(delimited(_NAME_FIELD, f"{index}".encode()))
        out.health_checks.append(built)
    if any(check.http_health_check.host or check.grpc_health_check.authority for check in upstream.health_checks):
        _forget_host_names(out)
    return [*findings, *_apply_hosts(upstream, out)]


def _apply_hosts(upstream: upstream_pb2.Upstream, out: Any) -> Iterator[Finding]:
    """Path and method of static hosts. Envoy asks all hosts of a cluster the same, so they count if all agree."""
    hosts = upstream.static.hosts
    if not any(host.HasField("health_check_config") for host in hosts):
        return
    for index, host in enumerate(hosts):
        written = host.health_check_config
        path = f"static.hosts[{index}].healthCheckConfig"
        if written.method and written.method not in _METHODS:
            yield error(f"{path}.method", f"{quote(written.method)} is no method that a host can be asked with")
        elif value_fault(written.path) or " " in written.path:
            yield error(f"{path}.path", f"{quote(written.path)} is no path of a request")
        elif host.HasField("health_check_config"):
            yield from (warning(path, text) for text in _host_faults(host, hosts, out))
    wanted = {(host.health_check_config.path, host.health_check_config.method) for host in hosts}
    path, method = wanted.pop()
    for check in out.health_checks if not wanted else ():
        if check.HasField("http_health_check"):
            check.http_health_check.path = path or check.http_health_check.path
            if method in _METHODS:
                check.http_health_check.method = method


def _host_faults(host: Any, hosts: Any, out: Any) -> Iterator[str]:
    if not any(check.HasField("http_health_check") for check in out.health_checks):
        yield "has no effect without an httpHealthCheck"
    elif any(other.health_check_config != host.health_check_config for other in hosts):
        yield "has no effect: Envoy asks all hosts of an upstream the same, and another host has it differently"


def _forget_host_names(out: Any) -> None:
    """A host that the check names wins over the name that each host has by itself; Envoy would take the latter."""
    for place in out.load_assignment.endpoints:
        for host in place.lb_endpoints:
            config = host.endpoint.health_check_config
            if config.hostname == host.endpoint.hostname:
                config.ClearField("hostname")
            if not config.ListFields():
                host.endpoint.ClearField("health_check_config")


def _check(check: Any) -> Iterator[Finding]:
    for name in _REQUIRED:
        if not check.HasField(name):
            yield error(field_path(check, name), "is required")
    yield from refuse_durations(check, _DURATIONS)
    for name in _POSITIVE:
        if check.HasField(name) and not getattr(check, name).ToNanoseconds():
            yield error(field_path(check, name), "must be longer than 0s")
    for name in ("unhealthy_threshold", "healthy_threshold"):
        if check.HasField(name) and not getattr(check, name).value:
            yield error(field_path(check, name), "must be at least 1")
    path = check.event_log_path
    if len(path.encode()) > _MAX_EVENT_PATH or not path.isprintable():
        yield error("eventLogPath", f"{path[:80]!r} is no path of a file")
    if check.WhichOneof("health_checker") is None:
        yield error("", "needs one of httpHealthCheck, tcpHealthCheck, grpcHealthCheck and customHealthCheck")


def _build(check: Any, upstream: Any, context: ClusterContext, findings: list[Finding]) -> Any:
    """Envoy's form; *findings* grows by what is wrong with the checker."""
    built = health_check_pb2.HealthCheck(
        interval_jitter_percent=check.interval_jitter_percent,
        always_log_health_check_failures=check.always_log_health_check_failures,
    )
    for name in _DURATIONS:
        if check.HasField(name):
            getattr(built, name).CopyFrom(getattr(check, name))
    for name in _THRESHOLDS:
        if check.HasField(name):
            getattr(built, name).value = getattr(check, name).value
    if check.event_log_path:
        sink = file_pb2.HealthCheckEventFileSink(event_log_path=check.event_log_path)
        built.event_logger.add(name=_EVENT_SINK, typed_config=typed_config(sink))
    _apply_checker(check, built, upstream, context, findings)
    return built


def _apply_checker(
    check: envoy_health_check_pb2.HealthCheck,
    out: Any,
    upstream: Any,
    context: ClusterContext,
    findings: list[Finding],
) -> None:
    match check.WhichOneof("health_checker"):
        case "http_health_check":
            findings += _check_http(check.http_health_check)
            _apply_http(check.http_health_check, out.http_health_check, context, findings)
        case "tcp_health_check":
            findings += _check_tcp(check.tcp_health_check)
            _apply_tcp(check.tcp_health_check, out.tcp_health_check)
        case "grpc_health_check":
            findings += _check_grpc(check.grpc_health_check, upstream)
            _apply_grpc(check.grpc_health_check, out.grpc_health_check, context, findings)
        case "custom_health_check":
            apply_custom(check.custom_health_check, out.custom_health_check, findings)


def _check_http(http: envoy_health_check_pb2.HealthCheck.HttpHealthCheck) -> Iterator[Finding]:
    path = "httpHealthCheck"
    if not http.path:
        yield error(f"{path}.path", "is required")
    elif value_fault(http.path) or " " in http.path:
        yield error(f"{path}.path", f"{http.path[:80]!r} is no path of a request")
    if value_fault(http.host):
        yield error(f"{path}.host", f"{http.host[:80]!r} is no name of a host")
    if http.method == _CONNECT:
        yield error(f"{path}.method", "must not be CONNECT")
    elif http.method not in base_pb2.RequestMethod.values():
        yield error(f"{path}.method", f"{http.method} is no method")
    for index, statuses in enumerate(http.expected_statuses):
        if not 100 <= statuses.start < statuses.end <= 600:
            text = f"must be from 100 to 599, start below end: {statuses.start} to {statuses.end} is no such range"
            yield error(f"{path}.expectedStatuses[{index}]", text)
    yield from check_removed(http.request_headers_to_remove, f"{path}.requestHeadersToRemove")


def _apply_http(
    http: envoy_health_check_pb2.HealthCheck.HttpHealthCheck,
    out: Any,
    context: ClusterContext,
    findings: list[Finding],
) -> None:
    out.host, out.path, out.method = http.host, http.path, int(http.method)
    if http.service_name:
        out.service_name_matcher.prefix = http.service_name
    if http.use_http2:
        out.codec_client_type = "HTTP2"
    path = "httpHealthCheck.requestHeadersToAdd"
    out.request_headers_to_add.extend(build_added(http.request_headers_to_add, path, context, findings))
    out.request_headers_to_remove.extend(http.request_headers_to_remove)
    for statuses in http.expected_statuses:
        out.expected_statuses.add(start=statuses.start, end=statuses.end)


def _check_tcp(tcp: envoy_health_check_pb2.HealthCheck.TcpHealthCheck) -> Iterator[Finding]:
    payloads = [("receive", index, payload) for index, payload in enumerate(tcp.receive)]
    if tcp.HasField("send"):
        payloads.insert(0, ("send", 0, tcp.send))
    for name, index, payload in payloads:
        if not payload.text or len(payload.text) % 2 or not set(payload.text) <= set(string.hexdigits):
            where = f"[{index}]" if name == "receive" else ""
            text = "must be bytes in hexadecimal, two digits each, for example 50494e47"
            yield error(f"tcpHealthCheck.{name}{where}.text", text)


def _apply_tcp(tcp: envoy_health_check_pb2.HealthCheck.TcpHealthCheck, out: Any) -> None:
    out.SetInParent()
    if tcp.HasField("send"):
        out.send.text = tcp.send.text
    for payload in tcp.receive:
        out.receive.add(text=payload.text)


def _check_grpc(grpc: envoy_health_check_pb2.HealthCheck.GrpcHealthCheck, upstream: Any) -> Iterator[Finding]:
    """Envoy refuses the cluster unless it speaks HTTP/2."""
    if not upstream.use_http2.value and not upstream.protocol_selection:
        yield error("grpcHealthCheck", "needs HTTP/2: set useHttp2 on the upstream")
    if value_fault(grpc.authority) or server_name_fault(grpc.authority):
        yield error("grpcHealthCheck.authority", f"{grpc.authority[:80]!r} is no name of a host")


def _apply_grpc(
    grpc: envoy_health_check_pb2.HealthCheck.GrpcHealthCheck,
    out: Any,
    context: ClusterContext,
    findings: list[Finding],
) -> None:
    out.service_name, out.authority = grpc.service_name, grpc.authority
    out.SetInParent()
    path = "grpcHealthCheck.initialMetadata"
    out.initial_metadata.extend(build_added(grpc.initial_metadata, path, context, findings))
