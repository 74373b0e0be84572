"""What options of HTTP gateways do to requests: one real Envoy with a gateway for each group of options."""

import base64
import gzip
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from gloo_nomad.demo.echo import start_echo
from gloo_nomad.demo.envoy import Envoy, start_envoy
from gloo_nomad.demo.fetch import Answer, fetch
from gloo_nomad.demo.ports import free_port
from tests.envoy_validate import build_bootstrap
from tests.golden.frame import NAMESPACE, fill_frame
from tests.golden.world import ROLE, run_pipeline
from tests.pipeline.collectors import Kept, answer_grpc, keep_requests, read_until, talk

DESCRIPTORS = base64.b64encode((Path(__file__).parent.parent / "golden" / "shop.pb").read_bytes()).decode()
TRANSCODER = {"protoDescriptorBin": DESCRIPTORS, "services": ["shop.Catalog"], "autoMapping": True}
FULL = {"filterEnabled": {"defaultValue": {"numerator": 100}}}

SETTINGS: Mapping[str, Any] = {
    "serverName": "shop",
    "serverHeaderTransformation": "OVERWRITE",
    "via": "shop-gateway",
    "appendXForwardedPort": True,
    "headersWithUnderscoresAction": "ALLOW",
    "maxHeadersCount": 20,
    "stripAnyHostPort": True,
    "acceptHttp10": True,
    "defaultHostForHttp10": "old.example.com",
    "normalizePath": False,
    "pathWithEscapedSlashesAction": "KEEP_UNCHANGED",
    "properCaseHeaderKeyFormat": True,
    "streamIdleTimeout": "0.3s",
    "earlyHeaderManipulation": {
        "headersToRemove": ["x-internal"],
        "headersToAdd": [{"header": {"key": "x-early", "value": "yes"}, "append": False}],
    },
    "upgrades": [{"websocket": {"enabled": False}}, {"connect": {}}],
}

GATEWAYS: Mapping[str, Mapping[str, Any]] = {
    "plain": {"grpcWeb": {"disable": True}},
    "settings": {
        "httpConnectionManagerSettings": SETTINGS,
        "router": {"suppressEnvoyHeaders": True},
        "healthCheck": {"path": "/healthz"},
        "headerValidationSettings": {"disableHttp1MethodValidation": {}},
        "grpcWeb": {},
    },
    "compressed": {
        "gzip": {"contentLength": 40, "compressionLevel": "BEST"},
        "extensions": {"configs": {"compression": {"brotli": {"quality": 4}, "zstd": {"compressionLevel": 3}}}},
        "buffer": {"maxRequestBytes": 100},
        "csrf": {**FULL, "additionalOrigins": [{"suffix": ".example.org"}]},
    },
    "zipkin": {
        "httpConnectionManagerSettings": {
            "tracing": {
                "requestHeadersForTags": ["x-tenant"],
                "literalsForTags": [{"tag": "tier", "value": "edge"}],
                "zipkinConfig": {
                    "collectorUpstreamRef": {"name": "collector", "namespace": NAMESPACE},
                    "collectorEndpoint": "/api/v2/spans",
                },
            }
        }
    },
    "datadog": {
        "httpConnectionManagerSettings": {
            "tracing": {
                "datadogConfig": {
                    "collectorUpstreamRef": {"name": "collector", "namespace": NAMESPACE},
                    "serviceName": "dog-shop",
                }
            }
        }
    },
    "telemetry": {
        "httpConnectionManagerSettings": {
            "tracing": {
                "openTelemetryConfig": {
                    "collectorUpstreamRef": {"name": "grpc", "namespace": NAMESPACE},
                    "serviceName": "telemetry-shop",
                }
            }
        }
    },
    "untraced": {
        "httpConnectionManagerSettings": {
            "tracing": {
                "zipkinConfig": {
                    "collectorUpstreamRef": {"name": "missing", "namespace": NAMESPACE},
                    "collectorEndpoint": "/api/v2/spans",
                }
            }
        }
    },
    "transcoder": {"grpcJsonTranscoder": TRANSCODER},
    "forward": {"dynamicForwardProxy": {"dnsCacheConfig": {"dnsLookupFamily": "V4_ONLY"}}},
}


