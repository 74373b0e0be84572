"""Servers that Envoy talks to in tests: one that keeps the requests it got, and a small gRPC service."""

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import grpc

from tests.http_servers import serving_http

_PATIENCE_SECONDS = 15.0


@dataclass
class Kept:
    """What a server got: (path, body) of each request."""

    port: int = 0
    requests: list[tuple[str, bytes]] = field(default_factory=list)

    def wait_for(self, matches: Callable[[str, bytes], bool]) -> bytes:
        """The body of the first request that matches; an assertion fails if none comes in time."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            for path, body in [*self.requests]:
                if matches(path, body):
                    return body
            time.sleep(0.05)
        raise AssertionError(f"no such request; these came: {[path for path, _ in self.requests]}")


@contextmanager
def keep_requests() -> Iterator[Kept]:
    """An HTTP server that answers 202 to everything and keeps it."""
    kept = Kept()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self._read_chunks() if self.headers.get("Transfer-Encoding") == "chunked" else self._read_length()
            kept.requests.append((self.path, body))
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_PUT = do_GET = do_POST  # noqa: N815  # names of the library

        def _read_length(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def _read_chunks(self) -> bytes:
            body = b""
            while size := int(self.rfile.readline().strip() or b"0", 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name of the library
            """Says nothing."""

    with serving_http(Handler) as kept.port:
        yield kept


class _Everything(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # it takes arguments in the stubs only
    """Answers every call with the bytes that it got."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept

    def service(self, handler_call_details: Any) -> Any:
        def answer(request: bytes, context: Any) -> bytes:
            self.kept.requests.append((handler_call_details.method, request))
            return request

        return grpc.unary_unary_rpc_method_handler(answer)


@contextmanager
def answer_grpc() -> Iterator[Kept]:
    """A gRPC server, without TLS, that answers each call with its own request and keeps it."""
    kept = Kept()
    server = grpc.server(ThreadPoolExecutor(max_workers=2), handlers=[_Everything(kept)])
    kept.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield kept
    finally:
        server.stop(None).wait()


def talk(port: int, sent: bytes, *, until: bytes) -> bytes:
    """Bytes over a plain connection, and what comes back up to some bytes, or to its end."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(sent)
        return read_until(connection, until)


def read_until(connection: socket.socket, end: bytes) -> bytes:
    """What comes up to some bytes, or to the end of the connection."""
    got = b""
    while end not in got and (part := connection.recv(65_536)):
        got += part
    return got
