"""What options of HTTP gateways do to requests: one real Envoy with a gateway for each group of options."""

import gzip
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gloo_nomad.demo.processes import wait_until
from tests.pipeline.collectors import read_until
from tests.pipeline.http_gateways import Gateways, start_gateways

pytestmark = pytest.mark.envoy


@pytest.fixture(scope="module")
def gateways(tmp_path_factory: pytest.TempPathFactory, envoy_binary: Path) -> Iterator[Gateways]:
    """An Envoy with all the gateways."""
    with start_gateways(tmp_path_factory.mktemp("effects"), envoy_binary) as started:
        yield started


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


def test_clients_do_not_choose_clusters(gateways: Gateways) -> None:
    """The header that names the cluster is taken off, unless the gateway itself sets it or lets clients choose."""
    assert gateways.get("choosing", x_cluster="echo_gloo-system").status == 200
    assert gateways.get("guarded", x_cluster="echo_gloo-system").status == 503
    assert gateways.get("guarded", "/ours", x_ours="collector_gloo-system").json()["path"] == "/ours"


def test_the_first_address_is_the_clients(gateways: Gateways) -> None:
    """However many proxies there were, also with IPv6; without the header it is the connection's."""
    for addresses in ("192.0.2.1", "192.0.2.1, 198.51.100.7", "2001:db8::1, 10.0.0.1,203.0.113.9"):
        seen = gateways.get("behind-proxies", x_forwarded_for=addresses).json()["headers"]
        assert seen["x-client"] == addresses.split(",")[0]
        assert seen["x-forwarded-for"].rpartition(",")[0] == addresses
    assert gateways.get("behind-proxies").json()["headers"]["x-client"] == "127.0.0.1"


def test_exchanges_are_written_to_files(gateways: Gateways) -> None:
    """The one that has both headers is in a file, as much of its body as was asked for; others are in none."""
    for status, debug in ((418, "no"), (200, "yes"), (418, "yes")):
        body = f"{status} {debug}".encode()
        gateways.get("tapped", f"/?status={status}", method="POST", body=body, x_debug=debug)
    wait_until(lambda: bool([*gateways.folder.glob("tap_*.json")]), "the file")
    (file,) = gateways.folder.glob("tap_*.json")
    wait_until(lambda: file.read_text().rstrip().endswith("}"), "all of the file")
    trace = json.loads(file.read_text())["http_buffered_trace"]

    assert {"key": "x-debug", "value": "yes"} in [
        {"key": header["key"], "value": header["value"]} for header in trace["request"]["headers"]
    ]
    assert trace["request"]["body"] == {"truncated": True, "as_string": "418 y"}
    assert trace["downstream_connection"]["remote_address"]["socket_address"]["address"] == "127.0.0.1"


def test_one_proxy_in_front_is_trusted(gateways: Gateways) -> None:
    """The client is who the last proxy saw; the list, the slashes and the missing id are left as they came."""
    seen = gateways.get("behind-one", "/b//a", x_forwarded_for="192.0.2.1, 198.51.100.7").json()

    assert seen["headers"]["x-envoy-external-address"] == "198.51.100.7"
    assert seen["headers"]["x-forwarded-for"] == "192.0.2.1, 198.51.100.7"
    assert "x-request-id" not in seen["headers"]
    assert seen["path"] == "/b//a"
    assert gateways.get("plain", "/b//a").json()["path"] == "/b/a"


def test_headers_are_as_long_as_they_may_be(gateways: Gateways) -> None:
    """Ten kilobytes are too much where eight are the limit."""
    long = "x" * 10_000

    assert gateways.get("behind-one", x_long=long).status == 431
    assert gateways.get("plain", x_long=long).status == 200


def test_what_proxies_in_front_say_is_believed(gateways: Gateways) -> None:
    """The id of the request stays where it is asked for; an edge gives one of its own."""
    request_id = "9b1e7c9e-0f5a-4f0b-9c0b-2d9a4f1c7e55"
    kept = gateways.get("forwarded", x_request_id=request_id, x_forwarded_for="192.0.2.1").json()["headers"]
    changed = gateways.get("plain", x_request_id=request_id, x_forwarded_for="192.0.2.1").json()["headers"]

    assert kept["x-request-id"] == request_id
    assert kept["x-forwarded-for"] == "192.0.2.1"
    assert changed["x-request-id"] != request_id
    assert changed["x-forwarded-for"].startswith("192.0.2.1,")


def test_routes_have_spans_of_their_own(gateways: Gateways) -> None:
    """One has a name of its own, one is never traced."""
    gateways.get("zipkin", "/described", x_tenant="t2")
    spans = json.loads(gateways.collector.wait_for(lambda path, body: path == "/api/v2/spans" and b"t2" in body))
    untraced = gateways.get("zipkin", "/never").json()["headers"]
    traced = gateways.get("zipkin", "/").json()["headers"]

    assert next(span["name"] for span in spans if span["tags"].get("x-tenant") == "t2") == "load-cart"
    assert (untraced["x-b3-sampled"], traced["x-b3-sampled"]) == ("0", "1")


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
