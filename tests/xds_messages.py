"""Envoy resources made by hand: just enough of a gateway for a real Envoy to serve requests."""

from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import address_pb2, base_pb2, config_source_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2, tls_pb2

from gloo_nomad.demo.certificates import KeyPair
from gloo_nomad.messages import duration, to_bytes, typed_config, version_of
from gloo_nomad.resources import Resource, Resources

_ADS = config_source_pb2.ConfigSource(
    ads=config_source_pb2.AggregatedConfigSource(), resource_api_version=config_source_pb2.ApiVersion.V3
)


def by_name(*resources: Resource) -> Resources:
    """Resources as a mapping."""
    return {resource.name: resource for resource in resources}


def _resource(name: str, message: Any) -> Resource:
    body = to_bytes(message)
    return Resource(name, version_of(body), body)


def _address(port: int) -> Any:
    return address_pb2.Address(socket_address=address_pb2.SocketAddress(address="127.0.0.1", port_value=port))


def build_cluster(name: str, connect_timeout: float = 1.0) -> Resource:
    """A cluster whose endpoints come by EDS under its own name."""
    message = cluster_pb2.Cluster(
        name=name,
        type=cluster_pb2.Cluster.EDS,
        connect_timeout=duration(connect_timeout),
        eds_cluster_config=cluster_pb2.Cluster.EdsClusterConfig(eds_config=_ADS),
    )
    return _resource(name, message)


def build_bad_cluster(name: str) -> Resource:
    """A cluster that Envoy rejects: it names a load balancing policy and gives it nonsense."""
    message = cluster_pb2.Cluster(
        name=name,
        type=cluster_pb2.Cluster.EDS,
        eds_cluster_config=cluster_pb2.Cluster.EdsClusterConfig(eds_config=_ADS),
        lb_policy=cluster_pb2.Cluster.CLUSTER_PROVIDED,
    )
    return _resource(name, message)


def build_endpoints(name: str, *ports: int) -> Resource:
    """Instances of a cluster on loopback."""
    endpoints = [
        endpoint_components_pb2.LbEndpoint(endpoint=endpoint_components_pb2.Endpoint(address=_address(port)))
        for port in ports
    ]
    locality = endpoint_components_pb2.LocalityLbEndpoints(lb_endpoints=endpoints)
    return _resource(name, endpoint_pb2.ClusterLoadAssignment(cluster_name=name, endpoints=[locality]))


def build_routes(name: str, cluster: str) -> Resource:
    """All requests of all hosts to one cluster."""
    route = route_components_pb2.Route(
        match=route_components_pb2.RouteMatch(prefix="/"), route=route_components_pb2.RouteAction(cluster=cluster)
    )
    virtual_host = route_components_pb2.VirtualHost(name="all", domains=["*"], routes=[route])
    return _resource(name, route_pb2.RouteConfiguration(name=name, virtual_hosts=[virtual_host]))


def build_listener(name: str, port: int, routes: str, *, secret: str = "") -> Resource:
    """An HTTP listener on loopback that takes its routes by RDS, and speaks TLS if a secret is named."""
    router = hcm.HttpFilter(name="envoy.filters.http.router", typed_config=typed_config(router_pb2.Router()))
    manager = hcm.HttpConnectionManager(
        stat_prefix=name, rds=hcm.Rds(config_source=_ADS, route_config_name=routes), http_filters=[router]
    )
    network_filter = listener_components_pb2.Filter(
        name="envoy.filters.network.http_connection_manager", typed_config=typed_config(manager)
    )
    chain = listener_components_pb2.FilterChain(filters=[network_filter])
    if secret:
        chain.transport_socket.CopyFrom(_build_tls(secret))
    return _resource(name, listener_pb2.Listener(name=name, address=_address(port), filter_chains=[chain]))


def _build_tls(secret: str) -> Any:
    sds = secret_pb2.SdsSecretConfig(name=secret, sds_config=_ADS)
    context = tls_pb2.DownstreamTlsContext(
        common_tls_context=tls_pb2.CommonTlsContext(tls_certificate_sds_secret_configs=[sds])
    )
    return base_pb2.TransportSocket(name="envoy.transport_sockets.tls", typed_config=typed_config(context))


def build_secret(name: str, pair: KeyPair) -> Resource:
    """A server certificate with its key."""
    certificate = common_pb2.TlsCertificate(
        certificate_chain=base_pb2.DataSource(inline_string=pair.certificates),
        private_key=base_pb2.DataSource(inline_string=pair.private_key),
    )
    return _resource(name, secret_pb2.Secret(name=name, tls_certificate=certificate))
