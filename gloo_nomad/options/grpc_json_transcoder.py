"""gRPC services for clients that speak HTTP and JSON: on a gateway, or by the ``serviceSpec`` of an Upstream.

The descriptors of the services come from a file of Envoy's machine, from the object itself, or from an Artifact. A file
cannot be looked into beforehand: if it does not fit, Envoy refuses the listener and says so.

The other kinds of a ``serviceSpec``, ``rest`` and ``grpc``, say what a service can do. Discovery and people keep them
there, and Envoy gets nothing of them: a route that calls such a function by name (``destinationSpec``) is told so.
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/grpc_json_transcoder_filter
"""

import base64
import binascii
from collections.abc import Iterable, Iterator
from typing import Any, Final

from envoy.extensions.filters.http.grpc_json_transcoder.v3 import transcoder_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from gloo_nomad.acceptance.descriptors import descriptor_fault
from gloo_nomad.acceptance.headers import value_fault
from gloo_nomad.acceptance.quoting import quote
from gloo_nomad.api.gen import grpc_json_pb2, upstream_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.messages import typed_config
from gloo_nomad.options.guards import refuse_breaches
from gloo_nomad.options.hooks import EVERY, Claims, Context, ListenerContext, RouteContext
from gloo_nomad.options.stages import Position, Stage, StagedFilter
from gloo_nomad.reports import Finding, Findings, error, is_rejected

FILTER: Final = "envoy.filters.http.grpc_json_transcoder"

FIELDS: Claims = {
    "gloo.solo.io.HttpListenerOptions": ("grpc_json_transcoder",),
    "options.gloo.solo.io.ServiceSpec": ("grpc_json_transcoder", "rest", "grpc"),
    "consul.options.gloo.solo.io.UpstreamSpec": ("service_spec",),
    "pipe.options.gloo.solo.io.UpstreamSpec": ("service_spec",),
    "static.options.gloo.solo.io.UpstreamSpec": ("service_spec",),
}
READS: Claims = {
    "grpc_json.options.gloo.solo.io.GrpcJsonTranscoder": EVERY,
    "grpc_json.options.gloo.solo.io.GrpcJsonTranscoder.DescriptorConfigMap": EVERY,
    "grpc_json.options.gloo.solo.io.GrpcJsonTranscoder.PrintOptions": EVERY,
}

_FLAGS: Final = (
    "auto_mapping",
    "convert_grpc_status",
    "ignore_unknown_query_parameters",
    "match_incoming_request_route",
)
_PRINTED: Final = (
    "add_whitespace",
    "always_print_enums_as_ints",
    "always_print_primitive_fields",
    "preserve_proto_field_names",
)


def http_filters(context: ListenerContext) -> Iterable[StagedFilter | Finding]:
    if context.options.HasField("grpc_json_transcoder"):
        config, findings = _build(context.options.grpc_json_transcoder, context)
        yield from (finding.under("grpcJsonTranscoder") for finding in findings)
        if not is_rejected(findings):
            yield _build_filter(config)
    elif FILTER in context.used_filters:
        yield _build_filter(transcoder_pb2.GrpcJsonTranscoder(proto_descriptor_bin=b""))


def apply_upstream(upstream: upstream_pb2.Upstream, out: Any, context: RouteContext) -> Findings:
    spec = getattr(upstream, upstream.WhichOneof("upstream_type") or "static").service_spec
    if spec.WhichOneof("plugin_type") != "grpc_json_transcoder":
        return ()
    config, findings = _build(spec.grpc_json_transcoder, context)
    if not is_rejected(findings):
        out.typed_per_filter_config[FILTER].CopyFrom(typed_config(config))
    return [finding.under("serviceSpec.grpcJsonTranscoder") for finding in findings]


def apply_cluster(upstream: upstream_pb2.Upstream, out: Any, context: Context) -> Findings:
    """Says to the Upstream what is wrong; nothing of it is in the cluster."""
    kind = upstream.WhichOneof("upstream_type") or "static"
    spec = getattr(getattr(upstream, kind), "service_spec", None)
    if spec is None or spec.WhichOneof("plugin_type") != "grpc_json_transcoder":
        return ()
    _, findings = _build(spec.grpc_json_transcoder, context)
    return [finding.under(f"{kind}.serviceSpec.grpcJsonTranscoder") for finding in findings]


def _build(wanted: grpc_json_pb2.GrpcJsonTranscoder, context: Context) -> tuple[Any, list[Finding]]:
    config = transcoder_pb2.GrpcJsonTranscoder(
        services=wanted.services, ignored_query_parameters=wanted.ignored_query_parameters
    )
    for name in _FLAGS:
        setattr(config, name, getattr(wanted, name))
    if wanted.HasField("print_options"):
        config.print_options.SetInParent()
        for name in _PRINTED:
            setattr(config.print_options, name, getattr(wanted.print_options, name))
    findings = [*_apply_descriptors(wanted, config, context)]
    if not wanted.services:
        findings.append(error("services", "is empty: name the services to translate for, like shop.Catalog"))
    if not is_rejected(findings):
        findings += refuse_breaches(config, "")
    return config, findings


def _apply_descriptors(wanted: grpc_json_pb2.GrpcJsonTranscoder, out: Any, context: Context) -> Iterator[Finding]:
    match wanted.WhichOneof("descriptor_set"):
        case "proto_descriptor":
            out.proto_descriptor = wanted.proto_descriptor
            if not wanted.proto_descriptor or value_fault(wanted.proto_descriptor):
                yield error("protoDescriptor", f"{quote(wanted.proto_descriptor)} is no path of a file")
            return
        case "proto_descriptor_bin":
            path, data = "protoDescriptorBin", wanted.proto_descriptor_bin
        case "proto_descriptor_config_map":
            path = "protoDescriptorConfigMap"
            found = _read_artifact(wanted.proto_descriptor_config_map, context)
            if isinstance(found, Finding):
                yield found.under(path)
                return
            data = found
        case _:
            yield error("", "needs protoDescriptor, protoDescriptorBin or protoDescriptorConfigMap")
            return
    out.proto_descriptor_bin = data
    if fault := descriptor_fault(data, tuple(wanted.services)):
        yield error(path, fault)


def _read_artifact(wanted: grpc_json_pb2.GrpcJsonTranscoder.DescriptorConfigMap, context: Context) -> bytes | Finding:
    """The descriptors in an Artifact, where they stand in base64."""
    ref = Ref(wanted.config_map_ref.namespace, wanted.config_map_ref.name)
    artifact = context.artifact(ref)
    if artifact is None:
        return error("configMapRef", f"there is no Artifact {quote(str(ref))}")
    keys = sorted(artifact.data)
    if not wanted.key and len(keys) != 1:
        return error("key", f"is required: the Artifact {ref} has {len(keys)} entries ({', '.join(keys)[:200]})")
    key = wanted.key or keys[0]
    if key not in artifact.data:
        return error("key", f"the Artifact {ref} has no entry {quote(key)}; it has {', '.join(keys)[:200]}")
    try:
        return base64.b64decode("".join(artifact.data[key].split()), validate=True)
    except (binascii.Error, ValueError):
        return error("configMapRef", f"the entry {quote(key)} of the Artifact {ref} is not base64")


def _build_filter(config: Any) -> StagedFilter:
    built = http_connection_manager_pb2.HttpFilter(name=FILTER, typed_config=typed_config(config))
    return StagedFilter(Stage.OUT_AUTH, built, Position.BEFORE)
