"""What a node is served that does not say its role: a listener that tells the operator so."""

from typing import Final

from envoy.config.core.v3 import address_pb2, base_pb2, config_source_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from gloo_nomad.messages import to_bytes, typed_config, version_of
from gloo_nomad.resources import LISTENER, ROUTES, Resource, Resources, XdsSnapshot

MISCONFIGURED_ROLE: Final = "misconfigured-node"
ANSWER: Final = (
    "This Envoy does not say which proxy it is, so there is no configuration for it. "
    "Set node.metadata.role in its bootstrap to <namespace>~<proxy name>, for example gloo-system~gateway-proxy.\n"
)
_LISTENER_NAME: Final = "listener-for-invalid-envoy"
_ROUTES_NAME: Final = "routes-for-invalid-envoy"
_VIRTUAL_HOST_NAME: Final = "invalid-envoy-config-vhost"


def build_misconfigured_snapshot(*, ipv4_only: bool = False, port: int = 8080) -> XdsSnapshot:
    """A listener on all addresses that answers everything with 500 and what is to be done."""
    listener, routes = _build_listener("0.0.0.0" if ipv4_only else "::", port), _build_routes()
    return XdsSnapshot({LISTENER: _resources(_LISTENER_NAME, listener), ROUTES: _resources(_ROUTES_NAME, routes)})


def _resources(name: str, body: bytes) -> Resources:
    return {name: Resource(name, version_of(body), body)}


def _build_listener(address: str, port: int) -> bytes:
    ads = config_source_pb2.ConfigSource(
        ads=config_source_pb2.AggregatedConfigSource(), resource_api_version=config_source_pb2.ApiVersion.V3
    )
    manager = http_connection_manager_pb2.HttpConnectionManager(
        stat_prefix="misconfigured-node",
        rds=http_connection_manager_pb2.Rds(config_source=ads, route_config_name=_ROUTES_NAME),
        http_filters=[
            http_connection_manager_pb2.HttpFilter(
                name="envoy.filters.http.router", typed_config=typed_config(router_pb2.Router())
            )
        ],
    )
    network_filter = listener_components_pb2.Filter(
        name="envoy.filters.network.http_connection_manager", typed_config=typed_config(manager)
    )
    socket = address_pb2.SocketAddress(address=address, port_value=port, ipv4_compat=address == "::")
    return to_bytes(
        listener_pb2.Listener(
            name=_LISTENER_NAME,
            address=address_pb2.Address(socket_address=socket),
            filter_chains=[listener_components_pb2.FilterChain(filters=[network_filter])],
        )
    )


def _build_routes() -> bytes:
    answer = route_components_pb2.DirectResponseAction(status=500, body=base_pb2.DataSource(inline_string=ANSWER))
    route = route_components_pb2.Route(
        match=route_components_pb2.RouteMatch(prefix="/"), direct_response=answer, name="invalid-envoy-config"
    )
    virtual_host = route_components_pb2.VirtualHost(name=_VIRTUAL_HOST_NAME, domains=["*"], routes=[route])
    return to_bytes(route_pb2.RouteConfiguration(name=_ROUTES_NAME, virtual_hosts=[virtual_host]))
