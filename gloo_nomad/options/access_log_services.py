"""Access logs that go to a service by gRPC: Envoy's own protocol, or OpenTelemetry's with a cluster made for it."""

import re
from collections.abc import Iterator
from typing import Any, Final

from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.access_loggers.grpc.v3 import als_pb2 as envoy_als_pb2
from envoy.extensions.access_loggers.open_telemetry.v3 import logs_service_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2

from gloo_nomad.acceptance.formats import format_fault
from gloo_nomad.acceptance.headers import name_fault, value_fault
from gloo_nomad.acceptance.names import address_fault, is_ip_address
from gloo_nomad.api.gen import als_pb2, ssl_pb2
from gloo_nomad.messages import duration, typed_config
from gloo_nomad.options.access_log_formats import MAX_DEPTH, build_formatters
from gloo_nomad.options.guards import refuse_durations
from gloo_nomad.options.hooks import GeneratedCluster
from gloo_nomad.reports import Finding, error, warning

CLUSTER_PREFIX: Final = "solo_io_generated_otel_logs_"
CONNECT_SECONDS: Final = 5
MAX_NAME_BYTES: Final = 200
_HTTP_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_ENDPOINT: Final = re.compile(r"(?:\[([^\[\]]*)\]|([^:\[\]/]*)):([0-9]{1,5})", re.ASCII)
_HEADER_LISTS: Final = (
    ("additional_request_headers_to_log", "additionalRequestHeadersToLog"),
    ("additional_response_headers_to_log", "additionalResponseHeadersToLog"),
    ("additional_response_trailers_to_log", "additionalResponseTrailersToLog"),
)

Value = Any
"""OpenTelemetry's AnyValue."""


def check_grpc(service: als_pb2.GrpcService, path: str) -> Iterator[Finding]:
    """What is wrong with a log to a service that speaks Envoy's protocol."""
    yield from _check_name(service.log_name, f"{path}.logName")
    if not service.static_cluster_name:
        yield error(f"{path}.staticClusterName", "is required: the name of a cluster in Envoy's bootstrap")
    elif not service.static_cluster_name.isprintable():
        yield error(f"{path}.staticClusterName", "must not have control characters")
    for name, written in _HEADER_LISTS:
        for index, header in enumerate(getattr(service, name)):
            if fault := name_fault(header, pseudo=True):
                yield error(f"{path}.{written}[{index}]", fault)


def build_http_log(service: als_pb2.GrpcService) -> Any:
    """The log of requests."""
    built = envoy_als_pb2.HttpGrpcAccessLogConfig()
    _apply_common(service, service.static_cluster_name, built.common_config)
    for name, _ in _HEADER_LISTS:
        getattr(built, name).extend(getattr(service, name))
    return built


def build_tcp_log(service: als_pb2.GrpcService) -> Any:
    """The log of connections, which have no headers."""
    built = envoy_als_pb2.TcpGrpcAccessLogConfig()
    _apply_common(service, service.static_cluster_name, built.common_config)
    return built


def check_telemetry(service: als_pb2.OpenTelemetryService, path: str) -> Iterator[Finding]:
    """What is wrong with a log to an OpenTelemetry collector."""
    yield from _check_name(service.log_name, f"{path}.logName")
    yield from _check_collector(service, f"{path}.collector")
    if service.HasField("body"):
        yield from _check_value(service.body, f"{path}.body")
    for index, pair in enumerate(service.attributes.values):
        yield from _check_value(pair.value, f"{path}.attributes.values[{index}].value", 1)


def build_telemetry_log(service: als_pb2.OpenTelemetryService) -> Any:
    """The log of requests or connections."""
    collector = service.collector
    built = logs_service_pb2.OpenTelemetryAccessLogConfig(disable_builtin_labels=service.disable_builtin_labels)
    _apply_common(service, CLUSTER_PREFIX + service.log_name, built.common_config)
    grpc = built.common_config.grpc_service
    grpc.envoy_grpc.authority = collector.authority or collector.endpoint
    if collector.HasField("timeout"):
        grpc.timeout.CopyFrom(collector.timeout)
    for name in sorted(collector.headers):
        grpc.initial_metadata.add(key=name, value=collector.headers[name])
    if service.HasField("body"):
        built.body.CopyFrom(service.body)
    if service.HasField("attributes"):
        built.attributes.CopyFrom(service.attributes)
    attributes = (text for pair in service.attributes.values for text in _texts(pair.value))
    built.formatters.extend(build_formatters((*_texts(service.body), *attributes)))
    return built


