"""What options of a listener do to connections: one real Envoy with a gateway for each."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format

from gloo_nomad.demo.echo import start_echo
from gloo_nomad.demo.envoy import Envoy, start_envoy
from gloo_nomad.demo.fetch import Connection, fetch
from gloo_nomad.demo.ports import free_port
from tests.envoy_validate import build_bootstrap
from tests.golden.frame import fill_frame
from tests.golden.world import ROLE, run_pipeline
from tests.pipeline.certificates import make_pair, tls_secret

pytestmark = pytest.mark.envoy

SECONDS = 10.0
CONNECTIONS = 8
TCP_MAXSEG = 2
"""The same number in every Linux."""
SEGMENT = 600
BIG_BODY = "b" * 5000
HOST = "shop.example.com"

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "small-buffers": {"options": {"perConnectionBufferLimitBytes": 1024}},
    "balanced": {"options": {"connectionBalanceConfig": {"exactBalance": {}}}},
    "counted": {"options": {"tcpStats": True}},
    "segments": {
        "options": {
            "socketOptions": [
                {"level": socket.IPPROTO_TCP, "name": TCP_MAXSEG, "intValue": SEGMENT, "description": "x"}
            ]
        }
    },
    "behind-a-balancer": {
        "options": {
            "proxyProtocol": {
                "rules": [{"tlvType": 234, "onTlvPresent": {"metadataNamespace": "aws", "key": "endpoint"}}]
            }
        }
    },
    "perhaps-behind": {"options": {"proxyProtocol": {"allowRequestsWithoutProxyProtocol": True}}},
    "old-field": {"useProxyProto": True},
}
"""Gateways without TLS that serve the default virtual service."""
PROXIED_V1 = b"PROXY TCP4 192.0.2.7 127.0.0.1 1234 80\r\n"
PROXIED_V2 = (
    b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x14"
    + bytes([192, 0, 2, 7, 127, 0, 0, 1])
    + (1234).to_bytes(2, "big")
    + (80).to_bytes(2, "big")
    + b"\xea\x00\x05vpc-1"
)


@dataclass(frozen=True)
class Gateways:
    """A running Envoy, and the ports of its gateways."""

    envoy: Envoy
    ports: Mapping[str, int]
    folder: Path

    @property
    def log(self) -> Path:
        """The log of connections."""
        return self.folder / "connections"

    def stat(self, gateway: str, name: str) -> int:
        """A statistic of the listener."""
        return self.envoy.stat(f"listener.127.0.0.1_{self.ports[gateway]}.{name}")

    def wait_stat(self, gateway: str, name: str) -> int:
        """The same, as soon as it is not 0."""
        deadline = time.monotonic() + SECONDS
        while not (found := self.stat(gateway, name)) and time.monotonic() < deadline:
            time.sleep(0.02)
        return found

    def ask(self, gateway: str, before: bytes = b"") -> dict[str, Any]:
        """What the upstream sees of a request that comes after *before*; empty if the connection is closed."""
        request = f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode()
        with socket.create_connection(("127.0.0.1", self.ports[gateway]), timeout=SECONDS) as connection:
            connection.sendall(before + request)
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                while received := connection.recv(65536):
                    answer += received
        body = answer.partition(b"\r\n\r\n")[2]
        start, end = body.find(b"{"), body.rfind(b"}")
        seen: dict[str, Any] = json.loads(body[start : end + 1]) if start >= 0 else {}
        return seen


def _gateways(ports: Mapping[str, int], folder: Path) -> list[dict[str, Any]]:
    line = {"path": str(folder / "connections"), "stringFormat": "%DYNAMIC_METADATA(aws:endpoint)%\n"}
    logged = {"listenerAccessLoggingService": {"accessLog": [{"fileSink": line}]}}
    special: Mapping[str, Mapping[str, Any]] = {
        "wide": {
            "routeOptions": {"maxDirectResponseBodySizeBytes": 8192, "mostSpecificHeaderMutationsWins": True},
        },
        "secure": {"ssl": True, "options": {"tcpStats": True}},
    }
    served = {**dict.fromkeys(OPTIONS, "default"), "wide": "wide", "secure": "secure"}
    return [
        {
            "kind": "Gateway",
            "metadata": {"name": name if name != "plain" else "gateway-proxy"},
            "bindAddress": "127.0.0.1",
            "bindPort": ports[name],
            "httpGateway": {"virtualServices": [{"name": served[name], "namespace": "gloo-system"}]},
            **written,
            "options": {**logged, **written.get("options", {})},
        }
        for name, written in {**OPTIONS, **special}.items()
    ]


def _objects(echo: int) -> list[dict[str, Any]]:
    retries = {"retries": {"retryOn": "5xx", "numRetries": 1}, "includeAttemptCountInResponse": True}
    by_level = {
        level: {
            "headerManipulation": {
                "responseHeadersToAdd": [{"header": {"key": "x-level", "value": level}, "append": False}]
            }
        }
        for level in ("host", "route")
    }
    long_answer = {"directResponseAction": {"status": 200, "body": BIG_BODY}, "options": by_level["route"]}
    return [
        {"kind": "VirtualService", "virtualHost": {"options": retries}},
        {
            "kind": "VirtualService",
            "metadata": {"name": "wide"},
            "virtualHost": {"options": by_level["host"], "routes": [long_answer]},
        },
        {
            "kind": "VirtualService",
            "metadata": {"name": "secure"},
            "sslConfig": {"secretRef": {"name": "shop", "namespace": "gloo-system"}},
        },
        {"kind": "Upstream", "static": {"hosts": [{"addr": "127.0.0.1", "port": echo}]}},
        yaml.safe_load(tls_secret("shop", make_pair(HOST))),
    ]


@pytest.fixture(scope="module")
def gateways(tmp_path_factory: pytest.TempPathFactory, envoy_binary: Path) -> Iterator[Gateways]:
    """An Envoy with two threads and all the gateways."""
    folder = tmp_path_factory.mktemp("listeners")
    ports = {name: free_port() for name in (*OPTIONS, "wide", "secure")}
    echo, echo_port = start_echo(folder, name="echo")
    outcome = run_pipeline(fill_frame([*_gateways(ports, folder), *_objects(echo_port)]))
    assert not outcome.problems
    bootstrap = json_format.MessageToDict(build_bootstrap(outcome.snapshots[ROLE]))
    envoy = start_envoy(folder, bootstrap, binary=envoy_binary, ready=True, concurrency=2)
    yield Gateways(envoy, ports, folder)
    envoy.stop()
    echo.stop()


def test_little_is_buffered(gateways: Gateways) -> None:
    """A body that does not fit into the buffer cannot be sent again; by default this one does."""
    attempts = {
        name: fetch(gateways.ports[name], "/?status=503", method="POST", body=b"b" * 8000).headers[
            "x-envoy-attempt-count"
        ]
        for name in ("plain", "small-buffers")
    }

    assert attempts == {"plain": "2", "small-buffers": "1"}


def test_connections_are_balanced(gateways: Gateways) -> None:
    """Each of the two threads has half of the connections."""
    with contextlib.ExitStack() as opened:
        for _ in range(CONNECTIONS):
            connection = opened.enter_context(Connection(gateways.ports["balanced"], host=HOST))
            assert connection.request("/").status == 200
        active = [gateways.stat("balanced", f"worker_{thread}.downstream_cx_active") for thread in (0, 1)]

    assert active == [CONNECTIONS // 2, CONNECTIONS // 2]


def test_tcp_is_counted(gateways: Gateways) -> None:
    """Segments are counted with and without TLS, and only where it was asked for."""
    roots = gateways.folder / "roots.pem"
    roots.write_text(make_pair(HOST).certificate, encoding="utf-8")

    assert fetch(gateways.ports["counted"], host=HOST).status == 200
    assert fetch(gateways.ports["secure"], host=HOST, tls_roots=roots).status == 200
    assert gateways.wait_stat("counted", "tcp_stats.cx_tx_segments") > 0
    assert gateways.wait_stat("secure", "tcp_stats.cx_tx_segments") > 0
    assert gateways.stat("plain", "tcp_stats.cx_tx_segments") == 0


def test_sockets_have_their_options(gateways: Gateways) -> None:
    """A listening socket with small segments tells clients so."""
    sizes = {}
    for name in ("plain", "segments"):
        with socket.create_connection(("127.0.0.1", gateways.ports[name]), timeout=SECONDS) as connection:
            sizes[name] = connection.getsockopt(socket.IPPROTO_TCP, TCP_MAXSEG)

    assert sizes["segments"] <= SEGMENT < sizes["plain"]


@pytest.mark.parametrize("name", ["behind-a-balancer", "perhaps-behind", "old-field"])
def test_the_load_balancer_tells_the_client(gateways: Gateways, name: str) -> None:
    """The address in the PROXY protocol's header is the client's, in both versions of the protocol."""
    for header in (PROXIED_V1, PROXIED_V2):
        assert gateways.ask(name, header)["headers"]["x-forwarded-for"] == "192.0.2.7"


def test_values_of_the_header_are_kept(gateways: Gateways) -> None:
    """A rule makes metadata of the connection from a value that the header has; its log can say it."""
    gateways.ask("behind-a-balancer", PROXIED_V2)
    deadline = time.monotonic() + SECONDS
    while "vpc-1" not in (lines := gateways.log.read_text(encoding="utf-8")) and time.monotonic() < deadline:
        time.sleep(0.02)

    assert "vpc-1" in lines


def test_connections_without_the_header(gateways: Gateways) -> None:
    """They are closed, unless they are allowed."""
    assert gateways.ask("behind-a-balancer") == {}
    assert gateways.ask("old-field") == {}
    assert gateways.ask("perhaps-behind")["path"] == "/"


def test_route_options(gateways: Gateways) -> None:
    """A long body of a direct response is possible, and the route's header wins over the virtual host's."""
    answer = fetch(gateways.ports["wide"], host=HOST)

    assert answer.text == BIG_BODY
    assert answer.headers["x-level"] == "route"