def _to(upstream: str) -> dict[str, Any]:
    return {"single": {"upstream": {"name": upstream, "namespace": NAMESPACE}}}


def _routes(echo: int) -> Mapping[str, list[dict[str, Any]]]:
    """The routes of each gateway that has some of its own."""
    return {
        "plain": [
            {"matchers": [{"prefix": "/upload"}], "options": {"bufferPerRoute": {"buffer": {"maxRequestBytes": 10}}}},
            {"matchers": [{"prefix": "/guarded"}], "options": {"csrf": FULL}},
            {"matchers": [{"prefix": "/shop.Catalog/"}], "routeAction": _to("translated")},
            {"matchers": [{"connectMatcher": {}}], "options": {"upgrades": [{"connectTerminate": {}}]}},
            {},
        ],
        "settings": [
            {"matchers": [{"prefix": "/", "headers": [{"name": "x-missing"}]}], "routeAction": _to("missing")},
            {"matchers": [{"prefix": "/shop.Catalog/"}], "routeAction": _to("grpc")},
            {"matchers": [{"prefix": "/socket"}], "options": {"upgrades": [{"websocket": {}}]}},
            {"matchers": [{"prefix": "/early", "headers": [{"name": "x-early", "value": "yes"}]}]},
            {"matchers": [{"prefix": "/early"}], "directResponseAction": {"status": 410}},
            {},
        ],
        "compressed": [
            {"matchers": [{"prefix": "/unbuffered"}], "options": {"bufferPerRoute": {"disabled": True}}},
            {"matchers": [{"prefix": "/unguarded"}], "options": {"csrf": {}}},
            {},
        ],
        "transcoder": [{"routeAction": _to("grpc")}],
        "forward": [
            {
                "matchers": [{"prefix": "/literal"}],
                "routeAction": {"dynamicForwardProxy": {"hostRewrite": f"localhost:{echo}"}},
            },
            {
                "matchers": [{"prefix": "/by-header"}],
                "routeAction": {"dynamicForwardProxy": {"autoHostRewriteHeader": "x-wanted"}},
            },
            {"routeAction": {"dynamicForwardProxy": {}}},
        ],
    }


def _objects(ports: Mapping[str, int], echo: int, collector: int, grpc: int) -> Iterator[dict[str, Any]]:
    routes = _routes(echo)
    for name, options in GATEWAYS.items():
        service = {"name": name, "namespace": NAMESPACE}
        yield {
            "kind": "Gateway",
            "metadata": {"name": name},
            "bindAddress": "127.0.0.1",
            "bindPort": ports[name],
            "httpGateway": {"options": options, "virtualServices": [service]},
        }
        yield {
            "kind": "VirtualService",
            "metadata": {"name": name},
            "virtualHost": {"routes": routes.get(name, [{}])},
        }
    for name, port, more in (
        ("echo", echo, {}),
        ("collector", collector, {}),
        ("grpc", grpc, {"useHttp2": True}),
        ("translated", grpc, {"useHttp2": True}),
    ):
        static: dict[str, Any] = {"hosts": [{"addr": "127.0.0.1", "port": port}]}
        if name == "translated":
            static["serviceSpec"] = {"grpcJsonTranscoder": TRANSCODER}
        yield {"kind": "Upstream", "metadata": {"name": name}, "static": static, **more}


