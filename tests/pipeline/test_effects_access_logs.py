"""What access logs say: a real Envoy that writes to files and to a receiver, over HTTP, TCP and for connections."""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format

from gloo_nomad.demo.echo import start_echo
from gloo_nomad.demo.envoy import Envoy, start_envoy
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.ports import free_port
from tests.envoy_validate import build_bootstrap
from tests.golden.frame import fill_frame
from tests.golden.world import ROLE, run_pipeline
from tests.pipeline.certificates import make_pair
from tests.pipeline.log_receivers import SECONDS, LogReceiver

pytestmark = pytest.mark.envoy

PATHS = ("/", "/?status=503", "/?delay=0.3", "/health", "/dead", "/nowhere")
EVERYTHING = frozenset(PATHS)
FILTERS: Mapping[str, tuple[Mapping[str, Any], frozenset[str]]] = {
    "status": (
        {"statusCodeFilter": {"comparison": {"op": "GE", "value": {"defaultValue": 503, "runtimeKey": "a"}}}},
        frozenset({"/?status=503", "/dead"}),
    ),
    "equal": (
        {"statusCodeFilter": {"comparison": {"value": {"defaultValue": 404}}}},
        frozenset({"/nowhere"}),
    ),
    "slow": (
        {"durationFilter": {"comparison": {"op": "GE", "value": {"defaultValue": 250}}}},
        frozenset({"/?delay=0.3"}),
    ),
    "no-health-checks": ({"notHealthCheckFilter": {}}, EVERYTHING - {"/health"}),
    "traced": ({"traceableFilter": {}}, frozenset()),
    "all": ({"runtimeFilter": {"runtimeKey": "b", "percentSampled": {"numerator": 100}}}, EVERYTHING),
    "none": ({"runtimeFilter": {"runtimeKey": "b", "percentSampled": {"numerator": 0}}}, frozenset()),
    "flagged": ({"responseFlagFilter": {"flags": ["NR"]}}, frozenset({"/nowhere"})),
    "unavailable": ({"grpcStatusFilter": {"statuses": ["UNAVAILABLE"]}}, frozenset({"/?status=503", "/dead"})),
    "available": (
        {"grpcStatusFilter": {"statuses": ["UNAVAILABLE"], "exclude": True}},
        EVERYTHING - {"/?status=503", "/dead"},
    ),
    "header": (
        {"headerFilter": {"header": {"name": ":path", "safeRegexMatch": {"regex": "/d.*"}}}},
        frozenset({"/dead"}),
    ),
    "other-header": (
        {"headerFilter": {"header": {"name": "x-number", "rangeMatch": {"start": 1, "end": 3}, "invertMatch": True}}},
        EVERYTHING - {"/?status=503", "/?delay=0.3"},
    ),
    "prefix": (
        {"headerFilter": {"header": {"name": ":path", "prefixMatch": "/?s"}}},
        frozenset({"/?status=503"}),
    ),
    "both": (
        {
            "andFilter": {
                "filters": [
                    {"headerFilter": {"header": {"name": ":path", "suffixMatch": "3"}}},
                    {"headerFilter": {"header": {"name": "x-number", "exactMatch": "2"}}},
                ]
            }
        },
        frozenset({"/?delay=0.3"}),
    ),
    "either": (
        {
            "orFilter": {
                "filters": [
                    {"responseFlagFilter": {"flags": ["NR"]}},
                    {"headerFilter": {"header": {"name": ":path", "exactMatch": "/"}}},
                ]
            }
        },
        frozenset({"/", "/nowhere"}),
    ),
}
"""Filters, and of which of the requests they let through the lines."""


@dataclass(frozen=True)
class World:
    """A running Envoy, and where its logs go."""

    envoy: Envoy
    http_port: int
    tcp_port: int
    folder: Path
    receiver: LogReceiver
    secure_receiver: LogReceiver

    def lines(self, name: str, count: int = 1) -> list[str]:
        """The lines of a log file, as soon as it has so many."""
        deadline = time.monotonic() + SECONDS
        file = self.folder / name
        while len(found := file.read_text(encoding="utf-8").splitlines()) < count and time.monotonic() < deadline:
            time.sleep(0.02)
        return found


def _telemetry(name: str, **collector: Any) -> dict[str, Any]:
    return {"openTelemetryService": {"logName": name, "collector": collector}}


