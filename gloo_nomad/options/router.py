"""The last filter, which forwards: whether it tells of itself in headers, and keeps statistics.

https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/router_filter
"""

from typing import Any, Final

from envoy.extensions.filters.http.router.v3 import router_pb2

from gloo_nomad.api.gen import http_listener_options_pb2
from gloo_nomad.messages import typed_config
from gloo_nomad.options.hooks import EVERY, Claims, ListenerContext
from gloo_nomad.reports import Findings

FILTER: Final = "envoy.filters.http.router"

FIELDS: Claims = {
    "gloo.solo.io.HttpListenerOptions": ("router",),
    "gloo.solo.io.Router": EVERY,
}


def apply_connection_manager(
    options: http_listener_options_pb2.HttpListenerOptions, out: Any, context: ListenerContext
) -> Findings:
    if not options.HasField("router"):
        return ()
    for http_filter in out.http_filters:
        if http_filter.name == FILTER:
            http_filter.typed_config.CopyFrom(typed_config(_build(options.router)))
    return ()


def _build(router: http_listener_options_pb2.Router) -> Any:
    config = router_pb2.Router(suppress_envoy_headers=router.suppress_envoy_headers.value)
    if router.HasField("dynamic_stats"):
        config.dynamic_stats.value = router.dynamic_stats.value
    return config
