"""gRPC for browsers: gRPC-Web is translated on every gateway, unless it or the settings turn that off.

The filter leaves all other requests alone. ``gloo.removeUnusedFilters: true`` takes it off gateways that say nothing
about it. https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/grpc_web_filter
"""

from collections.abc import Iterable
from typing import Final

from envoy.extensions.filters.http.grpc_web.v3 import grpc_web_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from gloo_nomad.messages import typed_config
from gloo_nomad.options.hooks import EVERY, Claims, ListenerContext
from gloo_nomad.options.stages import Position, Stage, StagedFilter
from gloo_nomad.reports import Finding

FILTER: Final = "envoy.filters.http.grpc_web"

FIELDS: Claims = {
    "gloo.solo.io.HttpListenerOptions": ("grpc_web",),
    "grpc_web.options.gloo.solo.io.GrpcWeb": EVERY,
}


def http_filters(context: ListenerContext) -> Iterable[StagedFilter | Finding]:
    if _is_wanted(context):
        config = typed_config(grpc_web_pb2.GrpcWeb())
        built = http_connection_manager_pb2.HttpFilter(name=FILTER, typed_config=config)
        yield StagedFilter(Stage.AUTHZ, built, Position.AFTER)


def _is_wanted(context: ListenerContext) -> bool:
    if context.options.HasField("grpc_web"):
        return not context.options.grpc_web.disable
    settings = context.settings.gloo
    return not (settings.disable_grpc_web.value or settings.remove_unused_filters.value)