def _request_logs(folder: Path, receiver: LogReceiver, secure: LogReceiver) -> list[dict[str, Any]]:
    text = "%REQ_WITHOUT_QUERY(:PATH)% %RESPONSE_CODE% %METADATA(ROUTE:shop:team)%\n"
    shape = {"path": "%REQ(:PATH)%", "status": "%RESPONSE_CODE%", "by": ["gloo"], "in": {"host": "%REQ(:AUTHORITY)%"}}
    telemetry = _telemetry(
        "plain",
        endpoint=f"localhost:{receiver.port}",
        authority="logs.example.com",
        headers={"x-api-key": "abc"},
        insecure=True,
        timeout="5s",
    )
    telemetry["openTelemetryService"] |= {
        "body": {"stringValue": "%REQ_WITHOUT_QUERY(:PATH)%"},
        "attributes": {"values": [{"key": "status", "value": {"stringValue": "%RESPONSE_CODE%"}}]},
        "disableBuiltinLabels": True,
    }
    tls = {"sni": "collector.example.com", "secretRef": {"name": "collector", "namespace": "gloo-system"}}
    grpc_log = {
        "logName": "requests",
        "staticClusterName": "access-logs",
        "additionalRequestHeadersToLog": ["x-number"],
    }
    return [
        {"fileSink": {"path": str(folder / "text"), "stringFormat": text}},
        {"fileSink": {"path": str(folder / "json"), "jsonFormat": shape}},
        {"grpcService": grpc_log},
        telemetry,
        _telemetry("secure", endpoint=f"127.0.0.1:{secure.port}", sslConfig=tls),
        *(
            {"fileSink": {"path": str(folder / f"f-{name}"), "stringFormat": "%REQ(:PATH)%\n"}, "filter": written}
            for name, (written, _) in FILTERS.items()
        ),
    ]


def _objects(world: World, echo: int) -> list[dict[str, Any]]:
    folder, receiver = world.folder, world.receiver
    connection = {"fileSink": {"path": str(folder / "connections"), "stringFormat": "%DOWNSTREAM_LOCAL_PORT%\n"}}
    tcp_logs = [
        {"fileSink": {"path": str(folder / "tcp"), "stringFormat": "%UPSTREAM_CLUSTER% %BYTES_SENT%\n"}},
        {"grpcService": {"logName": "tcp", "staticClusterName": "access-logs"}},
    ]
    echo_upstream = {"name": "echo", "namespace": "gloo-system"}
    route = {"matchers": [{"exact": "/"}, {"exact": "/health"}], "options": {"envoyMetadata": {"shop": {"team": "a"}}}}
    dead = {"single": {"upstream": {"name": "dead", "namespace": "gloo-system"}}}
    return [
        {
            "kind": "Gateway",
            "bindAddress": "127.0.0.1",
            "bindPort": world.http_port,
            "httpGateway": {"options": {"healthCheck": {"path": "/health"}}},
            "options": {
                "accessLoggingService": {"accessLog": _request_logs(folder, receiver, world.secure_receiver)},
                "listenerAccessLoggingService": {"accessLog": [connection]},
            },
        },
        {
            "kind": "Gateway",
            "metadata": {"name": "tcp"},
            "bindAddress": "127.0.0.1",
            "bindPort": world.tcp_port,
            "tcpGateway": {"tcpHosts": [{"name": "echo", "destination": {"single": {"upstream": echo_upstream}}}]},
            "options": {"accessLoggingService": {"accessLog": tcp_logs}},
        },
        {
            "kind": "VirtualService",
            "virtualHost": {"routes": [route, {"matchers": [{"exact": "/dead"}], "routeAction": dead}]},
        },
        {"kind": "Upstream", "static": {"hosts": [{"addr": "127.0.0.1", "port": echo}]}},
        {
            "kind": "Upstream",
            "metadata": {"name": "dead"},
            "static": {"hosts": [{"addr": "127.0.0.1", "port": free_port()}]},
        },
        {
            "kind": "Secret",
            "metadata": {"name": "collector"},
            "tls": {"rootCa": make_pair("collector.example.com").certificate},
        },
    ]


