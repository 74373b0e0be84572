"""Bounds requests and connections by buckets of tokens that each Envoy keeps for itself, without a server.

``networkLocalRatelimit`` (``localRatelimit`` of a TCP gateway) counts new connections of a filter chain;
``httpLocalRatelimit`` and ``ratelimit.localRatelimit`` of a virtual host or a route count requests, and answer 429.
A route's bucket takes the place of its virtual host's, and that the place of the gateway's.
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/local_rate_limit_filter
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from envoy.config.listener.v3 import listener_components_pb2
from envoy.extensions.common.ratelimit.v3 import ratelimit_pb2 as envoy_ratelimit_pb2
from envoy.extensions.filters.http.local_ratelimit.v3 import local_rate_limit_pb2 as http_limit_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.filters.network.local_ratelimit.v3 import local_rate_limit_pb2 as network_limit_pb2
from envoy.type.v3 import percent_pb2

from gloo_nomad.acceptance.values import duration_fault
from gloo_nomad.api.gen import local_ratelimit_pb2, route_options_pb2, virtual_host_options_pb2
from gloo_nomad.messages import duration, seconds, typed_config
from gloo_nomad.options.hooks import EVERY, Claims, ListenerContext, RouteContext, VirtualHostContext
from gloo_nomad.options.stages import Position, Stage, StagedFilter
from gloo_nomad.reports import Finding, Findings, error, is_rejected

FILTER: Final = "envoy.filters.http.local_ratelimit"
NETWORK_FILTER: Final = "envoy.filters.network.local_ratelimit"
STAT_PREFIX: Final = "http_local_ratelimit"
NETWORK_STAT_PREFIX: Final = "network_local_ratelimit"
STAGE: Final = 3
"""As in the reference, so that descriptors of the rate limit server (stage 1) are not looked at."""
MIN_FILL_SECONDS: Final = 0.05
DEFAULT_FILL_SECONDS: Final = 1

FIELDS: Claims = {
    "gloo.solo.io.HttpListenerOptions": ("http_local_ratelimit", "network_local_ratelimit"),
    "gloo.solo.io.TcpListenerOptions": ("local_ratelimit",),
    "local_ratelimit.options.gloo.solo.io.Settings": EVERY,
    "local_ratelimit.options.gloo.solo.io.TokenBucket": EVERY,
    "ratelimit.options.gloo.solo.io.RateLimitRouteExtension": ("local_ratelimit",),
    "ratelimit.options.gloo.solo.io.RateLimitVhostExtension": ("local_ratelimit",),
}
ROUTES_READ: Final = ("http_local_ratelimit",)
_PATH: Final = "ratelimit.localRatelimit"


def apply_virtual_host(
    options: virtual_host_options_pb2.VirtualHostOptions, out: Any, context: VirtualHostContext
) -> Findings:
    return _apply(options, out, context) if options.HasField("ratelimit") else ()


def apply_route(options: route_options_pb2.RouteOptions, out: Any, context: RouteContext) -> Findings:
    return _apply(options, out, context) if options.HasField("ratelimit") else ()


def http_filters(context: ListenerContext) -> Iterable[StagedFilter | Finding]:
    settings = context.options.http_local_ratelimit
    if not settings.HasField("default_limit") and not context.needs(FILTER):
        return
    findings = [*_check(settings.default_limit, "httpLocalRatelimit.defaultLimit")]
    if settings.HasField("default_limit") and is_rejected(findings):
        yield from findings
        return
    bucket = settings.default_limit if settings.HasField("default_limit") else None
    config = typed_config(_build_http(bucket, settings))
    built = http_connection_manager_pb2.HttpFilter(name=FILTER, typed_config=config)
    yield StagedFilter(Stage.AUTHN, built, Position.BEFORE)


def network_filters(context: ListenerContext) -> Iterable[StagedFilter | Finding]:
    if context.options.HasField("network_local_ratelimit"):
        yield from _limit_connections(context.options.network_local_ratelimit, "networkLocalRatelimit")
    if context.tcp_options.HasField("local_ratelimit"):
        yield from _limit_connections(context.tcp_options.local_ratelimit, "localRatelimit")


def _apply(options: Any, out: Any, context: VirtualHostContext | RouteContext) -> Findings:
    if not options.ratelimit.HasField("local_ratelimit"):
        return ()
    bucket = options.ratelimit.local_ratelimit
    findings = [*_check(bucket, _PATH)]
    if not is_rejected(findings):
        built = _build_http(bucket, context.listener.http_local_ratelimit)
        out.typed_per_filter_config[FILTER].CopyFrom(typed_config(built))
    return findings


def _limit_connections(bucket: local_ratelimit_pb2.TokenBucket, path: str) -> Iterator[StagedFilter | Finding]:
    findings = [*_check(bucket, path)]
    yield from findings
    if not is_rejected(findings):
        config = network_limit_pb2.LocalRateLimit(stat_prefix=NETWORK_STAT_PREFIX)
        _apply_bucket(bucket, config.token_bucket)
        built = listener_components_pb2.Filter(name=NETWORK_FILTER, typed_config=typed_config(config))
        yield StagedFilter(Stage.RATE_LIMIT, built)


def _check(bucket: local_ratelimit_pb2.TokenBucket, path: str) -> Iterator[Finding]:
    if not bucket.max_tokens:
        yield error(f"{path}.maxTokens", "is required, and at least 1")
    if bucket.HasField("tokens_per_fill") and not bucket.tokens_per_fill.value:
        yield error(f"{path}.tokensPerFill", "must be at least 1")
    if bucket.HasField("fill_interval"):
        interval = bucket.fill_interval
        if fault := duration_fault(interval):
            yield error(f"{path}.fillInterval", fault)
        elif seconds(interval) < MIN_FILL_SECONDS:
            yield error(f"{path}.fillInterval", "must be at least 0.05s; Envoy fills no bucket more often")


def _build_http(bucket: local_ratelimit_pb2.TokenBucket | None, settings: local_ratelimit_pb2.Settings) -> Any:
    """The filter's configuration, or a route's: the latter replaces the former as a whole."""
    built = http_limit_pb2.LocalRateLimit(stat_prefix=STAT_PREFIX, stage=STAGE)
    if bucket is None:
        return built
    _apply_bucket(bucket, built.token_bucket)
    for share in (built.filter_enabled, built.filter_enforced):
        share.default_value.numerator = 100
        share.default_value.denominator = percent_pb2.FractionalPercent.HUNDRED
    built.local_rate_limit_per_downstream_connection = settings.local_rate_limit_per_downstream_connection.value
    if settings.enable_x_ratelimit_headers.value:
        built.enable_x_ratelimit_headers = envoy_ratelimit_pb2.DRAFT_VERSION_03
    return built


def _apply_bucket(bucket: local_ratelimit_pb2.TokenBucket, out: Any) -> None:
    out.max_tokens = bucket.max_tokens
    if bucket.HasField("tokens_per_fill"):
        out.tokens_per_fill.value = bucket.tokens_per_fill.value
    interval = bucket.fill_interval if bucket.HasField("fill_interval") else duration(DEFAULT_FILL_SECONDS)
    out.fill_interval.CopyFrom(interval)
