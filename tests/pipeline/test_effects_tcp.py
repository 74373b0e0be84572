"""What TCP and hybrid gateways do to connections: one real Envoy, upstreams that say their name, and an HTTP proxy."""

import contextlib
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from google.protobuf import json_format

from gloo_nomad.demo.envoy import start_envoy
from gloo_nomad.demo.ports import free_port
from tests.envoy_validate import build_bootstrap
from tests.golden.world import ROLE, run_pipeline
from tests.pipeline.certificates import make_pair, tls_secret

pytestmark = pytest.mark.envoy

SECONDS: Final = 10
TERMINATED: Final = "ends.example.com"
PASSED: Final = "passes.example.com"


class Upstream:
    """A server that greets every connection, over TLS if it has a certificate, and sends back what comes."""

    def __init__(self, greeting: str, context: ssl.SSLContext | None = None) -> None:
        self.greeting = greeting.encode()
        self.context = context
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listening.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            if self.context is None:
                self.speak(connection)
                return
            with self.context.wrap_socket(connection, server_side=True) as secured:
                self.speak(secured)

    def speak(self, connection: socket.socket) -> None:
        """Greets, and sends back what comes."""
        connection.sendall(self.greeting + b"\n")
        while data := connection.recv(4096):
            connection.sendall(data)

    def close(self) -> None:
        """Accepts no more."""
        self.listening.close()


