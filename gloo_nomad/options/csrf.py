"""Cross-site request forgery: requests that change something must come from a page of their own host.

A policy further in replaces the whole one further out. A policy that does not say for which share of requests it holds
holds for none. https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/csrf_filter
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from envoy.config.core.v3 import base_pb2
from envoy.extensions.filters.http.csrf.v3 import csrf_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.type.matcher.v3 import string_pb2

from gloo_nomad.acceptance.regexes import regex_fault
from gloo_nomad.api.gen import (
    envoy_core_pb2,
    envoy_csrf_pb2,
    envoy_matcher_pb2,
    route_options_pb2,
    virtual_host_options_pb2,
    weighted_destination_options_pb2,
)
from gloo_nomad.messages import regex_matcher, typed_config
from gloo_nomad.options.guards import refuse_enum
from gloo_nomad.options.hooks import EVERY, Claims, ListenerContext, RouteContext, VirtualHostContext
from gloo_nomad.options.stages import Stage, StagedFilter
from gloo_nomad.reports import Finding, Findings, error, is_rejected

FILTER: Final = "envoy.filters.http.csrf"

FIELDS: Claims = {
    "gloo.solo.io.HttpListenerOptions": ("csrf",),
    "gloo.solo.io.RouteOptions": ("csrf",),
    "gloo.solo.io.VirtualHostOptions": ("csrf",),
    "gloo.solo.io.WeightedDestinationOptions": ("csrf",),
    "solo.io.envoy.extensions.filters.http.csrf.v3.CsrfPolicy": EVERY,
}
READS: Claims = {
    "solo.io.envoy.config.core.v3.RuntimeFractionalPercent": EVERY,
    "solo.io.envoy.type.v3.FractionalPercent": EVERY,
    "solo.io.envoy.type.matcher.v3.StringMatcher": EVERY,
}

_WHOLES: Final = (100, 10_000, 1_000_000)
"""Of how many a share is, by the number of its denominator."""
_NO_POLICY: Final = envoy_csrf_pb2.CsrfPolicy()


def http_filters(context: ListenerContext) -> Iterable[StagedFilter | Finding]:
    if context.options.HasField("csrf"):
        findings = [*_check(context.options.csrf)]
        yield from findings
        if not is_rejected(findings):
            yield _build_filter(context.options.csrf)
    elif context.needs(FILTER):
        yield _build_filter(_NO_POLICY)


def apply_route(options: route_options_pb2.RouteOptions, out: Any, context: RouteContext) -> Findings:
    return _apply(options, out)


def apply_virtual_host(
    options: virtual_host_options_pb2.VirtualHostOptions, out: Any, context: VirtualHostContext
) -> Findings:
    return _apply(options, out)


def apply_destination(
    options: weighted_destination_options_pb2.WeightedDestinationOptions, out: Any, context: RouteContext
) -> Findings:
    return _apply(options, out)


def _apply(options: Any, out: Any) -> Findings:
    if not options.HasField("csrf"):
        return ()
    findings = [*_check(options.csrf)]
    if not is_rejected(findings):
        out.typed_per_filter_config[FILTER].CopyFrom(typed_config(_build_policy(options.csrf)))
    return findings


def _check(policy: envoy_csrf_pb2.CsrfPolicy) -> Iterator[Finding]:
    yield from _check_share(policy.filter_enabled, "csrf.filterEnabled")
    yield from _check_share(policy.shadow_enabled, "csrf.shadowEnabled")
    for index, matcher in enumerate(policy.additional_origins):
        yield from _check_origin(matcher, f"csrf.additionalOrigins[{index}]")


def _check_share(share: envoy_core_pb2.RuntimeFractionalPercent, path: str) -> Iterator[Finding]:
    findings = [*refuse_enum(share.default_value, "denominator", f"{path}.defaultValue")]
    yield from findings
    if not findings and share.default_value.numerator > _WHOLES[share.default_value.denominator]:
        whole = _WHOLES[share.default_value.denominator]
        yield error(f"{path}.defaultValue.numerator", f"is more than the whole, which is {whole}")
    if any(character in share.runtime_key for character in "\r\n\0"):
        yield error(f"{path}.runtimeKey", "must not have a line break or NUL")


def _check_origin(matcher: envoy_matcher_pb2.StringMatcher, path: str) -> Iterator[Finding]:
    match matcher.WhichOneof("match_pattern"):
        case None:
            yield error(path, "matches nothing; write exact, prefix, suffix or safeRegex")
        case "safe_regex":
            if fault := regex_fault(matcher.safe_regex.regex):
                yield error(f"{path}.safeRegex.regex", fault)
            if matcher.ignore_case:
                yield error(f"{path}.ignoreCase", "is not for safeRegex; write (?i) in front of the expression")
        case "prefix" | "suffix" as kind if not getattr(matcher, kind):
            yield error(f"{path}.{kind}", "must not be empty")


def _build_filter(policy: envoy_csrf_pb2.CsrfPolicy) -> StagedFilter:
    config = typed_config(_build_policy(policy))
    return StagedFilter(Stage.ROUTE, http_connection_manager_pb2.HttpFilter(name=FILTER, typed_config=config))


def _build_policy(policy: envoy_csrf_pb2.CsrfPolicy) -> Any:
    built = csrf_pb2.CsrfPolicy(filter_enabled=_build_share(policy.filter_enabled))
    if policy.HasField("shadow_enabled"):
        built.shadow_enabled.CopyFrom(_build_share(policy.shadow_enabled))
    built.additional_origins.extend(_build_origin(matcher) for matcher in policy.additional_origins)
    return built


def _build_share(share: envoy_core_pb2.RuntimeFractionalPercent) -> Any:
    built = base_pb2.RuntimeFractionalPercent(runtime_key=share.runtime_key)
    built.default_value.numerator = share.default_value.numerator
    built.default_value.denominator = share.default_value.denominator
    built.default_value.SetInParent()
    return built


def _build_origin(matcher: envoy_matcher_pb2.StringMatcher) -> Any:
    kind = str(matcher.WhichOneof("match_pattern"))
    if kind == "safe_regex":
        return string_pb2.StringMatcher(safe_regex=regex_matcher(matcher.safe_regex.regex))
    return string_pb2.StringMatcher(ignore_case=matcher.ignore_case, **{kind: getattr(matcher, kind)})
