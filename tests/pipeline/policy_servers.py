"""Servers that Envoy asks about requests, for tests: authorisation, limits, processing, and a place for copies."""

import queue
import threading
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from envoy.service.auth.v3 import external_auth_pb2
from envoy.service.ext_proc.v3 import external_processor_pb2
from envoy.service.ratelimit.v3 import rls_pb2
from google.rpc import code_pb2

SECONDS = 10.0
"""How long to wait for what Envoy sends."""
_AUTH = "envoy.service.auth.v3.Authorization"
_PROCESSING = "envoy.service.ext_proc.v3.ExternalProcessor"
_LIMITS = "envoy.service.ratelimit.v3.RateLimitService"


@dataclass
class PolicyServer:
    """Lets in who says ``x-user: ann``, finds that whoever has the free plan asked too often, and adds a header."""

    checks: "queue.Queue[Any]" = field(default_factory=queue.Queue)
    """CheckRequests."""
    counted: "queue.Queue[Any]" = field(default_factory=queue.Queue)
    """RateLimitRequests."""
    port: int = 0

    def start(self) -> grpc.Server:
        """Starts the server; the caller stops it."""
        server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
        check = grpc.unary_unary_rpc_method_handler(
            self._check, external_auth_pb2.CheckRequest.FromString, external_auth_pb2.CheckResponse.SerializeToString
        )
        count = grpc.unary_unary_rpc_method_handler(
            self._count, rls_pb2.RateLimitRequest.FromString, rls_pb2.RateLimitResponse.SerializeToString
        )
        process = grpc.stream_stream_rpc_method_handler(
            self._process,
            external_processor_pb2.ProcessingRequest.FromString,
            external_processor_pb2.ProcessingResponse.SerializeToString,
        )
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(_AUTH, {"Check": check}),
                grpc.method_handlers_generic_handler(_LIMITS, {"ShouldRateLimit": count}),
                grpc.method_handlers_generic_handler(_PROCESSING, {"Process": process}),
            )
        )
        self.port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        return server

    def _check(self, request: Any, _context: grpc.ServicerContext) -> Any:
        self.checks.put(request)
        answer = external_auth_pb2.CheckResponse()
        if request.attributes.request.http.headers.get("x-user") != "ann":
            answer.status.code = code_pb2.PERMISSION_DENIED
            answer.denied_response.body = "who are you?"
            return answer
        answer.ok_response.headers.add().header.key = "x-checked"
        answer.ok_response.headers[0].header.value = "yes"
        return answer

    def _count(self, request: Any, _context: grpc.ServicerContext) -> Any:
        self.counted.put(request)
        entries = {(entry.key, entry.value) for descriptor in request.descriptors for entry in descriptor.entries}
        code = rls_pb2.RateLimitResponse.OVER_LIMIT if ("plan", "free") in entries else rls_pb2.RateLimitResponse.OK
        return rls_pb2.RateLimitResponse(overall_code=code)

    def _process(self, requests: Iterator[Any], _context: grpc.ServicerContext) -> Iterator[Any]:
        for request in requests:
            answer = external_processor_pb2.ProcessingResponse()
            part = getattr(answer, request.WhichOneof("request"))
            part.SetInParent()
            if request.HasField("request_headers"):
                added = part.response.header_mutation.set_headers.add()
                added.header.key, added.header.raw_value = "x-processed", b"yes"
            yield answer


class CopyServer(ThreadingHTTPServer):
    """Keeps path and headers of every request."""

    daemon_threads = True

    def __init__(self) -> None:
        self.seen: queue.Queue[tuple[str, dict[str, str]]] = queue.Queue()
        super().__init__(("127.0.0.1", 0), _CopyHandler)

    def start(self) -> None:
        """Serves in a thread of its own until ``shutdown``."""
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()


class _CopyHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: CopyServer

    def do_GET(self) -> None:
        self.server.seen.put((self.path, {name.lower(): value for name, value in self.headers.items()}))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name of the library
        """Says nothing."""