class ConnectProxy(Upstream):
    """An HTTP proxy that answers a CONNECT request with what it was asked for, through the tunnel."""

    def speak(self, connection: socket.socket) -> None:
        """Reads the request's head, agrees, and sends the head back through the tunnel."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + head)
        connection.recv(1)


@dataclass(frozen=True)
class Gateways:
    """A running Envoy: its ports by what they are for."""

    ports: dict[str, int]

    def greeting(self, port: str, server_name: str = "") -> str:
        """The first line of a connection; over TLS if a server is named; empty if there is none."""
        try:
            with _connected(self.ports[port], server_name) as connection:
                return _first_line(connection)
        except OSError:
            return ""

    def certificate(self, port: str, server_name: str) -> str:
        """The certificate that a handshake with that server name shows, in PEM."""
        with _connected(self.ports[port], server_name) as connection:
            shown = connection.getpeercert(binary_form=True) if isinstance(connection, ssl.SSLSocket) else None
            return ssl.DER_cert_to_PEM_cert(shown or b"")


@contextlib.contextmanager
def _connected(port: int, server_name: str = "") -> Iterator[socket.socket]:
    """A connection to a port of loopback, over TLS if a server is named; certificates are not checked."""
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as plain:
        if not server_name:
            yield plain
            return
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(plain, server_hostname=server_name) as secured:
            yield secured


def _first_line(connection: socket.socket) -> str:
    read = b""
    while b"\n" not in read and (data := connection.recv(4096)):
        read += data
    return read.partition(b"\n")[0].decode().strip()


def _single(name: str) -> dict[str, Any]:
    return {"single": {"upstream": {"name": name, "namespace": "gloo-system"}}}


def _weighted(**weights: int) -> dict[str, Any]:
    entries = [{"destination": _single(name)["single"], "weight": weight} for name, weight in weights.items()]
    return {"multi": {"destinations": entries}}


def _by_name(*hosts: tuple[str, dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
    made = [{"sslConfig": {"sniDomains": [name], **ssl}, "destination": to} for name, ssl, to in hosts]
    return {"tcpGateway": {"tcpHosts": made}}


ENDS: Final = {"secretRef": {"name": "ends", "namespace": "gloo-system"}}
RANGE: Final = {"addressPrefix": "127.0.0.0", "prefixLen": 8}
GATEWAYS: Final[dict[str, dict[str, Any]]] = {
    "weighted": {"tcpGateway": {"tcpHosts": [{"destination": _weighted(one=1, two=1)}]}},
    "missing": {"tcpGateway": {"tcpHosts": [{"destination": _single("missing")}]}},
    "tls": _by_name(
        (TERMINATED, ENDS, _single("one")),
        (PASSED, {}, _single("secure")),
        ("*", {}, {"forwardSniClusterName": {}}),
    ),
    "tunnel": {
        "tcpGateway": {
            "tcpHosts": [{"destination": _single("proxy")}],
            "options": {"tcpProxySettings": {"tunnelingConfig": {"hostname": "database.example.com:5432"}}},
        }
    },
    "idle": {
        "tcpGateway": {
            "tcpHosts": [{"destination": _single("one")}],
            "options": {"tcpProxySettings": {"idleTimeout": "0.2s"}},
        }
    },
    "limited": {
        "tcpGateway": {
            "tcpHosts": [{"destination": _single("one")}],
            "options": {"connectionLimit": {"maxActiveConnections": 1}},
        }
    },
    "bucket": {
        "tcpGateway": {
            "tcpHosts": [{"destination": _single("one")}],
            "options": {"localRatelimit": {"maxTokens": 2, "fillInterval": "600s"}},
        }
    },
    "hybrid": {
        "hybridGateway": {
            "matchedGateways": [
                {"httpGateway": {}},
                {
                    "matcher": {"sslConfig": {"sniDomains": [PASSED]}},
                    "tcpGateway": {"tcpHosts": [{"destination": _single("secure")}]},
                },
            ]
        }
    },
    "ranged": {
        "hybridGateway": {
            "matchedGateways": [
                {"httpGateway": {}},
                {
                    "matcher": {"sourcePrefixRanges": [RANGE]},
                    "tcpGateway": {"tcpHosts": [{"destination": _single("two")}]},
                },
            ]
        }
    },
}


def _objects(ports: dict[str, int], upstreams: dict[str, int]) -> list[dict[str, Any]]:
    metadata = {"namespace": "gloo-system"}
    gateways = [
        {"kind": "Gateway", "metadata": {"name": name, **metadata}, "bindAddress": "127.0.0.1", "bindPort": port}
        | GATEWAYS[name]
        for name, port in ports.items()
    ]
    static = [
        {
            "kind": "Upstream",
            "metadata": {"name": name, **metadata},
            "static": {"hosts": [{"addr": "127.0.0.1", "port": port}]},
        }
        for name, port in upstreams.items()
    ]
    routes = [{"matchers": [{"prefix": "/"}], "directResponseAction": {"status": 200, "body": "http"}}]
    service = {"kind": "VirtualService", "metadata": {"name": "web", **metadata}, "virtualHost": {"routes": routes}}
    secret = yaml.safe_load(tls_secret("ends", make_pair(TERMINATED)))
    return [*gateways, *static, service, secret]


def _server_context(folder: Path) -> ssl.SSLContext:
    pair = make_pair(PASSED)
    file = folder / "passes.pem"
    file.write_text(pair.certificate + pair.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


@pytest.fixture(scope="module")
def gateways(tmp_path_factory: pytest.TempPathFactory, envoy_binary: Path) -> Iterator[Gateways]:
    """An Envoy with all the gateways."""
    folder = tmp_path_factory.mktemp("tcp")
    servers: dict[str, Upstream] = {name: Upstream(name) for name in ("one", "two")}
    servers["secure"] = Upstream("secure", _server_context(folder))
    servers["proxy"] = ConnectProxy("proxy")
    ports = {name: free_port() for name in GATEWAYS}
    outcome = run_pipeline(_objects(ports, {name: server.port for name, server in servers.items()}))
    assert [problem["path"] for problem in outcome.problems] == ["tcpGateway.tcpHosts[0].destination.single.upstream"]
    bootstrap = json_format.MessageToDict(build_bootstrap(outcome.snapshots[ROLE]))
    envoy = start_envoy(folder, bootstrap, binary=envoy_binary, ready=True)
    yield Gateways(ports)
    envoy.stop()
    for server in servers.values():
        server.close()


def test_connections_are_split_by_weight(gateways: Gateways) -> None:
    """Two destinations of equal weight both get connections."""
    seen = Counter(gateways.greeting("weighted") for _ in range(40))

    assert set(seen) == {"one", "two"}
    assert min(seen.values()) >= 5


def test_missing_destination_closes_connections(gateways: Gateways) -> None:
    """Nothing is answered where the upstream does not exist; the listener is there all the same."""
    assert gateways.greeting("missing") == ""
    with _connected(gateways.ports["missing"]) as connection:
        assert connection.fileno() >= 0


def test_tls_ends_at_the_gateway(gateways: Gateways) -> None:
    """A host with a secret shows its certificate, and its upstream is spoken to in plain text."""
    assert gateways.certificate("tls", TERMINATED) == make_pair(TERMINATED).certificate
    assert gateways.greeting("tls", TERMINATED) == "one"


def test_tls_passes_through(gateways: Gateways) -> None:
    """A host with a server name and no secret leaves TLS to its upstream, whose certificate is seen."""
    assert gateways.certificate("tls", PASSED) == make_pair(PASSED).certificate
    assert gateways.greeting("tls", PASSED) == "secure"


@pytest.mark.parametrize(("name", "greeting"), [("secure_gloo-system", "secure"), ("nobody_gloo-system", "")])
def test_server_name_may_be_a_cluster(gateways: Gateways, name: str, greeting: str) -> None:
    """With forwardSniClusterName the server name of the handshake names the cluster; another is closed."""
    assert gateways.greeting("tls", name) == greeting


def test_connections_travel_through_a_proxy(gateways: Gateways) -> None:
    """A tunnel begins with a CONNECT request for the configured host."""
    assert gateways.greeting("tunnel") == "CONNECT database.example.com:5432 HTTP/1.1"


def test_silent_connections_are_closed(gateways: Gateways) -> None:
    """A connection without a byte for the idle time ends."""
    with _connected(gateways.ports["idle"]) as connection:
        assert connection.recv(4096) == b"one\n"
        assert connection.recv(4096) == b""


def test_connections_are_limited(gateways: Gateways) -> None:
    """A second connection beside the allowed one is closed without an answer."""
    with _connected(gateways.ports["limited"]) as first:
        assert _first_line(first) == "one"
        assert gateways.greeting("limited") == ""


def test_new_connections_are_counted(gateways: Gateways) -> None:
    """Two tokens let two connections in, one after the other; the third is closed."""
    assert [gateways.greeting("bucket") for _ in range(3)] == ["one", "one", ""]


HYBRID: Final[list[tuple[str, Callable[[Gateways], str], str]]] = [
    ("TLS with the matcher's name passes through", lambda found: found.greeting("hybrid", PASSED), "secure"),
    ("plain text is HTTP", lambda found: _ask(found.ports["hybrid"]), "HTTP/1.1 200 OK"),
    ("the client's address chooses TCP", lambda found: found.greeting("ranged"), "two"),
]


@pytest.mark.parametrize(("ask", "answer"), [case[1:] for case in HYBRID], ids=[case[0] for case in HYBRID])
def test_hybrid_gateway_tells_connections_apart(
    gateways: Gateways, ask: Callable[[Gateways], str], answer: str
) -> None:
    """HTTP and TCP share a port; server names and addresses of clients decide."""
    assert ask(gateways) == answer


def _ask(port: int) -> str:
    with _connected(port) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: example.com\r\nconnection: close\r\n\r\n")
        return _first_line(connection)
