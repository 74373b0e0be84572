"""Asks an authorisation server about requests (Envoy's ext_authz), where a virtual host or route asks for it.

The server is of ``Settings.extauth``, or of the gateway's ``extauth``. Nothing is ever served open by mistake: what
asks for a check that cannot be made (no server, an Upstream that does not exist, ``configRef``, a name) is rejected,
its last good version is not served either, and Envoy is sent a filter that refuses.
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/ext_authz_filter
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from envoy.config.core.v3 import base_pb2, config_source_pb2
from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2
from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.type.matcher.v3 import string_pb2
from envoy.type.v3 import http_status_pb2

from gloo_nomad.acceptance.headers import name_fault, value_fault
from gloo_nomad.acceptance.regexes import regex_fault
from gloo_nomad.api.gen import (
    extauth_pb2,
    http_listener_options_pb2,
    route_options_pb2,
    settings_pb2,
    virtual_host_options_pb2,
    weighted_destination_options_pb2,
)
from gloo_nomad.messages import duration, exact_matchers, regex_matcher, typed_config
from gloo_nomad.options.guards import refuse_durations
from gloo_nomad.options.hooks import EVERY, Claims, ListenerContext, RouteContext, VirtualHostContext
from gloo_nomad.options.servers import MISSING_CLUSTER, about_settings, build_grpc, missing_server, server_cluster
from gloo_nomad.options.stages import Position, Stage, StagedFilter
from gloo_nomad.reports import Finding, Findings, Severity, error, is_rejected, unprotected, warning

FILTER: Final = "envoy.filters.http.ext_authz"
USER_GUARD: Final = "gloo_nomad.user_id"
TIMEOUT_SECONDS: Final = 0.2
MAX_BODY_BYTES: Final = 4096
TOKENS: Final = "envoy.filters.http.jwt_authn"
"""Whose dynamic metadata the server is told."""

FIELDS: Claims = {
    "gloo.solo.io.HttpListenerOptions": ("extauth",),
    "gloo.solo.io.Settings": ("extauth",),
    "gloo.solo.io.RouteOptions": ("extauth",),
    "gloo.solo.io.VirtualHostOptions": ("extauth",),
    "gloo.solo.io.WeightedDestinationOptions": ("extauth",),
    "enterprise.gloo.solo.io.ExtAuthExtension": ("disable", "custom_auth"),
    "enterprise.gloo.solo.io.CustomAuth": ("context_extensions",),
    "enterprise.gloo.solo.io.Settings": (
        "extauthz_server_ref",
        "http_service",
        "request_timeout",
        "failure_mode_allow",
        "request_body",
        "clear_route_cache",
        "status_on_error",
        "transport_api_version",
        "stat_prefix",
        "grpc_service",
        "user_id_header",
    ),
    "enterprise.gloo.solo.io.GrpcService": EVERY,
    "enterprise.gloo.solo.io.HttpService": EVERY,
    "enterprise.gloo.solo.io.HttpService.Request": EVERY,
    "enterprise.gloo.solo.io.HttpService.Response": EVERY,
    "enterprise.gloo.solo.io.BufferSettings": EVERY,
}
REFUSED: Claims = {
    "enterprise.gloo.solo.io.ExtAuthExtension": ("config_ref",),
    "enterprise.gloo.solo.io.CustomAuth": ("name",),
}
ROUTES_READ: Final = ("extauth",)
_NO_SERVER: Final = "there is no server to ask: set extauth in the Settings or in the options of the gateway"
_NO_CONFIG: Final = (
    "AuthConfig objects cannot be enforced, so what asks for one is not served; "
    "use customAuth with an authorisation server of your own"
)
_NO_NAME: Final = "several servers are not supported, so what asks for one by name is not served; leave the name out"
_ALLOWED_LISTS: Final = ("allowed_upstream_headers", "allowed_client_headers", "allowed_upstream_headers_to_append")


def apply_virtual_host(
    options: virtual_host_options_pb2.VirtualHostOptions, out: Any, context: VirtualHostContext
) -> Findings:
    return _apply(options.extauth, out, context) if options.HasField("extauth") else ()


def apply_route(options: route_options_pb2.RouteOptions, out: Any, context: RouteContext) -> Findings:
    return _apply(options.extauth, out, context) if options.HasField("extauth") else ()


def apply_destination(
    options: weighted_destination_options_pb2.WeightedDestinationOptions, out: Any, context: RouteContext
) -> Findings:
    return _apply(options.extauth, out, context) if options.HasField("extauth") else ()


def apply_route_configuration(
    options: http_listener_options_pb2.HttpListenerOptions, out: Any, context: ListenerContext
) -> None:
    """Only what asks for it is checked.

    That is said here and not by ``HttpFilter.disabled``, so that a filter before this one that chooses another route
    cannot lead past the check.
    """
    if _server(options, context.settings)[0] is not None:
        disabled = ext_authz_pb2.ExtAuthzPerRoute(disabled=True)
        out.typed_per_filter_config[FILTER].CopyFrom(typed_config(disabled))


def http_filters(context: ListenerContext) -> Iterable[StagedFilter | Finding]:
    """The filter is there whether something asks for it or not.

    A filter that came with the first protected route would not be on connections that are open already, and Envoy
    serves them the new routes all the same until they are drained.
    """
    server, path = _server(context.options, context.settings)
    if server is None:
        return
    findings = [*_check(server)]
    closed = is_rejected(findings)
    if fault := missing_server(server.extauthz_server_ref, context.find_cluster):
        findings.append(warning("extauthzServerRef", f"{fault}; what asks for extauth is refused"))
        closed = True
    yield from (finding.under(path) if path else about_settings("extauth", finding) for finding in findings)
    cluster = server_cluster(server.extauthz_server_ref, context.find_cluster)
    config = typed_config(_build_closed() if closed else _build_filter(server, cluster))
    yield StagedFilter(Stage.AUTHN, http_connection_manager_pb2.HttpFilter(name=FILTER, typed_config=config))
    if server.user_id_header and not name_fault(server.user_id_header):
        yield _build_user_guard(server.user_id_header)


def _build_user_guard(header: str) -> StagedFilter:
    """Clients do not say who they are: only the server sets the header that tells it."""
    config = header_mutation_pb2.HeaderMutation()
    config.mutations.request_mutations.add(remove=header.lower())
    built = http_connection_manager_pb2.HttpFilter(name=USER_GUARD, typed_config=typed_config(config))
    return StagedFilter(Stage.AUTHN, built, Position.BEFORE)


def _server(options: Any, settings: settings_pb2.Settings) -> tuple[extauth_pb2.Settings | None, str]:
    """The server in force, and where it is written: below the gateway's options, or "" for the settings."""
    if options.HasField("extauth"):
        return options.extauth, "extauth"
    return (settings.extauth if settings.HasField("extauth") else None), ""


