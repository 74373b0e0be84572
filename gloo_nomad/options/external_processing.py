"""Lets a server look at requests and answers, and change them (Envoy's ext_proc), in up to three places.

``extProcEarly`` stands before everything else, ``extProc`` after authorisation (or where its ``filterStage`` says),
``extProcLate`` just before a request is forwarded. Each is configured in the Settings, or by a gateway in their place;
a gateway can do without, and a virtual host or route can do without or ask in another way. A server that does not
exist is one that does not answer: requests fail, unless ``failureModeAllow``.
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/ext_proc_filter
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from envoy.config.core.v3 import base_pb2, grpc_service_pb2
from envoy.extensions.filters.http.ext_proc.v3 import ext_proc_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from gloo_nomad.acceptance.headers import name_fault, value_fault
from gloo_nomad.acceptance.quoting import quote
from gloo_nomad.acceptance.regexes import regex_fault
from gloo_nomad.api.gen import (
    envoy_core_pb2,
    envoy_matcher_pb2,
    extproc_pb2,
    filter_stage_pb2,
    route_options_pb2,
    virtual_host_options_pb2,
)
from gloo_nomad.api.refs import Ref
from gloo_nomad.messages import regex_matcher, typed_config
from gloo_nomad.options.guards import field_path, refuse_breaches, refuse_durations, refuse_enum
from gloo_nomad.options.hooks import EVERY, Claims, ListenerContext, RouteContext, VirtualHostContext
from gloo_nomad.options.servers import MISSING_CLUSTER, about_settings, missing_server, server_cluster
from gloo_nomad.options.stages import Position, Stage, StagedFilter
from gloo_nomad.reports import Finding, Findings, error, is_rejected, warning

FILTER: Final = "envoy.filters.http.ext_proc"
_NAMES: Final = ("ext_proc_early", "ext_proc", "ext_proc_late")
_MODES: Final = tuple(
    f"{side}_{part}_mode" for side in ("request", "response") for part in ("header", "body", "trailer")
)
_ATTRIBUTE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*(\['[A-Za-z0-9_.:/ -]*'\])?")
_RESERVED: Final = frozenset(
    (
        "as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let",
        "loop", "namespace", "null", "package", "return", "true", "var", "void", "while",
    )
)  # fmt: skip
"""Words of CEL that are no names: https://github.com/google/cel-spec/blob/master/doc/langdef.md#syntax."""
_LEAST_NANOSECONDS: Final = 1_000_000
_OPTIONS: Final = "extproc.options.gloo.solo.io"

FIELDS: Claims = {
    "gloo.solo.io.HttpListenerOptions": (*_NAMES, *(f"disable_{name}" for name in _NAMES)),
    "gloo.solo.io.Settings": _NAMES,
    "gloo.solo.io.RouteOptions": _NAMES,
    "gloo.solo.io.VirtualHostOptions": _NAMES,
    f"{_OPTIONS}.Settings": EVERY,
    f"{_OPTIONS}.GrpcService": EVERY,
    f"{_OPTIONS}.HeaderForwardingRules": EVERY,
    f"{_OPTIONS}.RouteSettings": EVERY,
    f"{_OPTIONS}.Overrides": (
        "processing_mode",
        "request_attributes",
        "response_attributes",
        "grpc_service",
        "metadata_context_namespaces",
        "typed_metadata_context_namespaces",
    ),
}


@dataclass(frozen=True, slots=True)
class _Place:
    """One of the three places: its option, the name of its filter, and where it stands by default."""

    field: str
    written: str
    filter: str
    stage: Stage
    position: Position


_PLACES: Final = (
    _Place("ext_proc_early", "extProcEarly", f"{FILTER}.early", Stage.FAULT, Position.BEFORE),
    _Place("ext_proc", "extProc", FILTER, Stage.AUTHZ, Position.AFTER),
    _Place("ext_proc_late", "extProcLate", f"{FILTER}.late", Stage.ROUTE, Position.AFTER),
)
_POSITIONS: Final = {
    filter_stage_pb2.FilterStage.Before: Position.BEFORE,
    filter_stage_pb2.FilterStage.During: Position.DURING,
    filter_stage_pb2.FilterStage.After: Position.AFTER,
}


def apply_virtual_host(
    options: virtual_host_options_pb2.VirtualHostOptions, out: Any, context: VirtualHostContext
) -> Findings:
    return _apply(options, out, context)


def apply_route(options: route_options_pb2.RouteOptions, out: Any, context: RouteContext) -> Findings:
    return _apply(options, out, context)


def http_filters(context: ListenerContext) -> Iterable[StagedFilter | Finding]:
    options: Any = context.options
    for place in _PLACES:
        own = options.HasField(place.field)
        holder: Any = options if own else context.settings
        disabled = getattr(options, f"disable_{place.field}").value
        if not disabled and holder.HasField(place.field):
            yield from _filter(place, getattr(holder, place.field), own, context.find_cluster)


