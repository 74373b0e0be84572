"""The echo service of a container: it listens on all addresses and registers itself in Consul, with a health check.

``python -m gloo_nomad.demo.registered_echo --port 9001``. Consul is the one of ``CONSUL_HTTP_ADDR``; the registration
is repeated, so that a Consul that starts later, or anew, has it.
"""

import argparse
import http.client
import json
import os
import signal
import socket
import sys
import threading
from http import HTTPStatus

from gloo_nomad.clients.address import parse_address
from gloo_nomad.demo.echo import EchoServer

REPEAT_SECONDS = 5.0
_TIMEOUT = 5.0


def own_address(host: str, port: int) -> str:
    """The address of this machine that reaches a host: what others of the same network reach it by."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, port))
        return str(probe.getsockname()[0])


def build_registration(name: str, address: str, port: int) -> dict[str, object]:
    """The body of ``/v1/agent/service/register``: gone from Consul a minute after the service is."""
    check = {"HTTP": f"http://{address}:{port}/health", "Interval": "2s", "Timeout": "2s"}
    check["DeregisterCriticalServiceAfter"] = "1m"
    return {"Name": name, "ID": f"{name}-{address}-{port}", "Address": address, "Port": port, "Check": check}


def _ask(host: str, port: int, path: str, body: object = None) -> int:
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
    try:
        connection.request("PUT", path, body=json.dumps(body) if body else None)
        return connection.getresponse().status
    finally:
        connection.close()


def _keep_registered(host: str, port: int, name: str, listen: int, stopping: threading.Event) -> None:
    told = ""
    while True:
        try:
            registration = build_registration(name, own_address(host, port), listen)
            status = _ask(host, port, "/v1/agent/service/register?replace-existing-checks=true", registration)
            news = "registered" if status == HTTPStatus.OK else f"Consul at {host}:{port} answers {status}"
        except (OSError, http.client.HTTPException) as failure:
            news = f"Consul at {host}:{port}: {failure}"
        if news != told:
            print(news, file=sys.stderr, flush=True)  # noqa: T201
        told = news
        if stopping.wait(REPEAT_SECONDS):
            return


def main() -> None:
    """Serves until SIGTERM or Ctrl-C, then leaves Consul."""
    parser = argparse.ArgumentParser(prog="python -m gloo_nomad.demo.registered_echo", description=__doc__)
    parser.add_argument("--port", type=int, default=9001)
    parser.add_argument("--name", default="echo")
    arguments = parser.parse_args()
    consul = parse_address(os.environ.get("CONSUL_HTTP_ADDR", "127.0.0.1:8500"), 8500)
    stopping = threading.Event()
    server = EchoServer(("0.0.0.0", arguments.port), socket.gethostname())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    _keep_registered(consul.host, consul.port, arguments.name, arguments.port, stopping)
    instance = build_registration(arguments.name, own_address(consul.host, consul.port), arguments.port)["ID"]
    try:
        _ask(consul.host, consul.port, f"/v1/agent/service/deregister/{instance}")
    except (OSError, http.client.HTTPException) as failure:
        print(f"not deregistered: {failure}", file=sys.stderr)  # noqa: T201
    server.shutdown()


if __name__ == "__main__":
    main()