def build_cluster(service: als_pb2.OpenTelemetryService, path: str) -> GeneratedCluster:
    """The cluster of a collector that was checked; TLS unless ``insecure``."""
    collector = service.collector
    host, port = _parse_endpoint(collector.endpoint)
    out = cluster_pb2.Cluster(name=CLUSTER_PREFIX + service.log_name, type="STRICT_DNS")
    out.dns_lookup_family = out.V4_PREFERRED
    out.connect_timeout.CopyFrom(duration(CONNECT_SECONDS))
    out.load_assignment.cluster_name = out.name
    endpoint = out.load_assignment.endpoints.add().lb_endpoints.add().endpoint
    endpoint.address.socket_address.address = host
    endpoint.address.socket_address.port_value = port
    options = http_protocol_options_pb2.HttpProtocolOptions()
    options.explicit_http_config.http2_protocol_options.SetInParent()
    out.typed_extension_protocol_options[_HTTP_OPTIONS].CopyFrom(typed_config(options))
    tls = None if collector.insecure else _tls_of(collector)
    return GeneratedCluster(out, tls, "" if is_ip_address(host) else host, f"{path}.collector")


def _tls_of(collector: als_pb2.OpenTelemetryGrpcCollector) -> ssl_pb2.UpstreamSslConfig:
    return collector.ssl_config if collector.HasField("ssl_config") else ssl_pb2.UpstreamSslConfig()


def _apply_common(service: Any, cluster: str, out: Any) -> None:
    """What both protocols have: a name, a cluster, and state of filters."""
    out.log_name = service.log_name
    out.transport_api_version = "V3"
    out.grpc_service.envoy_grpc.cluster_name = cluster
    out.filter_state_objects_to_log.extend(service.filter_state_objects_to_log)


def _check_name(name: str, path: str) -> Iterator[Finding]:
    if not name:
        yield error(path, "is required: the receiver tells logs apart by it")
    elif len(name.encode()) > MAX_NAME_BYTES or not name.isprintable():
        yield error(path, f"must have printable characters only, and at most {MAX_NAME_BYTES} bytes")


def _check_collector(service: als_pb2.OpenTelemetryService, path: str) -> Iterator[Finding]:
    collector = service.collector
    if not service.HasField("collector"):
        yield error(path, "is required: where the logs go")
        return
    host, port = _parse_endpoint(collector.endpoint)
    if not 1 <= port <= 65535:
        yield error(f"{path}.endpoint", "must be a host and a port, like collector.example.com:4317")
    elif fault := address_fault(host):
        yield error(f"{path}.endpoint", fault)
    if fault := value_fault(collector.authority):
        yield error(f"{path}.authority", fault)
    for name in sorted(collector.headers):
        if fault := _metadata_fault(name, collector.headers[name]):
            yield error(f"{path}.headers[{name[:80]}]", fault)
    yield from refuse_durations(collector, ("timeout",), path)
    if collector.insecure and collector.HasField("ssl_config"):
        yield warning(f"{path}.sslConfig", "has no effect: insecure says that TLS is not spoken")


def _metadata_fault(name: str, value: str) -> str:
    if name.lower() == "host":
        return "host cannot be a header of a request by gRPC; set authority"
    return name_fault(name) or value_fault(value) or format_fault(value)


def _parse_endpoint(endpoint: str) -> tuple[str, int]:
    """Host and port; port 0 if it is not a host and a port."""
    found = _ENDPOINT.fullmatch(endpoint)
    return (found[1] or found[2] or "", int(found[3])) if found else ("", 0)


def _check_value(value: Value, path: str, depth: int = 0) -> Iterator[Finding]:
    """Envoy takes texts, and lists and maps of them."""
    if depth > MAX_DEPTH:
        yield error(path, f"is nested more than {MAX_DEPTH} deep")
        return
    match value.WhichOneof("value"):
        case "string_value":
            if fault := format_fault(value.string_value, log=True):
                yield error(path, fault)
        case "array_value":
            for index, item in enumerate(value.array_value.values):
                yield from _check_value(item, f"{path}.arrayValue.values[{index}]", depth + 1)
        case "kvlist_value":
            for index, pair in enumerate(value.kvlist_value.values):
                yield from _check_value(pair.value, f"{path}.kvlistValue.values[{index}].value", depth + 1)
        case None if depth == 0:
            return
        case _:
            yield error(path, "must be a stringValue, or an arrayValue or kvlistValue of them; Envoy takes no others")


def _texts(value: Value) -> Iterator[str]:
    """All texts in a value that was checked."""
    if value.HasField("string_value"):
        yield value.string_value
    for item in (*value.array_value.values, *(pair.value for pair in value.kvlist_value.values)):
        yield from _texts(item)
