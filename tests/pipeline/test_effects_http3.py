"""HTTP/3 beside TLS: one Envoy behind the gateway's options, and another one as the client that speaks it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format

from gloo_nomad.demo.echo import start_echo
from gloo_nomad.demo.envoy import Envoy, start_envoy
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.ports import free_port
from tests.envoy_validate import build_bootstrap
from tests.golden.frame import fill_frame
from tests.golden.world import ROLE, run_pipeline
from tests.pipeline.certificates import make_pair, tls_secret
from tests.pipeline.http3_client import build_client

pytestmark = pytest.mark.envoy

HOST = "shop.example.com"


@dataclass(frozen=True)
class Scene:
    """The gateway, its TLS port, the port of a client that speaks HTTP/3 to it, and the certificates to trust."""

    gateway: Envoy
    tls_port: int
    client_port: int
    roots: Path


def _objects(port: int, echo: int) -> list[dict[str, Any]]:
    return [
        {
            "kind": "Gateway",
            "bindAddress": "127.0.0.1",
            "bindPort": port,
            "ssl": True,
            "options": {"tcpStats": True, "perConnectionBufferLimitBytes": 65536},
            "httpGateway": {
                "options": {
                    "extensions": {"configs": {"http3": {"maxAgeSeconds": 60}}},
                    "connectionLimit": {"maxActiveConnections": 100},
                    "networkLocalRatelimit": {"maxTokens": 100, "fillInterval": "1s"},
                    "gzip": {"contentLength": 40},
                }
            },
        },
        {
            "kind": "VirtualService",
            "sslConfig": {"secretRef": {"name": "shop", "namespace": "gloo-system"}, "sniDomains": [HOST]},
            "virtualHost": {
                "routes": [
                    {"matchers": [{"prefix": "/direct"}], "directResponseAction": {"status": 204}},
                    {},
                ]
            },
        },
        {"kind": "Upstream", "static": {"hosts": [{"addr": "127.0.0.1", "port": echo}]}},
        yaml.safe_load(tls_secret("shop", make_pair(HOST))),
    ]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, envoy_binary: Path) -> Iterator[Scene]:
    """The gateway and the client."""
    folder = tmp_path_factory.mktemp("http3")
    roots = folder / "roots.pem"
    roots.write_text(make_pair(HOST).certificate, encoding="utf-8")
    port, client_port = free_port(), free_port()
    echo, echo_port = start_echo(folder, name="echo")
    outcome = run_pipeline(fill_frame(_objects(port, echo_port)))
    assert not outcome.problems
    bootstrap = json_format.MessageToDict(build_bootstrap(outcome.snapshots[ROLE]))
    gateway = start_envoy(folder, bootstrap, binary=envoy_binary, ready=True, concurrency=2)
    client_folder = folder / "client"
    client_folder.mkdir()
    client = start_envoy(client_folder, build_client(client_port, port, HOST, roots), binary=envoy_binary, ready=True)
    yield Scene(gateway, port, client_port, roots)
    client.stop()
    gateway.stop()
    echo.stop()


def test_tls_tells_of_it(scene: Scene) -> None:
    """Clients that come by TCP learn of the UDP port, also from answers of Envoy itself."""
    for path, status in (("/", 200), ("/direct", 204)):
        answer = fetch(scene.tls_port, path, host=HOST, tls_roots=scene.roots)
        assert answer.status == status
        assert answer.headers["alt-svc"] == f'h3=":{scene.tls_port}"; ma=60'


def test_other_options_of_the_gateway_hold(scene: Scene) -> None:
    """Limits of connections are passed, and answers are compressed by HTTP/3 as well."""
    answer = fetch(scene.client_port, "/", headers={"accept-encoding": "gzip"})

    assert (answer.status, answer.headers["content-encoding"]) == (200, "gzip")


def test_requests_come_by_http3(scene: Scene) -> None:
    """A request by HTTP/3 reaches the service, with its body, and the gateway says how it came."""
    answer = fetch(scene.client_port, "/cart", method="POST", body=b"apples")

    assert answer.status == 200
    seen = answer.json()
    assert (seen["path"], seen["method"]) == ("/cart", "POST")
    assert seen["headers"]["x-forwarded-proto"] == "https"
    assert scene.gateway.stat("http.http.downstream_rq_http3_total") >= 1