def _apply(
    wanted: extauth_pb2.ExtAuthExtension, out: Any, context: VirtualHostContext | RouteContext
) -> Iterator[Finding]:
    config = ext_authz_pb2.ExtAuthzPerRoute()
    match wanted.WhichOneof("spec"):
        case "disable":
            if not wanted.disable:
                return
            config.disabled = True
        case "custom_auth":
            findings = [*_check_custom(wanted.custom_auth, context)]
            yield from findings
            if is_rejected(findings):
                return
            config.check_settings.context_extensions.update(wanted.custom_auth.context_extensions)
            config.check_settings.SetInParent()
        case "config_ref":
            yield unprotected("extauth.configRef", _NO_CONFIG)
            return
        case _:
            yield unprotected("extauth", "says neither customAuth nor disable")
            return
    out.typed_per_filter_config[FILTER].CopyFrom(typed_config(config))


def _check_custom(custom: extauth_pb2.CustomAuth, context: VirtualHostContext | RouteContext) -> Iterator[Finding]:
    if custom.name:
        yield unprotected("extauth.customAuth.name", _NO_NAME)
    server, path = _server(context.listener, context.settings)
    if server is None:
        yield unprotected("extauth.customAuth", _NO_SERVER)
        return
    faults = [finding for finding in _check(server) if finding.severity >= Severity.ERROR]
    if fault := missing_server(server.extauthz_server_ref, context.find_cluster):
        faults.append(error("extauthzServerRef", fault))
    for finding in faults[:1]:
        where = f"extauth of the {'gateway' if path else 'Settings'}: {finding.path}: {finding.message}"
        yield unprotected("extauth.customAuth", f"the server cannot be asked: {where}")


