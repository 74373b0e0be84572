"""What settings of upstreams do to requests: one real Envoy, and hosts that tell what they got."""

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from gloo_nomad.demo.echo import start_echo
from gloo_nomad.demo.envoy import Envoy, start_envoy
from gloo_nomad.demo.fetch import Answer, fetch
from gloo_nomad.demo.ports import free_port
from gloo_nomad.demo.processes import wait_until
from tests.envoy_validate import build_bootstrap
from tests.golden.frame import fill_frame
from tests.golden.world import ROLE, run_pipeline

SECONDS = 10.0
HEALTH = {
    "timeout": "0.5s",
    "interval": "0.1s",
    "noTrafficInterval": "0.1s",
    "unhealthyThreshold": 1,
    "healthyThreshold": 1,
}


class RawHost:
    """A host that answers one request on each connection with the bytes that it was sent."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(SECONDS)
            seen = read_head(connection)
            head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(seen)}\r\nconnection: close\r\n\r\n"
            connection.sendall(head.encode() + seen)

    def stop(self) -> None:
        """Ends it."""
        self.listener.close()


@dataclass
class ConnectProxy(RawHost):
    """An HTTP proxy that opens tunnels, to one place whatever is asked for; remembers what it was asked."""

    target: int
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self.asked.append(read_head(connection).decode())
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            with socket.create_connection(("127.0.0.1", self.target)) as other:
                threading.Thread(target=pump, args=(other, connection), daemon=True).start()
                pump(connection, other)


def read_head(connection: socket.socket) -> bytes:
    """Everything up to the empty line."""
    seen = b""
    while b"\r\n\r\n" not in seen and (part := connection.recv(4096)):
        seen += part
    return seen


def pump(source: socket.socket, target: socket.socket) -> None:
    """Copies until one side ends."""
    with contextlib.suppress(OSError):
        while part := source.recv(4096):
            target.sendall(part)


BALANCED: Mapping[str, Any] = {
    "hashed": {"ringHash": {}},
    "by-cookie": {"ringHash": {}},
    "by-address": {"maglev": {}},
    "looked-up": {"maglev": {}},
    "in-turn": {"roundRobin": {}},
    "idle-first": {"leastRequest": {"choiceCount": 2}},
    "by-chance": {"random": {}},
}
POLICIES: Mapping[str, Any] = {
    "by-cookie": [{"cookie": {"name": "who", "ttl": "60s", "path": "/"}}],
    "by-address": [{"sourceIp": True, "terminal": True}, {"header": "x-user"}],
}
"""How users are told apart; by a header elsewhere."""


@dataclass(frozen=True)
class Scene:
    """A running Envoy and what is behind it."""

    envoy: Envoy
    port: int
    hosts: Mapping[str, int]
    proxy: ConnectProxy

    def get(self, upstream: str, query: str = "", **headers: str) -> Answer:
        """One request to an upstream; underscores in names of headers stand for dashes."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return fetch(self.port, f"/{upstream}{query}", headers=sent)

    def instance(self, upstream: str, **headers: str) -> str:
        """The host that answers; "" for an answer of Envoy's."""
        answer = self.get(upstream, **headers)
        return str(answer.json()["instance"]) if answer.status == 200 else ""


