"""Access logs of a gateway: of requests and of TCP connections (``accessLoggingService``), and of the listener's own.

https://docs.solo.io/gloo-edge/latest/guides/security/access_logging/. They go to a file of Envoy's machine, to a
service that speaks Envoy's protocol, or to an OpenTelemetry collector, whose cluster is generated. A file that Envoy
may not write makes it refuse the listener: that shows only there.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from envoy.config.accesslog.v3 import accesslog_pb2

from gloo_nomad.api.gen import als_pb2, http_listener_options_pb2, listener_options_pb2, tcp_listener_options_pb2
from gloo_nomad.messages import typed_config
from gloo_nomad.options.access_log_filters import FILTER_READS, build_filter, check_filter
from gloo_nomad.options.access_log_formats import build_file, check_file
from gloo_nomad.options.access_log_services import (
    build_cluster,
    build_http_log,
    build_tcp_log,
    build_telemetry_log,
    check_grpc,
    check_telemetry,
)
from gloo_nomad.options.hooks import EVERY, Claims, GeneratedCluster, ListenerContext
from gloo_nomad.reports import Finding, Findings, error, is_rejected

_MESSAGES: Final = (
    *("AccessLoggingService", "AccessLog", "FileSink", "GrpcService"),
    *("OpenTelemetryService", "OpenTelemetryGrpcCollector"),
)
FIELDS: Claims = {
    "gloo.solo.io.ListenerOptions": ("access_logging_service", "listener_access_logging_service"),
}
READS: Claims = {**{f"als.options.gloo.solo.io.{name}": EVERY for name in _MESSAGES}, **FILTER_READS}


def apply_listener(options: listener_options_pb2.ListenerOptions, out: Any, context: ListenerContext) -> Findings:
    findings = [*_check(options)]
    if not is_rejected(findings):
        out.access_log.extend(_build(options.listener_access_logging_service, connections=True))
    return findings


def apply_connection_manager(
    options: http_listener_options_pb2.HttpListenerOptions, out: Any, context: ListenerContext
) -> Findings:
    if context.listener.HasField("access_logging_service") and not is_rejected(_check(context.listener)):
        out.access_log.extend(_build(context.listener.access_logging_service, connections=False))
    return ()


def apply_tcp_proxy(
    options: tcp_listener_options_pb2.TcpListenerOptions, out: Any, context: ListenerContext
) -> Findings:
    if context.listener.HasField("access_logging_service") and not is_rejected(_check(context.listener)):
        out.access_log.extend(_build(context.listener.access_logging_service, connections=True))
    return ()


def extra_clusters(context: ListenerContext) -> Iterable[GeneratedCluster | Finding]:
    collected = {log.open_telemetry_service.log_name: (log, path) for log, path in _telemetry(context.listener)}
    if not collected or is_rejected(_check(context.listener)):
        return ()
    return [build_cluster(log.open_telemetry_service, path) for log, path in collected.values()]


def _check(options: listener_options_pb2.ListenerOptions) -> Iterator[Finding]:
    for log, path in _logs(options):
        yield from _check_log(log, path)
    yield from _check_collectors(options)


def _check_log(log: als_pb2.AccessLog, path: str) -> Iterator[Finding]:
    match log.WhichOneof("OutputDestination"):
        case "file_sink":
            yield from check_file(log.file_sink, f"{path}.fileSink")
        case "grpc_service":
            yield from check_grpc(log.grpc_service, f"{path}.grpcService")
        case "open_telemetry_service":
            yield from check_telemetry(log.open_telemetry_service, f"{path}.openTelemetryService")
        case _:
            yield error(path, "goes nowhere; set fileSink, grpcService or openTelemetryService")
    if log.HasField("filter"):
        yield from check_filter(log.filter, f"{path}.filter")


def _check_collectors(options: listener_options_pb2.ListenerOptions) -> Iterator[Finding]:
    """A cluster is named after its log, so that two collectors need two names."""
    seen: dict[str, als_pb2.OpenTelemetryGrpcCollector] = {}
    for log, path in _telemetry(options):
        service = log.open_telemetry_service
        if seen.setdefault(service.log_name, service.collector) != service.collector:
            yield error(f"{path}.logName", "is that of a log to another collector; give it a name of its own")


def _telemetry(options: listener_options_pb2.ListenerOptions) -> Iterator[tuple[als_pb2.AccessLog, str]]:
    for log, path in _logs(options):
        if log.HasField("open_telemetry_service"):
            yield log, f"{path}.openTelemetryService"


def _logs(options: listener_options_pb2.ListenerOptions) -> Iterator[tuple[als_pb2.AccessLog, str]]:
    """All logs with their paths."""
    if options.HasField("access_logging_service"):
        for index, log in enumerate(options.access_logging_service.access_log):
            yield log, f"accessLoggingService.accessLog[{index}]"
    if options.HasField("listener_access_logging_service"):
        for index, log in enumerate(options.listener_access_logging_service.access_log):
            yield log, f"listenerAccessLoggingService.accessLog[{index}]"


def _build(service: als_pb2.AccessLoggingService, *, connections: bool) -> Iterator[Any]:
    """The logs of requests, or of connections; they were checked."""
    for log in service.access_log:
        name, config = _build_log(log, connections)
        built = accesslog_pb2.AccessLog(name=name, typed_config=typed_config(config))
        if log.HasField("filter"):
            built.filter.CopyFrom(build_filter(log.filter))
        yield built


def _build_log(log: als_pb2.AccessLog, connections: bool) -> tuple[str, Any]:
    """Envoy's name for the kind of a log, and its configuration."""
    match log.WhichOneof("OutputDestination"):
        case "file_sink":
            return "envoy.access_loggers.file", build_file(log.file_sink)
        case "grpc_service" if connections:
            return "envoy.access_loggers.tcp_grpc", build_tcp_log(log.grpc_service)
        case "grpc_service":
            return "envoy.access_loggers.http_grpc", build_http_log(log.grpc_service)
        case _:
            return "envoy.access_loggers.open_telemetry", build_telemetry_log(log.open_telemetry_service)