def _filter(
    place: _Place, settings: extproc_pb2.Settings, own: bool, find_cluster: Callable[[Ref], str]
) -> Iterator[StagedFilter | Finding]:
    """A mistake in the Settings is a warning on the gateway, and the server is not asked."""
    built = _build_filter(settings, server_cluster(settings.grpc_service.ext_proc_server_ref, find_cluster))
    findings = [*_check(settings, built)]
    if is_rejected(findings):
        minimal = extproc_pb2.Settings(failure_mode_allow=settings.failure_mode_allow)
        built = _build_filter(minimal, MISSING_CLUSTER)
    if fault := missing_server(settings.grpc_service.ext_proc_server_ref, find_cluster):
        outcome = "its part is left out" if settings.failure_mode_allow.value else "requests fail"
        findings.append(warning("grpcService.extProcServerRef", f"{fault}; {outcome}"))
    yield from (finding.under(place.written) if own else about_settings(place.written, finding) for finding in findings)
    http_filter = http_connection_manager_pb2.HttpFilter(name=place.filter, typed_config=typed_config(built))
    stage, position = place.stage, place.position
    if settings.HasField("filter_stage") and not is_rejected(findings):
        stage, position = Stage(settings.filter_stage.stage), _POSITIONS[settings.filter_stage.predicate]
    yield StagedFilter(stage, http_filter, position)


def _apply(options: Any, out: Any, context: VirtualHostContext | RouteContext) -> Iterator[Finding]:
    for place in _PLACES:
        if not options.HasField(place.field):
            continue
        built = ext_proc_pb2.ExtProcPerRoute()
        findings = [*_apply_override(getattr(options, place.field), built, context)]
        yield from (finding.under(place.written) for finding in findings)
        if built.WhichOneof("override") and not is_rejected(findings):
            out.typed_per_filter_config[place.filter].CopyFrom(typed_config(built))


def _apply_override(
    wanted: extproc_pb2.RouteSettings, out: Any, context: VirtualHostContext | RouteContext
) -> Iterator[Finding]:
    match wanted.WhichOneof("override"):
        case "disabled":
            if wanted.disabled.value:
                out.disabled = True
        case "overrides":
            for finding in _apply_overrides(wanted.overrides, out.overrides, context):
                yield finding.under("overrides")
        case _:
            yield error("", "needs disabled or overrides")


def _apply_overrides(
    wanted: extproc_pb2.Overrides, out: Any, context: VirtualHostContext | RouteContext
) -> Iterator[Finding]:
    out.SetInParent()
    if wanted.HasField("processing_mode"):
        out.processing_mode.MergeFromString(wanted.processing_mode.SerializeToString())
    out.request_attributes.extend(wanted.request_attributes)
    out.response_attributes.extend(wanted.response_attributes)
    _apply_namespaces(wanted, out)
    if wanted.HasField("grpc_service"):
        ref = wanted.grpc_service.ext_proc_server_ref
        _apply_grpc(wanted.grpc_service, server_cluster(ref, context.find_cluster), out.grpc_service)
        if fault := missing_server(ref, context.find_cluster):
            yield warning("grpcService.extProcServerRef", f"{fault}; it does not answer")
    findings = [finding.under("grpcService") for finding in _check_grpc(wanted.grpc_service)]
    findings += _check_attributes(wanted)
    for name in _MODES if wanted.HasField("processing_mode") else ():
        findings += refuse_enum(wanted.processing_mode, name, "processingMode")
    yield from findings or refuse_breaches(out, "")


def _check(settings: extproc_pb2.Settings, built: Any) -> Iterator[Finding]:
    findings = [finding.under("grpcService") for finding in _check_grpc(settings.grpc_service)]
    findings += _check_attributes(settings)
    findings += refuse_durations(settings, ("message_timeout", "max_message_timeout"))
    for name in _MODES:
        findings += refuse_enum(settings.processing_mode, name, "processingMode")
    for name in ("stage", "predicate"):
        findings += refuse_enum(settings.filter_stage, name, "filterStage")
    findings += _check_expressions(settings)
    yield from findings or refuse_breaches(built, "")


def _check_attributes(settings: Any) -> Iterator[Finding]:
    """Envoy reads them as expressions of CEL, of which only those that name an attribute are let through."""
    for field in ("request_attributes", "response_attributes"):
        for index, attribute in enumerate(getattr(settings, field)):
            if not _ATTRIBUTE.fullmatch(attribute) or not _RESERVED.isdisjoint(attribute.split(".")):
                text = f"{quote(attribute)} names no attribute; write one like request.path or request.headers['x-id']"
                yield error(f"{field_path(settings, field)}[{index}]", text)


