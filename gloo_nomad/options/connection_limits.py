"""Bounds how many connections a gateway has at a time; what is above is closed.

Each filter chain counts by itself (one for each TLS configuration, and one for each host of a TCP gateway).
https://www.envoyproxy.io/docs/envoy/latest/configuration/listeners/network_filters/connection_limit_filter
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from envoy.config.listener.v3 import listener_components_pb2
from envoy.extensions.filters.network.connection_limit.v3 import connection_limit_pb2 as envoy_limit_pb2

from gloo_nomad.api.gen import connection_limit_pb2
from gloo_nomad.messages import typed_config
from gloo_nomad.options.guards import refuse_durations
from gloo_nomad.options.hooks import EVERY, Claims, ListenerContext
from gloo_nomad.options.stages import Position, Stage, StagedFilter
from gloo_nomad.reports import Finding, error, is_rejected

FILTER: Final = "envoy.filters.network.connection_limit"
STAT_PREFIX: Final = "connection_limit"

FIELDS: Claims = {
    "gloo.solo.io.HttpListenerOptions": ("connection_limit",),
    "gloo.solo.io.TcpListenerOptions": ("connection_limit",),
    "connection_limit.options.gloo.solo.io.ConnectionLimit": EVERY,
}
_PATH: Final = "connectionLimit"


def network_filters(context: ListenerContext) -> Iterable[StagedFilter | Finding]:
    for options in (context.options, context.tcp_options):
        if options.HasField("connection_limit"):
            yield from _limit(options.connection_limit)


def _limit(limit: connection_limit_pb2.ConnectionLimit) -> Iterator[StagedFilter | Finding]:
    findings = [*_check(limit)]
    yield from findings
    if not is_rejected(findings):
        built = listener_components_pb2.Filter(name=FILTER, typed_config=typed_config(_build_limit(limit)))
        yield StagedFilter(Stage.RATE_LIMIT, built, Position.BEFORE)


def _check(limit: connection_limit_pb2.ConnectionLimit) -> Iterator[Finding]:
    if not limit.max_active_connections.value:
        yield error(f"{_PATH}.maxActiveConnections", "is required, and at least 1")
    yield from refuse_durations(limit, ("delay_before_close",), _PATH)


def _build_limit(limit: connection_limit_pb2.ConnectionLimit) -> Any:
    built = envoy_limit_pb2.ConnectionLimit(stat_prefix=STAT_PREFIX)
    built.max_connections.value = limit.max_active_connections.value
    if limit.HasField("delay_before_close"):
        built.delay.CopyFrom(limit.delay_before_close)
    return built