@dataclass(frozen=True)
class Gateways:
    """A running Envoy, its ports by gateway, and what its collectors got."""

    ports: Mapping[str, int]
    envoy: Envoy
    echo: int
    collector: Kept
    grpc: Kept

    def get(
        self, gateway: str, path: str = "/", method: str = "GET", body: bytes | None = None, **headers: str
    ) -> Answer:
        """One request; underscores in names of headers stand for dashes."""
        host = headers.pop("host", "gateway.example.com")
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return fetch(self.ports[gateway], path, host=host, method=method, headers=sent, body=body)

    def raw(self, gateway: str, *lines: str) -> str:
        """A request line and headers as they are written, and the status line and headers that come back."""
        sent = "".join(f"{line}\r\n" for line in (*lines, "")).encode()
        return talk(self.ports[gateway], sent, until=b"\r\n\r\n").decode()


@pytest.fixture(scope="module")
def gateways(tmp_path_factory: pytest.TempPathFactory, envoy_binary: Path) -> Iterator[Gateways]:
    """An Envoy with all the gateways."""
    folder = tmp_path_factory.mktemp("effects")
    ports = {name: free_port() for name in GATEWAYS}
    with ExitStack() as stack:
        collector, grpc = stack.enter_context(keep_requests()), stack.enter_context(answer_grpc())
        echo, echo_port = start_echo(folder, name="echo")
        stack.callback(echo.stop)
        written = [*_objects(ports, echo_port, collector.port, grpc.port)]
        outcome = run_pipeline([item for item in fill_frame(written) if item["metadata"]["name"] not in _FRAME])
        assert not [problem for problem in outcome.problems if problem["severity"] == "error"]
        bootstrap = json_format.MessageToDict(build_bootstrap(outcome.snapshots[ROLE]))
        at_once = {f"tracing.{tracer}.min_flush_spans": 1 for tracer in ("zipkin", "opentelemetry")}
        bootstrap["layeredRuntime"] = {"layers": [{"name": "tests", "staticLayer": at_once}]}
        envoy = start_envoy(folder, bootstrap, binary=envoy_binary, ready=True)
        stack.callback(envoy.stop)
        yield Gateways(ports, envoy, echo_port, collector, grpc)


_FRAME = {"gateway-proxy", "default"}
"""Objects of the frame that are not needed here."""

pytestmark = pytest.mark.envoy


def test_answers_are_signed(gateways: Gateways) -> None:
    """Envoy names itself as it is told to, and writes headers of HTTP/1 in capitals."""
    answer = gateways.raw("settings", "GET / HTTP/1.1", "host: gateway.example.com")

    assert "Server: shop\r\n" in answer
    assert "Via: shop-gateway\r\n" in answer
    assert "X-Envoy-Upstream-Service-Time" not in answer
    assert "x-envoy-upstream-service-time" in gateways.get("plain").headers


def test_requests_arrive_as_the_settings_say(gateways: Gateways) -> None:
    """Underscores and escaped slashes pass, the port is told, unlike on a gateway with the defaults for the edge."""
    seen = gateways.get("settings", "/a%2Fb/../c").json()
    passed = gateways.raw("settings", "GET / HTTP/1.1", "host: gateway.example.com", "x_y: 1")
    refused = gateways.raw("plain", "GET / HTTP/1.1", "host: gateway.example.com", "x_y: 1")

    assert seen["path"] == "/a%2Fb/../c"
    assert seen["headers"]["x-forwarded-port"] == str(gateways.ports["settings"])
    assert passed.startswith("HTTP/1.1 200")
    assert refused.startswith("HTTP/1.1 400")
    assert gateways.get("plain", "/a%2Fb").status == 307


def test_old_clients_are_served(gateways: Gateways) -> None:
    """HTTP/1.0 without a host is served by the gateway that accepts it, and by no other."""
    assert gateways.raw("settings", "GET / HTTP/1.0").split()[1] == "200"
    assert gateways.raw("plain", "GET / HTTP/1.0").split()[1] == "426"


