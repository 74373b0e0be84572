"""Distributed tracing of a gateway: which requests are traced, what their spans say, and where they are sent.

A collector that does not exist is a warning, and the gateway works without tracing: Envoy would refuse the listener.
https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/observability/tracing
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from envoy.config.trace.v3 import datadog_pb2, opentelemetry_pb2, zipkin_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.type.tracing.v3 import custom_tag_pb2

from gloo_nomad.acceptance.headers import name_fault, value_fault
from gloo_nomad.api.gen import envoy_trace_pb2, http_listener_options_pb2, tracing_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.messages import duration, typed_config
from gloo_nomad.options.guards import field_path, refuse_breaches, refuse_durations, refuse_enum, refuse_percentage
from gloo_nomad.options.hooks import EVERY, Claims, ListenerContext
from gloo_nomad.reports import Finding, Findings, error, is_rejected, warning

FIELDS: Claims = {
    "hcm.options.gloo.solo.io.HttpConnectionManagerSettings": ("tracing",),
    "tracing.options.gloo.solo.io.ListenerTracingSettings": (
        "datadog_config",
        "environment_variables_for_tags",
        "literals_for_tags",
        "metadata_for_tags",
        "open_telemetry_config",
        "request_headers_for_tags",
        "spawn_upstream_span",
        "trace_percentages",
        "verbose",
        "zipkin_config",
    ),
}
REFUSED: Claims = {"tracing.options.gloo.solo.io.ListenerTracingSettings": ("open_census_config",)}
_TRACE: Final = "solo.io.envoy.config.trace.v3"
READS: Claims = {
    "tracing.options.gloo.solo.io.TracePercentages": EVERY,
    "tracing.options.gloo.solo.io.TracingTagEnvironmentVariable": EVERY,
    "tracing.options.gloo.solo.io.TracingTagLiteral": EVERY,
    "tracing.options.gloo.solo.io.TracingTagMetadata": EVERY,
    "tracing.options.gloo.solo.io.TracingTagMetadata.MetadataValue": EVERY,
    f"{_TRACE}.DatadogConfig": EVERY,
    f"{_TRACE}.DatadogRemoteConfig": EVERY,
    f"{_TRACE}.GrpcService": EVERY,
    f"{_TRACE}.OpenTelemetryConfig": EVERY,
    f"{_TRACE}.ZipkinConfig": EVERY,
}

_PATH: Final = "httpConnectionManagerSettings.tracing"
_SAMPLINGS: Final = (
    ("client_sample_percentage", "client_sampling"),
    ("random_sample_percentage", "random_sampling"),
    ("overall_sample_percentage", "overall_sampling"),
)
_DATADOG_NAME: Final = "envoy"
_Manager: Final = http_connection_manager_pb2.HttpConnectionManager


def apply_connection_manager(
    options: http_listener_options_pb2.HttpListenerOptions, out: Any, context: ListenerContext
) -> Findings:
    if not options.http_connection_manager_settings.HasField("tracing"):
        return ()
    settings = options.http_connection_manager_settings.tracing
    built = _Manager.Tracing(verbose=settings.verbose.value)
    if settings.spawn_upstream_span:
        built.spawn_upstream_span.value = True
    for name, sampling in _SAMPLINGS:
        given = settings.trace_percentages.HasField(name)  # type: ignore[arg-type]
        getattr(built, sampling).value = getattr(settings.trace_percentages, name).value if given else 100.0
    findings = [
        *_check_percentages(settings),
        *_apply_tags(settings, built),
        *_apply_provider(settings, built, context),
    ]
    if not is_rejected(findings):
        findings += refuse_breaches(built, "")
    lost = settings.WhichOneof("provider_config") is not None and not built.HasField("provider")
    if not is_rejected(findings) and not lost:
        out.tracing.CopyFrom(built)
    return [finding.under(_PATH) for finding in findings]


def _check_percentages(settings: tracing_pb2.ListenerTracingSettings) -> Iterator[Finding]:
    for name, _ in _SAMPLINGS:
        yield from refuse_percentage(settings.trace_percentages, name, "tracePercentages")


def _apply_tags(settings: tracing_pb2.ListenerTracingSettings, out: Any) -> Iterator[Finding]:
    for index, header in enumerate(settings.request_headers_for_tags):
        if fault := name_fault(header.value, pseudo=True):
            yield error(f"requestHeadersForTags[{index}]", fault)
        out.custom_tags.add(tag=header.value).request_header.name = header.value
    for index, variable in enumerate(settings.environment_variables_for_tags):
        path = f"environmentVariablesForTags[{index}]"
        yield from _require(path, tag=variable.tag.value, name=variable.name.value)
        environment = out.custom_tags.add(tag=variable.tag.value).environment
        environment.name, environment.default_value = variable.name.value, variable.default_value.value
    for index, literal in enumerate(settings.literals_for_tags):
        yield from _require(f"literalsForTags[{index}]", tag=literal.tag.value, value=literal.value.value)
        out.custom_tags.add(tag=literal.tag.value).literal.value = literal.value.value
    for index, metadata in enumerate(settings.metadata_for_tags):
        yield from _require(f"metadataForTags[{index}]", tag=metadata.tag)
        for finding in _apply_metadata(metadata, out.custom_tags.add(tag=metadata.tag).metadata):
            yield finding.under(f"metadataForTags[{index}]")


def _require(path: str, **values: str) -> Iterator[Finding]:
    for name, value in values.items():
        if not value:
            yield error(f"{path}.{name}", "is required")


def _apply_metadata(metadata: tracing_pb2.TracingTagMetadata, out: custom_tag_pb2.CustomTag.Metadata) -> Findings:
    yield from refuse_enum(metadata, "kind")
    yield from _require("value", namespace=metadata.value.namespace, key=metadata.value.key)
    if metadata.kind == tracing_pb2.TracingTagMetadata.ENDPOINT:
        out.kind.host.SetInParent()
    else:
        out.kind.request.SetInParent()
    out.metadata_key.key = metadata.value.namespace
    keys = metadata.value.key.split(metadata.value.nested_field_delimiter or ".")
    for key in keys:
        out.metadata_key.path.add(key=key)
    if metadata.value.key and not all(keys):
        yield error("value.key", "has an empty part; write keys with the delimiter between them")
    out.default_value = metadata.default_value


def _apply_provider(
    settings: tracing_pb2.ListenerTracingSettings, out: Any, context: ListenerContext
) -> Iterator[Finding]:
    """The tracer; none while there is no collector."""
    kind = settings.WhichOneof("provider_config")
    if kind == "open_census_config":
        text = "Envoy has no OpenCensus any more; use openTelemetryConfig, which most of its collectors understand"
        yield error("openCensusConfig", text)
    if kind is None or kind not in _PROVIDERS:
        return
    name, build = _PROVIDERS[kind]
    wanted = getattr(settings, kind)
    cluster, findings = _find_collector(wanted, context, grpc=name == "opentelemetry")
    config = build(wanted, context)
    findings += _check_provider(wanted)
    if cluster:
        if name == "opentelemetry":
            config.grpc_service.envoy_grpc.cluster_name = cluster
        else:
            config.collector_cluster = cluster
        if not is_rejected(findings):
            findings += refuse_breaches(config, "")
        out.provider.name = f"envoy.tracers.{name}"
        out.provider.typed_config.CopyFrom(typed_config(config))
    yield from (finding.under(field_path(settings, kind)) for finding in findings)


def _build_zipkin(wanted: Any, context: ListenerContext) -> Any:
    config = zipkin_pb2.ZipkinConfig(
        collector_endpoint=wanted.collector_endpoint,
        trace_id_128bit=wanted.trace_id_128bit.value,
        collector_endpoint_version=wanted.collector_endpoint_version or zipkin_pb2.ZipkinConfig.HTTP_JSON,
    )
    if wanted.HasField("shared_span_context"):
        config.shared_span_context.value = wanted.shared_span_context.value
    return config


def _build_datadog(wanted: Any, context: ListenerContext) -> Any:
    config = datadog_pb2.DatadogConfig(
        service_name=wanted.service_name.value or _DATADOG_NAME, collector_hostname=wanted.collector_hostname
    )
    if wanted.HasField("remote_config") and not wanted.remote_config.disabled.value:
        config.remote_config.SetInParent()
        if wanted.remote_config.HasField("polling_interval"):
            config.remote_config.polling_interval.CopyFrom(wanted.remote_config.polling_interval)
    return config


def _build_open_telemetry(wanted: Any, context: ListenerContext) -> Any:
    config = opentelemetry_pb2.OpenTelemetryConfig(service_name=wanted.service_name or context.source.name)
    config.grpc_service.envoy_grpc.authority = wanted.grpc_service.authority
    if wanted.HasField("max_cache_size"):
        config.max_cache_size.value = wanted.max_cache_size.value
    return config


_PROVIDERS: Final[Mapping[str, tuple[str, Callable[[Any, ListenerContext], Any]]]] = {
    "zipkin_config": ("zipkin", _build_zipkin),
    "datadog_config": ("datadog", _build_datadog),
    "open_telemetry_config": ("opentelemetry", _build_open_telemetry),
}
"""By field the name of the tracer, and what makes its configuration."""


def _check_provider(wanted: Any) -> Iterator[Finding]:
    """What is wrong with a tracer, its collector aside."""
    if isinstance(wanted, envoy_trace_pb2.ZipkinConfig):
        yield from refuse_enum(wanted, "collector_endpoint_version")
        if not wanted.collector_endpoint.startswith("/") or value_fault(wanted.collector_endpoint):
            yield error("collectorEndpoint", "is required: a path like /api/v2/spans")
    elif isinstance(wanted, envoy_trace_pb2.DatadogConfig):
        if fault := value_fault(wanted.collector_hostname):
            yield error("collectorHostname", fault)
        yield from refuse_durations(wanted.remote_config, ("polling_interval",), "remoteConfig")
        if wanted.remote_config.HasField("polling_interval") and wanted.remote_config.polling_interval == duration(0):
            yield error("remoteConfig.pollingInterval", "must be longer than 0s")
    elif fault := value_fault(wanted.grpc_service.authority):
        yield error("grpcService.authority", fault)


def _find_collector(wanted: Any, context: ListenerContext, *, grpc: bool = False) -> tuple[str, list[Finding]]:
    """The collector's cluster ("" for none), and what is wrong; a name is one of Envoy's bootstrap, taken as it is."""
    match wanted.WhichOneof("collector_cluster"):
        case "cluster_name" if wanted.cluster_name:
            return wanted.cluster_name, []
        case "collector_upstream_ref":
            ref = Ref(wanted.collector_upstream_ref.namespace, wanted.collector_upstream_ref.name)
        case _:
            return "", [error("collectorUpstreamRef", "or clusterName is required: where spans are sent to")]
    cluster = context.find_cluster(ref)
    if not cluster:
        text = f"upstream {ref} does not exist or is rejected; nothing is traced until it is there"
        return "", [warning("collectorUpstreamRef", text)]
    upstream = context.upstream(ref)
    if grpc and upstream is not None and not upstream.use_http2.value:
        return cluster, [
            warning("collectorUpstreamRef.name", f"upstream {ref} needs useHttp2: true to be asked by gRPC")
        ]
    return cluster, []
