"""A small HTTP service that answers what it was asked, for demos and tests.

``python -m gloo_nomad.demo.echo --port 9001 --name echo-1``. Every path answers JSON with the instance's name, method,
path, headers and body. ``?status=503`` answers with that status, ``?delay=0.5`` waits so many seconds (at most 30).
``/health`` answers 200 until ``POST /health/critical``, then 503 until ``POST /health/passing``.
"""

import argparse
import json
import os
import signal
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.ports import free_port
from gloo_nomad.demo.processes import ServerProcess, start_process, wait_ready

_MAX_BODY = 10 * 1024 * 1024
_MAX_DELAY = 30.0


class EchoServer(ThreadingHTTPServer):
    """The service; ``critical`` is what its health check says."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], instance: str) -> None:
        self.instance = instance
        self.critical = False
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: EchoServer

    def do_GET(self) -> None:
        body = self._body()
        address = urlsplit(self.path)
        if address.path.startswith("/health"):
            self._answer_health(address.path)
            return
        query = parse_qs(address.query)
        time.sleep(min(float(query.get("delay", ["0"])[0]), _MAX_DELAY))
        self._send(
            int(query.get("status", ["200"])[0]),
            {
                "instance": self.server.instance,
                "method": self.command,
                "path": self.path,
                "headers": {name.lower(): value for name, value in self.headers.items()},
                "body": body.decode(errors="replace"),
            },
        )

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_HEAD = do_GET  # noqa: N815  # names of the library

    def _answer_health(self, path: str) -> None:
        if self.command == "POST" and path == "/health/critical":
            self.server.critical = True
        elif self.command == "POST" and path == "/health/passing":
            self.server.critical = False
        state = HTTPStatus.SERVICE_UNAVAILABLE if self.server.critical and self.command != "POST" else HTTPStatus.OK
        self._send(state, {"instance": self.server.instance, "critical": self.server.critical})

    def _body(self) -> bytes:
        length = int(self.headers.get("Content-Length") or 0)
        return self.rfile.read(min(length, _MAX_BODY))

    def _send(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content, indent=2).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name of the library
        """Says nothing: a line per request is noise in a demo."""


def start_echo(directory: Path, *, name: str = "echo", port: int | None = None) -> tuple[ServerProcess, int]:
    """Starts the service as a child process; returns it with its port."""
    listen = port or free_port()
    line = [sys.executable, "-m", "gloo_nomad.demo.echo", "--port", str(listen), "--name", name]
    server = start_process(name, line, directory / f"{name}-{listen}.log")
    wait_ready(server, lambda: fetch(listen, "/health").status == HTTPStatus.OK)
    return server, listen


def main() -> None:
    """Serves until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m gloo_nomad.demo.echo", description="Answers what it was asked.")
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT", "9001")), help="default: $PORT or 9001")
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--name", default="echo", help="the instance's name in every answer")
    arguments = parser.parse_args()
    server = EchoServer((arguments.address, arguments.port), arguments.name)

    def stop(*_: object) -> None:
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    server.serve_forever(poll_interval=0.1)


if __name__ == "__main__":
    main()
