"""The xDS server: discovery services, health and reflection on one gRPC port."""

import asyncio
import socket
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import grpc
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry

from gloo_nomad.serving import shown
from gloo_nomad.xds.access import Authorize, allow_all
from gloo_nomad.xds.cache import XdsCache
from gloo_nomad.xds.metrics import XdsMetrics
from gloo_nomad.xds.services import SERVICES, build_handlers
from gloo_nomad.xds.stream import NackCallback, RecoveryCallback, StreamServices, ignore_nack, ignore_recovery

DEFAULT_ADDRESS: Final = "0.0.0.0:9977"
STAGGER: Final = 1.0
"""Seconds within which the streams of a server that stops are ended, one after the other."""
_MIB: Final = 1024 * 1024


class XdsBindError(Exception):
    """The address cannot be bound; the text is one line that says which setting to change."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Sizes in bytes, times in seconds.

    ``keepalive`` is how often an idle connection is checked, and ``keepalive_answer`` how long that may take before
    the connection counts as dead. ``ping_interval`` is how often a client may check. ``streams`` bounds the calls
    of all clients together.
    """

    send_bytes: int = 64 * _MIB
    receive_bytes: int = 8 * _MIB
    streams: int = 8_192
    keepalive: float = 30.0
    keepalive_answer: float = 20.0
    ping_interval: float = 5.0


DEFAULT_LIMITS: Final = ServerLimits()


class XdsServer:
    """A server that runs; ``port`` is the real one, also when port 0 was asked for."""

    def __init__(self, server: Any, services: StreamServices, health_service: Any, host: str, port: int) -> None:
        self._server = server
        self._services = services
        self._health = health_service
        self.host = host
        self.port = port

    @property
    def address(self) -> str:
        """Host and port as one text."""
        return shown(self.host, self.port)

    async def set_serving(self, *, serving: bool) -> None:
        """What the gRPC health service answers from now on."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *(service.name for service in SERVICES)):
            await self._health.set(name, status)

    async def stop(self, grace: float = 2.0) -> None:
        """Ends all streams with a status on which Envoy connects to another server.

        The port is closed first, so that none comes back here; then the streams end one after the other within
        ``STAGGER`` seconds, because the other servers need not have all of them at once. Calls that are still under
        way ``grace`` seconds later are cut.
        """
        await self.set_serving(serving=False)
        stopping = asyncio.create_task(self._server.stop(STAGGER + grace), name="xds closing")
        await asyncio.sleep(0)
        await self._services.stop(STAGGER)
        await stopping

    async def wait(self) -> None:
        """Returns when the server has stopped."""
        await self._server.wait_for_termination()


async def serve(
    cache: XdsCache,
    address: str = DEFAULT_ADDRESS,
    *,
    credentials: grpc.ServerCredentials | None = None,
    authorize: Authorize = allow_all,
    limits: ServerLimits = DEFAULT_LIMITS,
    metrics: XdsMetrics | None = None,
    on_nack: NackCallback = ignore_nack,
    on_recovery: RecoveryCallback = ignore_recovery,
) -> XdsServer:
    """Starts the server on ``host:port``; raises XdsBindError with one line if that is not possible.

    Without credentials it speaks plain text. ``authorize`` is asked by every stream and fetch which role its client may
    have; health and reflection say nothing of any role. Callbacks run in the event loop and must be quick.
    """
    host, port = parse_address(address)
    check_bindable(host, port, address)
    services = StreamServices(
        cache, metrics or XdsMetrics(CollectorRegistry()), on_nack, on_recovery, limits.send_bytes, authorize=authorize
    )
    server = aio.server(options=_build_options(limits), maximum_concurrent_rpcs=limits.streams)
    server.add_generic_rpc_handlers(build_handlers(services))
    health_service = health.aio.HealthServicer()  # type: ignore[attr-defined]
    health_pb2_grpc.add_HealthServicer_to_server(health_service, server)
    names = (*(service.name for service in SERVICES), health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    bound = _bind(server, address, credentials)
    await server.start()
    running = XdsServer(server, services, health_service, host, bound)
    await running.set_serving(serving=True)
    return running


def _build_options(limits: ServerLimits) -> list[tuple[str, int]]:
    """Channel arguments of gRPC core, times in milliseconds (grpc/impl/channel_arg_names.h)."""
    return [
        ("grpc.so_reuseport", 0),
        ("grpc.max_send_message_length", limits.send_bytes),
        ("grpc.max_receive_message_length", limits.receive_bytes),
        ("grpc.keepalive_time_ms", round(limits.keepalive * 1_000)),
        ("grpc.keepalive_timeout_ms", round(limits.keepalive_answer * 1_000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", round(limits.ping_interval * 1_000)),
    ]


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of ``host:port`` or ``[address]:port``; raises XdsBindError if it is something else."""
    host, separator, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (separator and port.isascii() and port.isdigit() and int(port) < 65_536):
        raise XdsBindError(
            f"xDS address {address!r} is not host:port: set gloo.xdsBindAddr, for example to 0.0.0.0:9977"
        )
    return host or "0.0.0.0", int(port)


def check_bindable(host: str, port: int, address: str) -> None:
    """Binds the address for a moment, because the system's reason is clearer than gRPC's; raises XdsBindError."""
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with closing(socket.socket(family, kind, protocol)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
    except OSError as error:
        raise XdsBindError(_cannot_bind(address, error.strerror or str(error))) from None


def _cannot_bind(address: str, reason: str) -> str:
    return f"xDS address {address} cannot be bound: {reason}; free the port or set gloo.xdsBindAddr to another one"


def _bind(server: Any, address: str, credentials: grpc.ServerCredentials | None) -> int:
    try:
        if credentials is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, credentials))
    except RuntimeError as error:
        raise XdsBindError(_cannot_bind(address, str(error))) from None