def _static_cluster(port: int) -> dict[str, Any]:
    """The cluster that users put into the bootstrap of their Envoys."""
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    http2 = {"@type": f"type.googleapis.com/{options}", "explicit_http_config": {"http2_protocol_options": {}}}
    return {
        "name": "access-logs",
        "typed_extension_protocol_options": {options: http2},
        "load_assignment": {
            "cluster_name": "access-logs",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, envoy_binary: Path) -> Iterator[World]:
    """An Envoy with all the logs, that has answered one request for each path."""
    folder = tmp_path_factory.mktemp("logs")
    pair = make_pair("collector.example.com")
    receiver, secure = LogReceiver(), LogReceiver()
    servers = [
        receiver.start(),
        secure.start(grpc.ssl_server_credentials([(pair.key.encode(), pair.certificate.encode())])),
    ]
    echo, echo_port = start_echo(folder, name="echo")
    ports = free_port(), free_port()
    objects = fill_frame(_objects(World(None, *ports, folder, receiver, secure), echo_port))  # type: ignore[arg-type]
    outcome = run_pipeline(objects)
    assert not outcome.problems
    bootstrap = json_format.MessageToDict(build_bootstrap(outcome.snapshots[ROLE]), preserving_proto_field_name=True)
    bootstrap["static_resources"]["clusters"].append(_static_cluster(receiver.port))
    envoy = start_envoy(folder, bootstrap, binary=envoy_binary, ready=True)
    for number, path in enumerate(PATHS):
        fetch(ports[0], path, host="shop.example.com", headers={"x-number": str(number)})
    yield World(envoy, *ports, folder, receiver, secure)
    envoy.stop()
    echo.stop()
    for server in servers:
        server.stop(None).wait()


def test_lines_of_text(world: World) -> None:
    """Each request is a line; the path has no query, and what is known of the route is there."""
    assert world.lines("text", len(PATHS)) == [
        "/ 200 a",
        "/ 503 a",
        "/ 200 a",
        "/health 200 a",
        "/dead 503 -",
        "/nowhere 404 -",
    ]


def test_lines_of_json(world: World) -> None:
    """Each request is an object, numbers stay numbers."""
    assert json.loads(world.lines("json", len(PATHS))[1]) == {
        "path": "/?status=503",
        "status": 503,
        "by": ["gloo"],
        "in": {"host": "shop.example.com"},
    }


@pytest.mark.parametrize("name", FILTERS)
def test_filters_choose_requests(world: World, name: str) -> None:
    """Each filter lets its requests through and no others."""
    world.lines("f-all", len(PATHS))

    assert sorted(world.lines(f"f-{name}", 0)) == sorted(FILTERS[name][1])


def test_a_service_is_sent_requests_and_connections(world: World) -> None:
    """Envoy's protocol: HTTP entries with the headers asked for, TCP entries for a TCP gateway."""
    fetch(world.tcp_port, "/over-tcp")
    seen: dict[str, list[Any]] = {"requests": [], "tcp": []}
    while len(seen["requests"]) < len(PATHS) or not seen["tcp"]:
        message = world.receiver.streamed.get(timeout=SECONDS)
        seen["requests"].extend(message.http_logs.log_entry)
        seen["tcp"].extend(message.tcp_logs.log_entry)

    assert [entry.request.request_headers["x-number"] for entry in seen["requests"]] == [*"012345"]
    assert seen["tcp"][0].common_properties.upstream_cluster == "echo_gloo-system"


def test_tcp_connections_are_logged(world: World) -> None:
    """A TCP gateway has the logs of its options as well."""
    fetch(world.tcp_port, "/over-tcp")

    assert world.lines("tcp")[0].startswith("echo_gloo-system ")


def test_a_collector_is_sent_requests(world: World) -> None:
    """OpenTelemetry: body, attributes and no others, with the headers that were asked for."""
    records: list[Any] = []
    metadata: dict[str, str] = {}
    while len(records) < len(PATHS):
        request, metadata = world.receiver.exported.get(timeout=SECONDS)
        logs = request.resource_logs[0]
        assert not logs.resource.attributes
        records += logs.instrumentation_library_logs[0].logs

    assert records[1].body.string_value == "/"
    assert {pair.key: pair.value.string_value for pair in records[1].attributes} == {"status": "503"}
    assert metadata["x-api-key"] == "abc"


def test_a_collector_is_reached_by_tls(world: World) -> None:
    """Its certificate is verified with the roots of a Secret, for the name that is asked for."""
    request, _ = world.secure_receiver.exported.get(timeout=SECONDS)

    labels = {pair.key: pair.value.string_value for pair in request.resource_logs[0].resource.attributes}
    assert labels["log_name"] == "secure"


def test_connections_of_a_listener_are_logged(world: World) -> None:
    """The listener's own log has a line for each connection."""
    assert world.lines("connections", len(PATHS))[0] == str(world.http_port)