def test_bounds_hold(gateways: Gateways) -> None:
    """Too many headers are refused, and a stream that is silent for too long is ended."""
    many = [f"x-{number}: 1" for number in range(30)]

    assert gateways.raw("settings", "GET / HTTP/1.1", "host: a", *many).split()[1] == "431"
    assert gateways.raw("plain", "GET / HTTP/1.1", "host: a", *many).split()[1] == "200"
    assert gateways.get("settings", "/?delay=2").status in (408, 504)


def test_headers_change_before_a_route_is_chosen(gateways: Gateways) -> None:
    """A route matches the header that was added early; the one that was removed early never arrives."""
    answer = gateways.get("settings", "/early", x_internal="1", x_early="no")

    assert answer.status == 200
    assert answer.json()["headers"]["x-early"] == "yes"
    assert "x-internal" not in answer.json()["headers"]


def test_upgrades_are_allowed_and_forbidden(gateways: Gateways) -> None:
    """A gateway forbids websockets; a route of it allows them, and then the upstream is asked."""
    upgrade = ("host: a", "connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13")

    assert gateways.raw("settings", "GET / HTTP/1.1", *upgrade).split()[1] == "403"
    assert gateways.raw("settings", "GET /socket HTTP/1.1", *upgrade).split()[1] == "200"
    assert gateways.raw("plain", "GET / HTTP/1.1", *upgrade).split()[1] == "200"


def test_connect_ends_at_the_gateway(gateways: Gateways) -> None:
    """What comes after CONNECT goes to the upstream as it is."""
    with socket.create_connection(("127.0.0.1", gateways.ports["plain"]), timeout=10) as connection:
        connection.sendall(b"CONNECT echo.example.com:80 HTTP/1.1\r\nhost: echo.example.com:80\r\n\r\n")
        assert read_until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /inside HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        assert b'"path": "/inside"' in read_until(connection, b"never")


def test_methods_of_ones_own_pass(gateways: Gateways) -> None:
    """A method that no standard knows reaches the upstream, which does not know it either; by default it is refused."""
    passed = gateways.raw("settings", "SHELVE / HTTP/1.1", "host: a")
    refused = gateways.raw("plain", "SHELVE / HTTP/1.1", "host: a")

    assert passed.split()[1] == "501"
    assert refused.split()[1] == "400"


def test_health_checks_are_answered(gateways: Gateways) -> None:
    """200 by Envoy itself; 503 while it is told to fail."""
    assert gateways.get("settings", "/healthz").body == b""
    gateways.envoy.admin("/healthcheck/fail", method="POST")
    failing = gateways.get("settings", "/healthz").status
    gateways.envoy.admin("/healthcheck/ok", method="POST")

    assert failing == 503
    assert gateways.get("settings", "/healthz").status == 200


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [("gzip", "gzip"), ("br", "br"), ("zstd", "zstd"), ("gzip, br", "br"), ("gzip;q=1, br;q=0.5", "gzip")],
)
def test_answers_are_compressed(gateways: Gateways, accepted: str, encoding: str) -> None:
    """As the client likes it; Brotli and Zstandard where it likes several equally."""
    answer = gateways.get("compressed", "/", accept_encoding=accepted)

    assert answer.headers["content-encoding"] == encoding
    if encoding == "gzip":
        assert json.loads(gzip.decompress(answer.body))["path"] == "/"


def test_answers_stay_plain_for_others(gateways: Gateways) -> None:
    """Who accepts nothing gets plain text, and so does everybody where nothing is said."""
    assert "content-encoding" not in gateways.get("compressed").headers
    assert "content-encoding" not in gateways.get("plain", accept_encoding="gzip").headers


def test_large_requests_are_refused(gateways: Gateways) -> None:
    """By the gateway's bound or the route's; a route without a buffer lets everything through."""
    assert gateways.get("compressed", "/", "PUT", b"x" * 101, origin="http://gateway.example.com").status == 413
    assert (
        gateways.get("compressed", "/unbuffered", "PUT", b"x" * 101, origin="http://gateway.example.com").status == 200
    )
    assert gateways.get("plain", "/upload", "PUT", b"x" * 11).status == 413
    assert gateways.get("plain", "/upload", "PUT", b"x" * 10).status == 200
    assert gateways.get("plain", "/", "PUT", b"x" * 101).status == 200


