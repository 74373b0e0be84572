"""Cross-origin resource sharing, on a virtual host and its routes; a route's policy wins field by field.

Envoy's filter leaves direct responses alone, so these get the policy of their route as fixed headers.
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/cors_filter
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from envoy.config.core.v3 import base_pb2
from envoy.extensions.filters.http.cors.v3 import cors_pb2 as envoy_cors_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.type.matcher.v3 import string_pb2
from envoy.type.v3 import percent_pb2

from gloo_nomad.acceptance.headers import value_fault
from gloo_nomad.acceptance.quoting import quote
from gloo_nomad.acceptance.regexes import regex_fault
from gloo_nomad.api.gen import cors_pb2, route_options_pb2, virtual_host_options_pb2
from gloo_nomad.messages import exact_matchers, regex_matcher, typed_config
from gloo_nomad.options.hooks import EVERY, Claims, ListenerContext, RouteContext, VirtualHostContext
from gloo_nomad.options.stages import Stage, StagedFilter
from gloo_nomad.reports import Finding, Findings, error, is_rejected, warning

FILTER: Final = "envoy.filters.http.cors"

FIELDS: Claims = {
    "gloo.solo.io.RouteOptions": ("cors",),
    "gloo.solo.io.VirtualHostOptions": ("cors", "cors_policy_merge_settings"),
}
READS: Claims = {
    "cors.options.gloo.solo.io.CorsPolicy": EVERY,
    "cors.options.gloo.solo.io.CorsPolicyMergeSettings": EVERY,
}

_LISTS: Final = (
    ("allow_methods", "allowMethods"),
    ("allow_headers", "allowHeaders"),
    ("expose_headers", "exposeHeaders"),
)

_MAX_AGE: Final = re.compile(r"(-?[0-9]{1,9})([smhd]?)", re.ASCII)
"""The reference's documentation writes ``1d``, which no browser reads."""
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def apply_virtual_host(
    options: virtual_host_options_pb2.VirtualHostOptions, out: Any, context: VirtualHostContext
) -> Findings:
    findings = [*_check_merge(options.cors_policy_merge_settings)]
    if options.HasField("cors"):
        findings += _apply(options.cors, options.cors.expose_headers, out)
    return findings


def apply_route(options: route_options_pb2.RouteOptions, out: Any, context: RouteContext) -> Findings:
    if not options.HasField("cors"):
        return ()
    exposed = [*options.cors.expose_headers]
    strategy = context.virtual_host.cors_policy_merge_settings.expose_headers
    if strategy == cors_pb2.CorsPolicyMergeSettings.UNION:
        exposed = [*dict.fromkeys((*context.virtual_host.cors.expose_headers, *exposed))]
    if out.HasField("direct_response"):
        return _apply_headers(options.cors, exposed, out)
    return _apply(options.cors, exposed, out)


def http_filters(context: ListenerContext) -> Iterable[StagedFilter | Finding]:
    if context.needs(FILTER):
        config = typed_config(envoy_cors_pb2.Cors())
        built = http_connection_manager_pb2.HttpFilter(name=FILTER, typed_config=config)
        yield StagedFilter(Stage.CORS, built)


def _apply(policy: cors_pb2.CorsPolicy, exposed: Iterable[str], out: Any) -> list[Finding]:
    findings = [*_check(policy)]
    if not is_rejected(findings):
        built = _build_disabled() if policy.disable_for_route else _build_policy(policy, exposed)
        out.typed_per_filter_config[FILTER].CopyFrom(typed_config(built))
    return findings


def _apply_headers(policy: cors_pb2.CorsPolicy, exposed: Iterable[str], out: Any) -> list[Finding]:
    """The policy as headers of a direct response, which can allow one origin only."""
    findings = [*_check(policy)]
    if is_rejected(findings) or policy.disable_for_route:
        return findings
    origins = [*policy.allow_origin]
    origin = "*" if "*" in origins else "".join(origins[:1])
    if policy.allow_origin_regex or (len(origins) > 1 and origin != "*"):
        allowed = f"only {origin[:200]}" if origin else "no origin"
        findings.append(warning("cors", f"a direct response can allow one origin only; this one allows {allowed}"))
    headers = {
        "access-control-allow-origin": origin,
        "access-control-allow-methods": ",".join(policy.allow_methods),
        "access-control-allow-headers": ",".join(policy.allow_headers),
        "access-control-expose-headers": ",".join(exposed),
        "access-control-max-age": _max_age(policy),
        "access-control-allow-credentials": "true" if policy.allow_credentials else "",
    }
    out.response_headers_to_add.extend(_build_header(name, value) for name, value in headers.items() if value)
    return findings


def _build_header(name: str, value: str) -> Any:
    return base_pb2.HeaderValueOption(
        header=base_pb2.HeaderValue(key=name, value=value.replace("%", "%%")),
        append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
    )


def _check_merge(settings: cors_pb2.CorsPolicyMergeSettings) -> Iterator[Finding]:
    if settings.expose_headers not in cors_pb2.CorsPolicyMergeSettings.MergeStrategy.values():
        yield error("corsPolicyMergeSettings.exposeHeaders", "must be DEFAULT or UNION")


def _check(policy: cors_pb2.CorsPolicy) -> Iterator[Finding]:
    if policy.disable_for_route:
        return
    if not policy.allow_origin and not policy.allow_origin_regex:
        yield error("cors", "needs at least one entry in allowOrigin or allowOriginRegex")
    for index, origin in enumerate(policy.allow_origin):
        if fault := value_fault(origin):
            yield error(f"cors.allowOrigin[{index}]", fault)
    for index, expression in enumerate(policy.allow_origin_regex):
        if fault := regex_fault(expression):
            yield error(f"cors.allowOriginRegex[{index}]", fault)
    for name, written in _LISTS:
        for index, value in enumerate(getattr(policy, name)):
            if fault := value_fault(value):
                yield error(f"cors.{written}[{index}]", fault)
    if policy.max_age and not _max_age(policy):
        yield warning("cors.maxAge", f"{quote(policy.max_age)} is no number of seconds like 86400, nor 1d; left out")


def _max_age(policy: cors_pb2.CorsPolicy) -> str:
    """Seconds, as browsers read them; ``1d`` and the like are written out. Empty for what is neither."""
    written = _MAX_AGE.fullmatch(policy.max_age)
    return str(int(written[1]) * _UNITS[written[2]]) if written else ""


def _build_policy(policy: cors_pb2.CorsPolicy, exposed: Iterable[str]) -> Any:
    built = envoy_cors_pb2.CorsPolicy(
        allow_origin_string_match=[
            *exact_matchers(policy.allow_origin),
            *(string_pb2.StringMatcher(safe_regex=regex_matcher(regex)) for regex in policy.allow_origin_regex),
        ],
        allow_methods=",".join(policy.allow_methods),
        allow_headers=",".join(policy.allow_headers),
        expose_headers=",".join(exposed),
        max_age=_max_age(policy),
    )
    built.allow_credentials.value = policy.allow_credentials
    return built


def _build_disabled() -> Any:
    """A policy that lets nothing be answered, also not by the virtual host's."""
    built = envoy_cors_pb2.CorsPolicy()
    built.filter_enabled.default_value.denominator = percent_pb2.FractionalPercent.HUNDRED
    return built
