"""Asks a rate limit server about requests: which server, and by what of a request it counts.

The server is of ``Settings.ratelimitServer``, or of the gateway's ``ratelimitServer``. Envoy's protocol, with the
domain ``custom`` and one descriptor for each entry of ``rateLimits``; entries without actions are skipped.
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/rate_limit_filter
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from envoy.config.core.v3 import config_source_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.filters.http.ratelimit.v3 import rate_limit_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from gloo_nomad.acceptance.headers import name_fault, value_fault
from gloo_nomad.acceptance.regexes import regex_fault
from gloo_nomad.api.gen import (
    ratelimit_api_pb2,
    ratelimit_pb2,
    route_options_pb2,
    settings_pb2,
    virtual_host_options_pb2,
)
from gloo_nomad.messages import regex_matcher, typed_config
from gloo_nomad.options.guards import ONLY_FORWARDED, refuse_durations
from gloo_nomad.options.hooks import EVERY, Claims, ListenerContext, RouteContext, VirtualHostContext
from gloo_nomad.options.servers import (
    MISSING_CLUSTER,
    about_settings,
    build_grpc,
    missing_server,
    server_cluster,
)
from gloo_nomad.options.stages import Position, Stage, StagedFilter
from gloo_nomad.reports import Finding, Findings, error, is_rejected, warning

FILTER: Final = "envoy.filters.http.ratelimit"
DOMAIN: Final = "custom"
STAGE: Final = 1
STAGE_BEFORE_AUTH: Final = 3
TIMEOUT_SECONDS: Final = 0.1

_API: Final = "ratelimit.api.solo.io"
_OPTIONS: Final = "ratelimit.options.gloo.solo.io"
FIELDS: Claims = {
    "gloo.solo.io.HttpListenerOptions": ("ratelimit_server",),
    "gloo.solo.io.Settings": ("ratelimit_server",),
    "gloo.solo.io.RouteOptions": ("ratelimit",),
    "gloo.solo.io.VirtualHostOptions": ("ratelimit",),
    f"{_OPTIONS}.Settings": EVERY,
    f"{_OPTIONS}.GrpcService": EVERY,
    f"{_OPTIONS}.RateLimitRouteExtension": ("include_vh_rate_limits", "rate_limits"),
    f"{_OPTIONS}.RateLimitVhostExtension": ("rate_limits",),
    f"{_API}.RateLimitActions": ("actions", "limit"),
    f"{_API}.Action": (
        "source_cluster",
        "destination_cluster",
        "request_headers",
        "remote_address",
        "generic_key",
        "header_value_match",
        "metadata",
    ),
}
READS: Claims = {
    f"{_API}.Action.RequestHeaders": EVERY,
    f"{_API}.Action.GenericKey": EVERY,
    f"{_API}.Action.HeaderValueMatch": EVERY,
    f"{_API}.Action.HeaderValueMatch.HeaderMatcher": EVERY,
    f"{_API}.Action.HeaderValueMatch.HeaderMatcher.Int64Range": EVERY,
    f"{_API}.MetaData": EVERY,
    f"{_API}.MetaData.MetadataKey": EVERY,
    f"{_API}.MetaData.MetadataKey.PathSegment": EVERY,
    f"{_API}.Override": EVERY,
    f"{_API}.Override.DynamicMetadata": EVERY,
}
REFUSED: Claims = {f"{_API}.Action": ("cel",)}
ROUTES_READ: Final = ("ratelimit_server",)
_PATH: Final = "ratelimit.rateLimits"


def apply_virtual_host(
    options: virtual_host_options_pb2.VirtualHostOptions, out: Any, context: VirtualHostContext
) -> Findings:
    if not options.ratelimit.rate_limits:
        return ()
    return _apply(options.ratelimit.rate_limits, out.rate_limits, context)


def apply_route(options: route_options_pb2.RouteOptions, out: Any, context: RouteContext) -> Findings:
    if not options.HasField("ratelimit"):
        return ()
    findings: list[Finding] = []
    if options.ratelimit.rate_limits:
        if context.has_route_action:
            findings += _apply(options.ratelimit.rate_limits, out.route.rate_limits, context)
        else:
            findings.append(error(_PATH, ONLY_FORWARDED))
    if options.ratelimit.include_vh_rate_limits and context.has_route_action:
        out.route.include_vh_rate_limits.value = True
    return findings


def http_filters(context: ListenerContext) -> Iterable[StagedFilter | Finding]:
    server, path = _server(context.options, context.settings)
    if server is None:
        return
    findings = [*_check(server)]
    usable = not is_rejected(findings)
    if fault := missing_server(server.ratelimit_server_ref, context.find_cluster):
        outcome = "requests that are counted are refused" if server.deny_on_fail else "no request is counted"
        findings.append(warning("ratelimitServerRef", f"{fault}; {outcome}"))
    yield from (finding.under(path) if path else about_settings("ratelimitServer", finding) for finding in findings)
    cluster = server_cluster(server.ratelimit_server_ref, context.find_cluster)
    config = typed_config(_build_filter(server, cluster if usable else MISSING_CLUSTER, usable=usable))
    built = http_connection_manager_pb2.HttpFilter(name=FILTER, typed_config=config)
    if server.rate_limit_before_auth:
        yield StagedFilter(Stage.AUTHN, built, Position.BEFORE)
    else:
        yield StagedFilter(Stage.RATE_LIMIT, built)


def _check(server: ratelimit_pb2.Settings) -> Iterator[Finding]:
    yield from refuse_durations(server, ("request_timeout",))
    if fault := value_fault(server.grpc_service.authority):
        yield error("grpcService.authority", fault)


def _server(options: Any, settings: settings_pb2.Settings) -> tuple[ratelimit_pb2.Settings | None, str]:
    """The server in force, and where it is written: below the gateway's options, or "" for the settings."""
    if options.HasField("ratelimit_server"):
        return options.ratelimit_server, "ratelimitServer"
    return (settings.ratelimit_server if settings.HasField("ratelimit_server") else None), ""


