"""Receivers of access logs by gRPC, for tests: what Envoy and OpenTelemetry call their log services."""

import queue
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

import grpc
from envoy.service.accesslog.v3 import als_pb2
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2

SECONDS = 10.0
"""How long to wait for what Envoy sends."""
_ENVOY = "envoy.service.accesslog.v3.AccessLogService"
_TELEMETRY = "opentelemetry.proto.collector.logs.v1.LogsService"


@dataclass
class LogReceiver:
    """A server on a port of loopback that keeps what it is sent."""

    streamed: "queue.Queue[Any]" = field(default_factory=queue.Queue)
    """Messages of Envoy's protocol."""
    exported: "queue.Queue[tuple[Any, dict[str, str]]]" = field(default_factory=queue.Queue)
    """Requests of OpenTelemetry's, with the headers that they came with."""
    port: int = 0

    def start(self, credentials: grpc.ServerCredentials | None = None) -> grpc.Server:
        """Starts the server; the caller stops it."""
        server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
        stream = grpc.stream_unary_rpc_method_handler(
            self._stream,
            als_pb2.StreamAccessLogsMessage.FromString,
            als_pb2.StreamAccessLogsResponse.SerializeToString,
        )
        export = grpc.unary_unary_rpc_method_handler(
            self._export,
            logs_service_pb2.ExportLogsServiceRequest.FromString,
            logs_service_pb2.ExportLogsServiceResponse.SerializeToString,
        )
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(_ENVOY, {"StreamAccessLogs": stream}),
                grpc.method_handlers_generic_handler(_TELEMETRY, {"Export": export}),
            )
        )
        address = "127.0.0.1:0"
        if credentials is None:
            self.port = server.add_insecure_port(address)
        else:
            self.port = server.add_secure_port(address, credentials)
        server.start()
        return server

    def _stream(self, messages: Iterator[Any], _context: grpc.ServicerContext) -> Any:
        for message in messages:
            self.streamed.put(message)
        return als_pb2.StreamAccessLogsResponse()

    def _export(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.exported.put((request, {str(name): str(value) for name, value in context.invocation_metadata()}))
        return logs_service_pb2.ExportLogsServiceResponse()
