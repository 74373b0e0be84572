"""The HTTP connection manager of a gateway, with Envoy's best practices for the edge as defaults.

https://www.envoyproxy.io/docs/envoy/latest/configuration/best_practices/edge says why: paths are normalised, headers
with underscores refused, streams and windows bounded. One of them differs from the reference: ``use_remote_address`` is
on with no trusted hops, so that nobody in front of an edge proxy can forge ``x-forwarded-for``. Behind a load balancer
set ``xffNumTrustedHops`` (and ``useRemoteAddress: false`` for the reference's behaviour) in
``httpConnectionManagerSettings``; what these settings say is applied last and wins.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from envoy.config.core.v3 import protocol_pb2
from envoy.config.listener.v3 import listener_components_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from gloo_nomad.acceptance.rules import broken_rules
from gloo_nomad.api.gen import listener_options_pb2, settings_pb2
from gloo_nomad.api.refs import Ref
from gloo_nomad.envoy.clusters import find_cluster
from gloo_nomad.envoy.names import HTTP_CONNECTION_MANAGER, ROUTER
from gloo_nomad.envoy.regex_limits import apply_regex_limit
from gloo_nomad.envoy.resources import ads
from gloo_nomad.envoy.scoped_routes import apply_scoped_routes
from gloo_nomad.messages import duration, typed_config
from gloo_nomad.options.hooks import ListenerContext
from gloo_nomad.options.registry import hooks
from gloo_nomad.options.stages import StagedFilter
from gloo_nomad.proxies import HttpGroup
from gloo_nomad.reports import Finding, error
from gloo_nomad.store.memo import Reads

STAT_PREFIX: Final = "http"
STREAM_IDLE_SECONDS: Final = 300
REQUEST_HEADERS_SECONDS: Final = 10
IDLE_SECONDS: Final = 3600
MAX_STREAMS: Final = 100
STREAM_WINDOW: Final = 65_536
CONNECTION_WINDOW: Final = 1_048_576


@dataclass(frozen=True, slots=True, eq=False)
class NetworkFilters:
    """The network filters of a filter chain in their order, the connection manager last."""

    filters: tuple[Any, ...]
    findings: tuple[Finding, ...]
    """Paths are relative to the HTTP gateway's options."""
    upstreams: frozenset[Ref] = frozenset()
    """Upstreams that a filter or a tracer speaks to."""


def build_network_filters(
    group: HttpGroup,
    listener: listener_options_pb2.ListenerOptions,
    used_filters: frozenset[str],
    settings: settings_pb2.Settings,
    reads: Reads,
    *,
    routes: str,
    tls_port: int,
    scoped: bool = False,
) -> NetworkFilters:
    """All network filters of an HTTP gateway on a listener with these options, *tls_port* if it is for TLS, else 0.

    *routes* names the RouteConfiguration, or begins the names of *scoped* ones; *used_filters* are those that something
    behind it configures.
    """
    upstreams: set[Ref] = set()

    def find(ref: Ref) -> str:
        upstreams.add(ref)
        return find_cluster(ref, settings, reads)

    context = ListenerContext(
        settings, reads, group.source, group.options, used_filters, find, listener, tls_port=tls_port
    )
    findings: list[Finding] = []
    before = sorted_filters((item for hook in hooks("network_filters") for item in hook(context)), findings)
    manager = _build_defaults(routes, group.stat_prefix or STAT_PREFIX)
    manager.http_filters.extend(
        sorted_filters((item for hook in hooks("http_filters") for item in hook(context)), findings)
    )
    manager.http_filters.add(name=ROUTER, typed_config=typed_config(router_pb2.Router()))
    for hook in hooks("apply_connection_manager"):
        findings.extend(hook(group.options, manager, context))
    if scoped:
        apply_scoped_routes(routes, manager)
    findings.extend(apply_regex_limit(settings, manager))
    findings.extend(error(breach.path, f"Envoy refuses it: {breach.reason}") for breach in broken_rules(manager))
    last = listener_components_pb2.Filter(name=HTTP_CONNECTION_MANAGER, typed_config=typed_config(manager))
    return NetworkFilters((*before, last), tuple(findings), frozenset(upstreams))


def sorted_filters(found: Iterable[StagedFilter | Finding], out: list[Finding]) -> list[Any]:
    """The filters in their order; findings go to *out*."""
    staged = []
    for item in found:
        if isinstance(item, Finding):
            out.append(item)
        else:
            staged.append(item)
    return [item.filter for item in sorted(staged, key=StagedFilter.sort_key)]


def _build_defaults(route_config: str, stat_prefix: str) -> Any:
    manager = http_connection_manager_pb2.HttpConnectionManager(stat_prefix=stat_prefix)
    manager.codec_type = manager.AUTO
    manager.rds.route_config_name = route_config
    manager.rds.config_source.CopyFrom(ads())
    manager.normalize_path.value = True
    manager.merge_slashes = True
    manager.path_with_escaped_slashes_action = manager.UNESCAPE_AND_REDIRECT
    manager.use_remote_address.value = True
    manager.stream_idle_timeout.CopyFrom(duration(STREAM_IDLE_SECONDS))
    manager.request_headers_timeout.CopyFrom(duration(REQUEST_HEADERS_SECONDS))
    common = manager.common_http_protocol_options
    common.idle_timeout.CopyFrom(duration(IDLE_SECONDS))
    common.headers_with_underscores_action = protocol_pb2.HttpProtocolOptions.REJECT_REQUEST
    http2 = manager.http2_protocol_options
    http2.max_concurrent_streams.value = MAX_STREAMS
    http2.initial_stream_window_size.value = STREAM_WINDOW
    http2.initial_connection_window_size.value = CONNECTION_WINDOW
    manager.upgrade_configs.add(upgrade_type="websocket")
    return manager