def _build_filter(server: ratelimit_pb2.Settings, cluster: str, *, usable: bool) -> Any:
    timeout = server.request_timeout if usable and server.HasField("request_timeout") else None
    built = rate_limit_pb2.RateLimit(
        domain=DOMAIN, stage=_stage(server), request_type="both", failure_mode_deny=server.deny_on_fail
    )
    if server.enable_x_ratelimit_headers:
        built.enable_x_ratelimit_headers = rate_limit_pb2.RateLimit.DRAFT_VERSION_03
    grpc = build_grpc(cluster, server.grpc_service.authority if usable else "", timeout, TIMEOUT_SECONDS)
    built.timeout.CopyFrom(grpc.timeout)
    built.rate_limit_service.grpc_service.CopyFrom(grpc)
    built.rate_limit_service.transport_api_version = config_source_pb2.ApiVersion.V3
    return built


def _stage(server: ratelimit_pb2.Settings) -> int:
    return STAGE_BEFORE_AUTH if server.rate_limit_before_auth else STAGE


def _apply(
    limits: Iterable[ratelimit_api_pb2.RateLimitActions], out: Any, context: VirtualHostContext | RouteContext
) -> list[Finding]:
    server, _ = _server(context.listener, context.settings)
    findings: list[Finding] = []
    built = [_build_limit(limit, f"{_PATH}[{index}]", findings) for index, limit in enumerate(limits)]
    if is_rejected(findings):
        return findings
    for limit in built:
        if limit.actions:
            limit.stage.value = _stage(server) if server is not None else STAGE
            out.append(limit)
    if server is None:
        text = "there is no server to ask: set ratelimitServer in the Settings or in the gateway's options"
        findings.append(warning(_PATH, text))
    return findings


def _build_limit(limit: ratelimit_api_pb2.RateLimitActions, path: str, findings: list[Finding]) -> Any:
    built = route_components_pb2.RateLimit()
    for index, action in enumerate(limit.actions):
        findings += [fault.under(f"{path}.actions[{index}]") for fault in _apply_action(action, built.actions.add())]
    if limit.limit.HasField("dynamic_metadata"):
        key = built.limit.dynamic_metadata.metadata_key
        faults = _apply_key(limit.limit.dynamic_metadata.metadata_key, key)
        findings += [fault.under(f"{path}.limit.dynamicMetadata.metadataKey") for fault in faults]
    return built


