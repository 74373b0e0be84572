"""Answers the health checks of load balancers in front of Envoy: 200, or 503 while Envoy is told to fail them.

The path is compared with all of ``:path``, so a query makes another path of it.
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/health_check_filter
"""

from collections.abc import Iterable
from typing import Final

from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.filters.http.health_check.v3 import health_check_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from gloo_nomad.acceptance.headers import value_fault
from gloo_nomad.acceptance.quoting import quote
from gloo_nomad.messages import typed_config
from gloo_nomad.options.hooks import EVERY, Claims, ListenerContext
from gloo_nomad.options.stages import Position, Stage, StagedFilter
from gloo_nomad.reports import Finding, error

FILTER: Final = "envoy.filters.http.health_check"

FIELDS: Claims = {
    "gloo.solo.io.HttpListenerOptions": ("health_check",),
    "healthcheck.options.gloo.solo.io.HealthCheck": EVERY,
}


def http_filters(context: ListenerContext) -> Iterable[StagedFilter | Finding]:
    if not context.options.HasField("health_check"):
        return
    path = context.options.health_check.path
    if fault := _path_fault(path):
        yield error("healthCheck.path", fault)
        return
    config = health_check_pb2.HealthCheck()
    config.pass_through_mode.value = False
    matcher = route_components_pb2.HeaderMatcher(name=":path")
    matcher.string_match.exact = path
    config.headers.append(matcher)
    built = http_connection_manager_pb2.HttpFilter(name=FILTER, typed_config=typed_config(config))
    yield StagedFilter(Stage.AUTHZ, built, Position.AFTER)


def _path_fault(path: str) -> str:
    if not path.startswith("/") or not path.isprintable() or " " in path:
        return f"{quote(path)} is no path; write one that begins with a slash, like /healthz"
    return value_fault(path)
