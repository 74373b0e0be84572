"""The gRPC services: the aggregated one and those for a single type, with the names that Envoy's API gives them."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

import grpc
from envoy.service.cluster.v3 import cds_pb2
from envoy.service.discovery.v3 import ads_pb2, discovery_pb2
from envoy.service.endpoint.v3 import eds_pb2
from envoy.service.listener.v3 import lds_pb2
from envoy.service.route.v3 import rds_pb2, srds_pb2
from envoy.service.runtime.v3 import rtds_pb2
from envoy.service.secret.v3 import sds_pb2

from gloo_nomad.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, RUNTIME, SCOPED_ROUTES, SECRET, VIRTUAL_HOST
from gloo_nomad.xds.delta import DeltaSession
from gloo_nomad.xds.sotw import SotwSession
from gloo_nomad.xds.stream import Protocol, Stream, StreamEndedError, StreamServices, parse_node, parse_request
from gloo_nomad.xds.wire import Encoder

Handler = Callable[[Any, Any], Coroutine[Any, Any, Any]]

DELTA: Final = Protocol("delta", True, discovery_pb2.DeltaDiscoveryRequest, DeltaSession)
SOTW: Final = Protocol("sotw", False, discovery_pb2.DiscoveryRequest, SotwSession)


@dataclass(frozen=True, slots=True)
class DiscoveryService:
    """One service of Envoy's API; an empty type URL means any type."""

    name: str
    methods: tuple[str, ...]
    type_url: str


def _describe(file: Any, name: str, type_url: str) -> DiscoveryService:
    descriptor = file.DESCRIPTOR.services_by_name[name]
    return DiscoveryService(descriptor.full_name, tuple(method.name for method in descriptor.methods), type_url)


SERVICES: Final = (
    _describe(ads_pb2, "AggregatedDiscoveryService", ""),
    _describe(cds_pb2, "ClusterDiscoveryService", CLUSTER),
    _describe(eds_pb2, "EndpointDiscoveryService", ENDPOINTS),
    _describe(lds_pb2, "ListenerDiscoveryService", LISTENER),
    _describe(rds_pb2, "RouteDiscoveryService", ROUTES),
    _describe(rds_pb2, "VirtualHostDiscoveryService", VIRTUAL_HOST),
    _describe(srds_pb2, "ScopedRoutesDiscoveryService", SCOPED_ROUTES),
    _describe(sds_pb2, "SecretDiscoveryService", SECRET),
    _describe(rtds_pb2, "RuntimeDiscoveryService", RUNTIME),
)


def build_handlers(services: StreamServices) -> list["grpc.GenericRpcHandler[Any, Any]"]:
    """A gRPC handler for each service; requests and responses pass as bytes."""
    return [
        grpc.method_handlers_generic_handler(
            service.name,
            {method: _build_method(services, method, service.type_url) for method in service.methods},
        )
        for service in SERVICES
    ]


def _build_method(services: StreamServices, method: str, type_url: str) -> "grpc.RpcMethodHandler[Any, Any]":
    """Streams for ``Stream...`` and ``Delta...``, a unary call for ``Fetch...``."""
    if method.startswith("Fetch"):
        return grpc.unary_unary_rpc_method_handler(_build_fetch(services, type_url))
    protocol = DELTA if method.startswith("Delta") else SOTW
    return grpc.stream_stream_rpc_method_handler(_build_stream(services, protocol, type_url))


def _build_stream(services: StreamServices, protocol: Protocol, type_url: str) -> Handler:
    async def serve_stream(_: Any, context: Any) -> None:
        await Stream(services, protocol, context, type_url).run()

    return serve_stream


def _build_fetch(services: StreamServices, type_url: str) -> Handler:
    async def fetch(payload: bytes, context: Any) -> bytes:
        try:
            return fetch_once(services, payload, type_url, context)
        except StreamEndedError as error:
            await context.abort(error.code, error.details)
            raise

    return fetch


def fetch_once(services: StreamServices, payload: bytes, type_url: str, context: Any) -> bytes:
    """One state-of-the-world response without a stream; raises StreamEndedError if there is none for this client."""
    request = parse_request(discovery_pb2.DiscoveryRequest, payload, type_url)
    request.version_info = ""
    node = parse_node(request.node)
    services.admit(context, node)
    role = node.role
    view = services.cache.view(role, delta=False)
    session = SotwSession(view)
    session.receive(request, 0.0)
    outgoing = session.next_response(0.0)
    services.cache.release(view)
    if outgoing is None:
        raise StreamEndedError(grpc.StatusCode.UNAVAILABLE, f"there is no configuration for the role {role!r} yet")
    return Encoder().encode(outgoing).payload