def _apply_action(action: ratelimit_api_pb2.Action, out: Any) -> Iterator[Finding]:
    kind = action.WhichOneof("action_specifier")
    apply = _ACTIONS.get(kind or "")
    if kind is None:
        yield error("", "names nothing to count by")
    elif apply is not None:
        for finding in apply(getattr(action, kind), getattr(out, kind)):
            yield finding.under(str(action.DESCRIPTOR.fields_by_name[kind].camelcase_name))
    elif kind == "cel":
        yield error("cel", "is an action of another product than Envoy; count by headers or metadata")
    else:
        getattr(out, kind).SetInParent()


def _apply_request_headers(action: ratelimit_api_pb2.Action.RequestHeaders, out: Any) -> Iterator[Finding]:
    out.header_name, out.descriptor_key = action.header_name, action.descriptor_key
    if fault := name_fault(action.header_name, pseudo=True):
        yield error("headerName", fault)
    if not action.descriptor_key:
        yield error("descriptorKey", "is required")


def _apply_generic_key(action: ratelimit_api_pb2.Action.GenericKey, out: Any) -> Iterator[Finding]:
    out.descriptor_value = action.descriptor_value
    if not action.descriptor_value:
        yield error("descriptorValue", "is required")


def _apply_header_value(action: ratelimit_api_pb2.Action.HeaderValueMatch, out: Any) -> Iterator[Finding]:
    out.descriptor_value = action.descriptor_value
    if action.HasField("expect_match"):
        out.expect_match.value = action.expect_match.value
    if not action.descriptor_value:
        yield error("descriptorValue", "is required")
    if not action.headers:
        yield error("headers", "must name at least one header")
    for index, header in enumerate(action.headers):
        for finding in _apply_header(header, out.headers.add()):
            yield finding.under(f"headers[{index}]")


def _apply_header(header: ratelimit_api_pb2.Action.HeaderValueMatch.HeaderMatcher, out: Any) -> Iterator[Finding]:
    out.name, out.invert_match = header.name, header.invert_match
    if fault := name_fault(header.name, pseudo=True):
        yield error("name", fault)
    match header.WhichOneof("header_match_specifier"):
        case "exact_match":
            out.string_match.exact = header.exact_match
            yield from _check_value("exactMatch", header.exact_match)
        case "prefix_match":
            out.string_match.prefix = header.prefix_match
            yield from _check_value("prefixMatch", header.prefix_match)
        case "suffix_match":
            out.string_match.suffix = header.suffix_match
            yield from _check_value("suffixMatch", header.suffix_match)
        case "regex_match":
            out.string_match.safe_regex.CopyFrom(regex_matcher(header.regex_match))
            if fault := regex_fault(header.regex_match):
                yield error("regexMatch", fault)
        case "range_match":
            out.range_match.start, out.range_match.end = header.range_match.start, header.range_match.end
        case "present_match":
            out.present_match = header.present_match


def _check_value(name: str, value: str) -> Iterator[Finding]:
    if not value:
        yield error(name, "must not be empty")
    elif fault := value_fault(value):
        yield error(name, fault)


def _apply_metadata(action: ratelimit_api_pb2.MetaData, out: Any) -> Iterator[Finding]:
    out.descriptor_key, out.default_value, out.source = action.descriptor_key, action.default_value, int(action.source)
    if not action.descriptor_key:
        yield error("descriptorKey", "is required")
    for finding in _apply_key(action.metadata_key, out.metadata_key):
        yield finding.under("metadataKey")


def _apply_key(key: ratelimit_api_pb2.MetaData.MetadataKey, out: Any) -> Iterator[Finding]:
    out.key = key.key
    if not key.key:
        yield error("key", "is required: the name that the metadata is kept under")
    if not key.path:
        yield error("path", "must have at least one step")
    for index, step in enumerate(key.path):
        out.path.add(key=step.key)
        if not step.key:
            yield error(f"path[{index}].key", "is required")


_ACTIONS: Final[dict[str, Callable[[Any, Any], Iterator[Finding]]]] = {
    "request_headers": _apply_request_headers,
    "generic_key": _apply_generic_key,
    "header_value_match": _apply_header_value,
    "metadata": _apply_metadata,
}
