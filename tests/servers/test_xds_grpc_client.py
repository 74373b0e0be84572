"""gRPC's own xDS client, a second independent one beside Envoy, finds a service through the server."""

import asyncio
import json
import os
import sys

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import address_pb2, base_pb2, config_source_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from envoy.config.listener.v3 import api_listener_pb2, listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm
from google.protobuf import wrappers_pb2

from gloo_nomad.messages import to_bytes, typed_config, version_of
from gloo_nomad.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Resource
from tests.xds_client import ROLE
from tests.xds_messages import by_name
from tests.xds_world import World, in_loop, open_world

_SERVICE = "health.test"
_ADS = config_source_pb2.ConfigSource(
    ads=config_source_pb2.AggregatedConfigSource(), resource_api_version=config_source_pb2.ApiVersion.V3
)
_CALL = """
import sys, grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
with grpc.insecure_channel(sys.argv[1]) as channel:
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
    print(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
"""


def build_listener() -> bytes:
    """What the client asks for first: a listener named like the service that takes its routes by RDS."""
    router = hcm.HttpFilter(name="envoy.filters.http.router", typed_config=typed_config(router_pb2.Router()))
    manager = hcm.HttpConnectionManager(
        rds=hcm.Rds(config_source=_ADS, route_config_name="routes"), http_filters=[router]
    )
    api_listener = api_listener_pb2.ApiListener(api_listener=typed_config(manager))
    return to_bytes(listener_pb2.Listener(name=_SERVICE, api_listener=api_listener))


def build_routes() -> bytes:
    """All methods to one cluster."""
    route = route_components_pb2.Route(
        match=route_components_pb2.RouteMatch(prefix=""), route=route_components_pb2.RouteAction(cluster="health")
    )
    virtual_host = route_components_pb2.VirtualHost(name="all", domains=["*"], routes=[route])
    return to_bytes(route_pb2.RouteConfiguration(name="routes", virtual_hosts=[virtual_host]))


def build_cluster() -> bytes:
    """A cluster whose endpoints come by EDS."""
    eds = cluster_pb2.Cluster.EdsClusterConfig(eds_config=_ADS)
    return to_bytes(cluster_pb2.Cluster(name="health", type=cluster_pb2.Cluster.EDS, eds_cluster_config=eds))


def build_endpoints(port: int) -> bytes:
    """One instance on loopback, with the locality and the weights that gRPC insists on."""
    socket = address_pb2.SocketAddress(address="127.0.0.1", port_value=port)
    endpoint = endpoint_components_pb2.LbEndpoint(
        endpoint=endpoint_components_pb2.Endpoint(address=address_pb2.Address(socket_address=socket))
    )
    locality = endpoint_components_pb2.LocalityLbEndpoints(
        locality=base_pb2.Locality(region="here"),
        load_balancing_weight=wrappers_pb2.UInt32Value(value=1),
        lb_endpoints=[endpoint],
    )
    return to_bytes(endpoint_pb2.ClusterLoadAssignment(cluster_name="health", endpoints=[locality]))


def publish(world: World) -> None:
    """Routes the service name to the health service of the xDS server itself."""
    bodies = {
        LISTENER: (_SERVICE, build_listener()),
        ROUTES: ("routes", build_routes()),
        CLUSTER: ("health", build_cluster()),
        ENDPOINTS: ("health", build_endpoints(world.server.port)),
    }
    world.publish_types({url: by_name(Resource(name, version_of(body), body)) for url, (name, body) in bodies.items()})


@pytest.mark.parametrize("late", [False, True], ids=["published", "published-later"])
@in_loop
async def test_a_call_through_grpc_xds(late: bool) -> None:
    """A gRPC client that knows only the xDS server reaches a service by its name, also if it has to wait for it."""
    async with open_world() as world:
        if not late:
            publish(world)
        bootstrap = {
            "xds_servers": [
                {
                    "server_uri": world.address,
                    "channel_creds": [{"type": "insecure"}],
                    "server_features": ["xds_v3"],
                }
            ],
            "node": {"id": "grpc-client", "metadata": {"role": ROLE}},
        }
        environment = {**os.environ, "GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(bootstrap)}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _CALL, f"xds:///{_SERVICE}", env=environment, stdout=asyncio.subprocess.PIPE
        )
        if late:
            await world.until(lambda: len(world.cache.clients()) == 1)
            publish(world)
        async with asyncio.timeout(30.0):
            output, _ = await process.communicate()
        assert (process.returncode, output.strip()) == (0, b"SERVING")
        assert world.nacks == []
        assert world.metric("gloo_nomad_xds_acks_total", type="ClusterLoadAssignment") >= 1