def test_forged_requests_are_refused(gateways: Gateways) -> None:
    """A change must come from a page of the same host or of a listed one; a route has a policy of its own, or none."""
    assert gateways.get("compressed", "/", "POST", b"", origin="http://evil.example.com").status == 403
    assert gateways.get("compressed", "/", "POST", b"", origin="http://gateway.example.com").status == 200
    assert gateways.get("compressed", "/", "POST", b"", origin="http://a.example.org").status == 200
    assert gateways.get("compressed", "/", origin="http://evil.example.com").status == 200
    assert gateways.get("compressed", "/unguarded", "POST", b"", origin="http://evil.example.com").status == 200
    assert gateways.get("plain", "/guarded", "POST", b"", origin="http://evil.example.com").status == 403
    assert gateways.get("plain", "/", "POST", b"", origin="http://evil.example.com").status == 200


def test_browsers_speak_grpc(gateways: Gateways) -> None:
    """gRPC-Web reaches a gRPC service, and its trailers come back in the body."""
    item = b"\x0a\x03tea"
    framed = b"\0" + len(item).to_bytes(4, "big") + item
    kind = "application/grpc-web+proto"
    answer = gateways.get("settings", "/shop.Catalog/Find", "POST", framed, content_type=kind, x_grpc_web="1")

    assert answer.headers["content-type"] == kind
    assert answer.body.startswith(framed + b"\x80")
    assert b"grpc-status:0" in answer.body


@pytest.mark.parametrize("gateway", ["transcoder", "plain"])
def test_json_becomes_grpc(gateways: Gateways, gateway: str) -> None:
    """By the gateway's descriptors, or by those that the Upstream brings to its routes."""
    answer = gateways.get(gateway, "/shop.Catalog/Find", "POST", b'{"name": "tea"}', content_type="application/json")

    assert answer.json() == {"name": "tea"}
    assert ("/shop.Catalog/Find", b"\x0a\x03tea") in gateways.grpc.requests


def test_requests_name_their_host(gateways: Gateways) -> None:
    """The request's own host, that of the route, or that of a header is looked up and asked."""
    wanted = f"localhost:{gateways.echo}"

    assert gateways.get("forward", "/", host=wanted).json()["headers"]["host"] == wanted
    assert gateways.get("forward", "/literal").json()["headers"]["host"] == wanted
    assert gateways.get("forward", "/by-header", x_wanted=wanted).json()["headers"]["host"] == wanted
    assert gateways.get("forward", "/", host="nowhere.invalid").status == 503


def test_zipkin_is_told(gateways: Gateways) -> None:
    """A span with the tags arrives at the collector."""
    gateways.get("zipkin", "/spans", x_tenant="t1")
    spans = json.loads(gateways.collector.wait_for(lambda path, body: path == "/api/v2/spans" and b"t1" in body))

    tags = next(span["tags"] for span in spans if span["tags"].get("x-tenant") == "t1")
    assert tags["tier"] == "edge"
    assert tags["http.url"].endswith("/spans")


def test_datadog_is_told(gateways: Gateways) -> None:
    """The agent gets traces in the service's name."""
    gateways.get("datadog", "/dog")

    assert gateways.collector.wait_for(lambda path, body: path.endswith("/traces") and b"dog-shop" in body)


def test_open_telemetry_is_told(gateways: Gateways) -> None:
    """The collector gets spans in the service's name, by gRPC."""
    gateways.get("telemetry", "/telemetry")
    method = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

    assert b"/telemetry" in gateways.grpc.wait_for(lambda path, body: path == method and b"telemetry-shop" in body)


def test_a_missing_collector_harms_nobody(gateways: Gateways) -> None:
    """The gateway serves, and traces nothing."""
    assert gateways.get("untraced").status == 200
