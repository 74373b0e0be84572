"""gRPC's own xDS client in a process of its own, and the resources that it insists on."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import address_pb2, base_pb2, config_source_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from envoy.config.listener.v3 import api_listener_pb2, listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm
from google.protobuf import wrappers_pb2
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from gloo_nomad.messages import to_bytes, typed_config, version_of
from gloo_nomad.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Resource
from tests.xds_client import ROLE
from tests.xds_world import World

SERVICE: Final = "health.test"
_ADS: Final = config_source_pb2.ConfigSource(
    ads=config_source_pb2.AggregatedConfigSource(), resource_api_version=config_source_pb2.ApiVersion.V3
)
_CALLER: Final = """
import sys, grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
channels = {}
for line in sys.stdin:
    target, seconds = line.split()
    channel = channels.setdefault(target, grpc.insecure_channel(target))
    try:
        asked = health_pb2.HealthCheckRequest()
        answer = health_pb2_grpc.HealthStub(channel).Check(asked, timeout=float(seconds), wait_for_ready=False)
        print(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status), flush=True)
    except grpc.RpcError as error:
        print(error.code().name, flush=True)
"""


@dataclass
class Mesh:
    """What is published: change a field, then ``publish``."""

    world: World
    ports: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Instances by cluster."""
    routes: dict[str, int] = field(default_factory=dict)
    """Weights by cluster."""
    listens: bool = True
    more: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Other resources, which may replace those above: bodies by name by type."""

    def publish(self) -> None:
        """Publishes all of it."""
        bodies: dict[str, dict[str, bytes]] = {
            LISTENER: {SERVICE: build_listener()} if self.listens else {},
            ROUTES: {"routes": build_routes(self.routes)},
            CLUSTER: {name: build_cluster(name) for name in self.ports},
            ENDPOINTS: {name: build_endpoints(name, ports) for name, ports in self.ports.items()},
        }
        merged = {url: {**mine, **self.more.get(url, {})} for url, mine in bodies.items()}
        self.world.publish_types(
            {
                url: {name: Resource(name, version_of(body), body) for name, body in texts.items()}
                for url, texts in merged.items()
            }
        )


class Caller:
    """A process that makes calls through its xDS client, one at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def call(self, target: str = f"xds:///{SERVICE}", within: float = 20.0) -> str:
        """The health that was answered, or the name of the status code that the call ended with."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{target} {within}\n".encode())
        async with asyncio.timeout(within + 10.0):
            return (await self._process.stdout.readline()).decode().strip()

    async def until(self, *expected: str, within: float = 30.0) -> str:
        """Calls until one of these is answered."""
        async with asyncio.timeout(within):
            while (answer := await self.call()) not in expected:  # noqa: ASYNC110 - gRPC tells nobody
                await asyncio.sleep(0.05)
        return answer


@asynccontextmanager
async def calling(address: str, node_id: str = "grpc-client") -> AsyncIterator[Caller]:
    """A client of the xDS server at that address."""
    server = {"server_uri": address, "channel_creds": [{"type": "insecure"}], "server_features": ["xds_v3"]}
    bootstrap = {"xds_servers": [server], "node": {"id": node_id, "metadata": {"role": ROLE}}}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _CALLER,
        env={**os.environ, "GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(bootstrap)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Caller(process)
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def answering(status: str) -> AsyncIterator[int]:
    """A gRPC service that answers with that health; its port."""
    server = aio.server()
    servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    await servicer.set("", health_pb2.HealthCheckResponse.ServingStatus.Value(status))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0.0)


def build_listener() -> bytes:
    """What the client asks for first: a listener named like the service that takes its routes by RDS."""
    router = hcm.HttpFilter(name="envoy.filters.http.router", typed_config=typed_config(router_pb2.Router()))
    manager = hcm.HttpConnectionManager(
        rds=hcm.Rds(config_source=_ADS, route_config_name="routes"), http_filters=[router]
    )
    api_listener = api_listener_pb2.ApiListener(api_listener=typed_config(manager))
    return to_bytes(listener_pb2.Listener(name=SERVICE, api_listener=api_listener))


def build_routes(weights: dict[str, int]) -> bytes:
    """All methods to clusters by weight."""
    chosen = [
        route_components_pb2.WeightedCluster.ClusterWeight(name=name, weight=wrappers_pb2.UInt32Value(value=weight))
        for name, weight in weights.items()
    ]
    action: Any = route_components_pb2.RouteAction(
        weighted_clusters=route_components_pb2.WeightedCluster(clusters=chosen)
    )
    route = route_components_pb2.Route(match=route_components_pb2.RouteMatch(prefix=""), route=action)
    virtual_host = route_components_pb2.VirtualHost(name="all", domains=["*"], routes=[route])
    return to_bytes(route_pb2.RouteConfiguration(name="routes", virtual_hosts=[virtual_host]))


def build_cluster(name: str) -> bytes:
    """A cluster whose endpoints come by EDS."""
    eds = cluster_pb2.Cluster.EdsClusterConfig(eds_config=_ADS)
    return to_bytes(cluster_pb2.Cluster(name=name, type=cluster_pb2.Cluster.EDS, eds_cluster_config=eds))


def build_bad_cluster(name: str) -> bytes:
    """One of a type that gRPC refuses."""
    return to_bytes(cluster_pb2.Cluster(name=name, type=cluster_pb2.Cluster.ORIGINAL_DST))


def build_endpoints(name: str, ports: Iterable[int]) -> bytes:
    """Instances on loopback, with the locality and the weights that gRPC insists on."""
    endpoints = [
        endpoint_components_pb2.LbEndpoint(
            endpoint=endpoint_components_pb2.Endpoint(
                address=address_pb2.Address(
                    socket_address=address_pb2.SocketAddress(address="127.0.0.1", port_value=port)
                )
            )
        )
        for port in ports
    ]
    locality = endpoint_components_pb2.LocalityLbEndpoints(
        locality=base_pb2.Locality(region="here"),
        load_balancing_weight=wrappers_pb2.UInt32Value(value=1),
        lb_endpoints=endpoints,
    )
    localities = [locality] if endpoints else []
    return to_bytes(endpoint_pb2.ClusterLoadAssignment(cluster_name=name, endpoints=localities))