def _upstreams(hosts: Mapping[str, int], proxy: int, dead: int) -> dict[str, dict[str, Any]]:
    def at(*names: str) -> dict[str, Any]:
        return {"hosts": [{"addr": "127.0.0.1", "port": hosts[name]} for name in names]}

    check = {**HEALTH, "httpHealthCheck": {"path": "/health", "host": "checked.example.com"}}
    place = {"lbEndpoints": [{"address": "127.0.0.1", "port": hosts["b"]}]}
    named = {"lbEndpoints": [{"address": "localhost", "port": hosts["b"]}]}
    gone = {"hosts": [{"addr": "127.0.0.1", "port": dead}]}
    return {
        "checked": {
            "static": at("a", "b"),
            "healthChecks": [check],
            "loadBalancerConfig": {"healthyPanicThreshold": 0},
        },
        "ejected": {
            "static": at("a"),
            "outlierDetection": {"interval": "0.1s", "consecutive5xx": 1, "baseEjectionTime": "60s"},
            "loadBalancerConfig": {"healthyPanicThreshold": 0},
        },
        **{name: {"static": at("a", "b"), "loadBalancerConfig": config} for name, config in BALANCED.items()},
        "weighted": {
            "static": {
                "hosts": [
                    {**host, "loadBalancingWeight": weight}
                    for host, weight in zip(at("a", "b")["hosts"], (1, 9), strict=True)
                ]
            },
        },
        "full": {"static": at("a"), "circuitBreakers": {"maxRequests": 0, "maxRetries": 7, "trackRemaining": True}},
        "preconnected": {"static": at("a"), "preconnectPolicy": {"perUpstreamPreconnectRatio": 3}},
        "resolved": {"static": {"hosts": [{"addr": "localhost", "port": hosts["a"]}]}, "dnsRefreshRate": "0.1s"},
        "once": {"static": at("a"), "connectionConfig": {"maxRequestsPerConnection": 1}},
        "proper": {
            "static": at("raw"),
            "connectionConfig": {"http1ProtocolOptions": {"properCaseHeaderKeyFormat": True}},
        },
        "told": {"static": at("raw"), "proxyProtocolVersion": "V1"},
        "told-binary": {"static": at("raw"), "proxyProtocolVersion": "V2"},
        "tunnelled": {
            "static": {"hosts": [{"addr": "127.0.0.1", "port": proxy}]},
            "httpProxyHostname": "far.example.com:80",
            "httpConnectHeaders": [{"key": "x-tunnel", "value": "yes"}],
        },
        "failing": {
            "static": gone,
            "healthChecks": [{**HEALTH, "tcpHealthCheck": {}}],
            "failover": {"prioritizedLocalities": [{"localityEndpoints": [place]}]},
        },
        "failing-by-name": {
            "static": gone,
            "healthChecks": [{**HEALTH, "tcpHealthCheck": {}}],
            "failover": {"prioritizedLocalities": [{"localityEndpoints": [named]}]},
        },
        "nobody": {
            "consul": {"serviceName": "nobody"},
            "failover": {"prioritizedLocalities": [{"localityEndpoints": [place]}]},
        },
    }


def _objects(port: int, upstreams: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    routes = [
        {
            "matchers": [{"exact": f"/{name}"}],
            "routeAction": {"single": {"upstream": {"name": name, "namespace": "gloo-system"}}},
            "options": {"lbHash": {"hashPolicies": POLICIES.get(name, [{"header": "x-user"}])}},
        }
        for name in upstreams
    ]
    return [
        {"kind": "Gateway", "bindAddress": "127.0.0.1", "bindPort": port},
        {"kind": "VirtualService", "virtualHost": {"routes": routes}},
        *({"kind": "Upstream", "metadata": {"name": name}, **spec} for name, spec in upstreams.items()),
    ]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, envoy_binary: Path) -> Iterator[Scene]:
    """An Envoy with all the upstreams."""
    folder = tmp_path_factory.mktemp("upstreams")
    port = free_port()
    echo_a, port_a = start_echo(folder, name="a")
    echo_b, port_b = start_echo(folder, name="b")
    raw, proxy = RawHost(), ConnectProxy(port_a)
    hosts = {"a": port_a, "b": port_b, "raw": raw.port}
    objects = fill_frame(_objects(port, _upstreams(hosts, proxy.port, free_port())))
    outcome = run_pipeline(objects, {"gloo": {"failoverUpstreamDnsPollingInterval": "0.2s"}})
    assert [problem for problem in outcome.problems if problem["severity"] == "error"] == []
    bootstrap = json_format.MessageToDict(build_bootstrap(outcome.snapshots[ROLE]))
    envoy = start_envoy(folder, bootstrap, binary=envoy_binary, ready=True)
    yield Scene(envoy, port, hosts, proxy)
    envoy.stop()
    for server in (echo_a, echo_b, raw, proxy):
        server.stop()


pytestmark = pytest.mark.envoy


def test_a_host_that_fails_its_health_check_gets_nothing(scene: Scene) -> None:
    """Both hosts answer, then one while the other says that it is critical, then both again."""

    def answering() -> set[str]:
        return {scene.instance("checked") for _ in range(8)}

    wait_until(lambda: answering() == {"a", "b"}, "both hosts", SECONDS)
    fetch(scene.hosts["b"], "/health/critical", method="POST")
    wait_until(lambda: answering() == {"a"}, "one host", SECONDS)
    fetch(scene.hosts["b"], "/health/passing", method="POST")
    wait_until(lambda: answering() == {"a", "b"}, "both hosts again", SECONDS)


def test_a_host_with_bad_answers_is_taken_out(scene: Scene) -> None:
    """One 500 is enough here, and no host is left: one may always be taken out, though ten percent is less."""
    assert scene.get("ejected").status == 200
    assert scene.get("ejected", "?status=500").status == 500
    wait_until(lambda: scene.get("ejected").text == "no healthy upstream", "the ejection", SECONDS)


def test_names_of_other_places_are_polled(scene: Scene) -> None:
    """As often as the Settings say: Envoy's own five seconds would be too slow for this many in that time."""
    name = "cluster.failing-by-name_gloo-system.update_attempt"

    wait_until(lambda: scene.envoy.stat(name) >= 8, "the look-ups", 20.0)