def _check(server: extauth_pb2.Settings) -> Iterator[Finding]:
    yield from refuse_durations(server, ("request_timeout",))
    if server.user_id_header and (fault := name_fault(server.user_id_header)):
        yield error("userIdHeader", fault)
    if server.status_on_error not in http_status_pb2.StatusCode.values():
        yield error("statusOnError", f"{server.status_on_error} is no HTTP status that Envoy knows")
    if fault := value_fault(server.grpc_service.authority):
        yield error("grpcService.authority", fault)
    if server.HasField("http_service"):
        for finding in _check_http(server.http_service):
            yield finding.under("httpService")


def _check_http(service: extauth_pb2.HttpService) -> Iterator[Finding]:
    if service.path_prefix and (not service.path_prefix.startswith("/") or value_fault(service.path_prefix)):
        yield error("pathPrefix", "must begin with a slash, and have no control character")
    yield from _check_names(service.request, "allowed_headers", "request")
    for index, pattern in enumerate(service.request.allowed_headers_regex):
        if fault := regex_fault(pattern):
            yield error(f"request.allowedHeadersRegex[{index}]", fault)
    for name, value in sorted(service.request.headers_to_add.items()):
        if fault := name_fault(name) or value_fault(value):
            yield error("request.headersToAdd", fault)
    for field in _ALLOWED_LISTS:
        yield from _check_names(service.response, field, "response")


def _check_names(message: Any, field: str, path: str) -> Iterator[Finding]:
    written = message.DESCRIPTOR.fields_by_name[field].camelcase_name
    for index, name in enumerate(getattr(message, field)):
        if fault := name_fault(name):
            yield error(f"{path}.{written}[{index}]", fault)


def _build_closed() -> Any:
    """A filter that refuses what it is asked about: its server does not exist."""
    built = ext_authz_pb2.ExtAuthz(transport_api_version=config_source_pb2.ApiVersion.V3)
    built.grpc_service.CopyFrom(build_grpc(MISSING_CLUSTER, "", None, TIMEOUT_SECONDS))
    return built


def _build_filter(server: extauth_pb2.Settings, cluster: str) -> Any:
    built = ext_authz_pb2.ExtAuthz(
        transport_api_version=config_source_pb2.ApiVersion.V3,
        failure_mode_allow=server.failure_mode_allow,
        clear_route_cache=server.clear_route_cache,
        stat_prefix=server.stat_prefix,
        metadata_context_namespaces=[TOKENS],
    )
    timeout = server.request_timeout if server.HasField("request_timeout") else None
    if server.HasField("http_service"):
        _apply_http(server.http_service, built)
        built.http_service.server_uri.uri = f"http://{cluster}"
        built.http_service.server_uri.cluster = cluster
        built.http_service.server_uri.timeout.CopyFrom(duration(TIMEOUT_SECONDS) if timeout is None else timeout)
    else:
        built.grpc_service.CopyFrom(build_grpc(cluster, server.grpc_service.authority, timeout, TIMEOUT_SECONDS))
    if server.status_on_error:
        built.status_on_error.code = server.status_on_error
    if server.HasField("request_body"):
        body = server.request_body
        built.with_request_body.max_request_bytes = body.max_request_bytes or MAX_BODY_BYTES
        built.with_request_body.allow_partial_message = body.allow_partial_message
        built.with_request_body.pack_as_bytes = body.pack_as_bytes
    return built


def _apply_http(service: extauth_pb2.HttpService, out: Any) -> None:
    out.http_service.path_prefix = service.path_prefix
    request, response = service.request, service.response
    out.allowed_headers.patterns.extend(_header_matchers(request.allowed_headers))
    out.allowed_headers.patterns.extend(
        string_pb2.StringMatcher(safe_regex=regex_matcher(pattern)) for pattern in request.allowed_headers_regex
    )
    if not out.allowed_headers.patterns:
        out.ClearField("allowed_headers")
    out.http_service.authorization_request.headers_to_add.extend(
        base_pb2.HeaderValue(key=name, value=value) for name, value in sorted(request.headers_to_add.items())
    )
    for field in _ALLOWED_LISTS:
        if names := getattr(response, field):
            matchers = getattr(out.http_service.authorization_response, field)
            matchers.patterns.extend(_header_matchers(names))


def _header_matchers(names: Iterable[str]) -> list[Any]:
    """Names of headers have no case."""
    return exact_matchers(name.lower() for name in names)