def _check_expressions(settings: extproc_pb2.Settings) -> Iterator[Finding]:
    rules = settings.mutation_rules
    for written, set_, expression in (
        ("allowExpression", rules.HasField("allow_expression"), rules.allow_expression),
        ("disallowExpression", rules.HasField("disallow_expression"), rules.disallow_expression),
    ):
        if set_ and (fault := regex_fault(expression.regex)):
            yield error(f"mutationRules.{written}", fault)
    for written, headers in (
        ("allowedHeaders", settings.forward_rules.allowed_headers),
        ("disallowedHeaders", settings.forward_rules.disallowed_headers),
    ):
        for index, pattern in enumerate(headers.patterns):
            yield from _check_pattern(pattern, f"forwardRules.{written}.patterns[{index}]")


def _check_pattern(pattern: envoy_matcher_pb2.StringMatcher, path: str) -> Iterator[Finding]:
    if not pattern.HasField("safe_regex"):
        return
    if fault := regex_fault(pattern.safe_regex.regex):
        yield error(f"{path}.safeRegex", fault)
    if pattern.ignore_case:
        yield error(f"{path}.ignoreCase", "does not go with a regular expression; begin that with (?i)")


def _check_grpc(service: extproc_pb2.GrpcService) -> Iterator[Finding]:
    if fault := value_fault(service.authority.value):
        yield error("authority", fault)
    yield from refuse_durations(service, ("timeout",))
    if service.retry_policy.HasField("retry_back_off"):
        for finding in _check_back_off(service.retry_policy.retry_back_off):
            yield finding.under("retryPolicy.retryBackOff")
    for index, header in enumerate(service.initial_metadata):
        if fault := name_fault(header.key) or value_fault(header.value):
            yield error(f"initialMetadata[{index}]", fault)


def _check_back_off(back_off: envoy_core_pb2.BackoffStrategy) -> Iterator[Finding]:
    faults = [*refuse_durations(back_off, ("base_interval", "max_interval"))]
    yield from faults
    first, longest = back_off.base_interval.ToNanoseconds(), back_off.max_interval.ToNanoseconds()
    if faults:
        return
    if first < _LEAST_NANOSECONDS:
        yield error("baseInterval", "is required, and at least 0.001s")
    elif back_off.HasField("max_interval") and longest < first:
        yield error("maxInterval", "must not be less than baseInterval")


def _build_filter(settings: Any, cluster: str) -> Any:
    built = ext_proc_pb2.ExternalProcessor(
        failure_mode_allow=settings.failure_mode_allow.value,
        observability_mode=settings.async_mode.value,
        request_attributes=settings.request_attributes,
        response_attributes=settings.response_attributes,
        stat_prefix=settings.stat_prefix.value,
        disable_clear_route_cache=settings.disable_clear_route_cache.value,
        allow_mode_override=settings.allow_mode_override.value,
    )
    _apply_grpc(settings.grpc_service, cluster, built.grpc_service)
    for name in ("message_timeout", "max_message_timeout", "filter_metadata"):
        if settings.HasField(name):
            getattr(built, name).CopyFrom(getattr(settings, name))
    for name in ("processing_mode", "mutation_rules", "forward_rules"):
        if settings.HasField(name):
            getattr(built, name).MergeFromString(getattr(settings, name).SerializeToString())
    _apply_regexes(built)
    _apply_namespaces(settings, built)
    return built


def _apply_regexes(out: Any) -> None:
    """Expressions say how large they may be."""
    for name in ("allow_expression", "disallow_expression"):
        if out.mutation_rules.HasField(name):
            expression = getattr(out.mutation_rules, name)
            expression.CopyFrom(regex_matcher(expression.regex))
    for list_ in (out.forward_rules.allowed_headers, out.forward_rules.disallowed_headers):
        for pattern in list_.patterns:
            if pattern.HasField("safe_regex"):
                pattern.safe_regex.CopyFrom(regex_matcher(pattern.safe_regex.regex))


def _apply_namespaces(wanted: Any, out: Any) -> None:
    if wanted.metadata_context_namespaces:
        out.metadata_options.forwarding_namespaces.untyped.extend(wanted.metadata_context_namespaces)
    if wanted.typed_metadata_context_namespaces:
        out.metadata_options.forwarding_namespaces.typed.extend(wanted.typed_metadata_context_namespaces)


def _apply_grpc(service: extproc_pb2.GrpcService, cluster: str, out: grpc_service_pb2.GrpcService) -> None:
    out.envoy_grpc.cluster_name = cluster
    out.envoy_grpc.authority = service.authority.value
    if service.HasField("timeout"):
        out.timeout.CopyFrom(service.timeout)
    if service.HasField("retry_policy"):
        out.retry_policy.MergeFromString(service.retry_policy.SerializeToString())
    out.initial_metadata.extend(
        base_pb2.HeaderValue(key=header.key, value=header.value) for header in service.initial_metadata
    )