def test_a_hash_keeps_a_user_on_one_host(scene: Scene) -> None:
    """The same user always meets the same host; many users meet both."""
    by_user = {user: {scene.instance("hashed", x_user=user) for _ in range(4)} for user in map(str, range(12))}

    assert all(len(instances) == 1 for instances in by_user.values())
    assert set().union(*by_user.values()) == {"a", "b"}


def test_a_cookie_or_an_address_keeps_a_client_on_one_host(scene: Scene) -> None:
    """The cookie is set by the first answer; the address counts alone where it is terminal."""
    first = scene.get("by-cookie")
    cookie = first.headers["set-cookie"].partition(";")[0]

    assert cookie.startswith('who="')
    assert {scene.instance("by-cookie", cookie=cookie) for _ in range(6)} == {first.json()["instance"]}
    assert len({scene.instance("by-cookie") for _ in range(24)}) == 2
    assert len({scene.instance("by-address", x_user=str(user)) for user in range(12)}) == 1


def test_load_is_balanced_as_asked_for(scene: Scene) -> None:
    """In turn, by a table, or by chance, which meets both hosts as well."""
    in_turn = [scene.instance("in-turn") for _ in range(8)]
    by_user = {user: {scene.instance("looked-up", x_user=user) for _ in range(4)} for user in map(str, range(12))}

    assert in_turn.count("a") == 4
    assert all(new != old for old, new in itertools.pairwise(in_turn))
    assert all(len(instances) == 1 for instances in by_user.values())
    assert set().union(*by_user.values()) == {"a", "b"}
    for name in ("idle-first", "by-chance"):
        assert {scene.instance(name) for _ in range(40)} == {"a", "b"}


def test_weights_of_hosts_hold(scene: Scene) -> None:
    """Nine of ten requests go to the heavier host."""
    found = [scene.instance("weighted") for _ in range(20)]

    assert found.count("b") == 18


def test_a_circuit_breaker_refuses(scene: Scene) -> None:
    """No request at all may be open; how many retries may is told."""
    answer = scene.get("full")

    assert answer.status == 503
    assert answer.headers["x-envoy-overloaded"] == "true"
    assert scene.envoy.stat("cluster.full_gloo-system.circuit_breakers.default.remaining_retries") == 7


def test_connections_are_opened_beforehand(scene: Scene) -> None:
    """One request opens three connections."""
    assert scene.get("preconnected").status == 200
    wait_until(
        lambda: scene.envoy.stat("cluster.preconnected_gloo-system.upstream_cx_total") == 3, "connections", SECONDS
    )


def test_names_are_looked_up_again(scene: Scene) -> None:
    """Ten times a second, in place of every five seconds."""
    name = "cluster.resolved_gloo-system.update_attempt"
    before, began = scene.envoy.stat(name), time.monotonic()
    wait_until(lambda: scene.envoy.stat(name) >= before + 3, "lookups", SECONDS)

    assert time.monotonic() - began < 4
    assert scene.instance("resolved") == "a"


def test_a_connection_serves_as_many_requests_as_it_may(scene: Scene) -> None:
    """One each, so that every request has a connection of its own."""
    for _ in range(3):
        assert scene.get("once").status == 200

    assert scene.envoy.stat("cluster.once_gloo-system.upstream_cx_total") == 3


def test_names_of_headers_are_written_as_asked_for(scene: Scene) -> None:
    """In upper case after each dash."""
    assert "X-Some-Header: 1" in scene.get("proper", x_some_header="1").text


def test_a_host_is_told_who_the_client_is(scene: Scene) -> None:
    """The PROXY protocol's header comes first, in text or in binary."""
    assert scene.get("told").text.startswith("PROXY TCP4 127.0.0.1 127.0.0.1 ")
    assert scene.get("told-binary").body.startswith(b"\r\n\r\n\x00\r\nQUIT\n")


def test_requests_go_through_the_tunnel_of_a_proxy(scene: Scene) -> None:
    """The proxy is asked for a tunnel with the headers, and the service answers through it."""
    assert scene.instance("tunnelled") == "a"
    assert scene.proxy.asked[0].startswith("CONNECT far.example.com:80 HTTP/1.1\r\n")
    assert "x-tunnel: yes" in scene.proxy.asked[0]


@pytest.mark.parametrize("upstream", ["failing", "failing-by-name", "nobody"])
def test_another_place_takes_over(scene: Scene, upstream: str) -> None:
    """When the upstream's own host is down, or there is none, requests go to the next place, by address or name."""
    wait_until(lambda: scene.instance(upstream) == "b", "the other place", SECONDS)

    assert {scene.instance(upstream) for _ in range(5)} == {"b"}
