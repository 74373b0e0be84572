"""Clusters that options generate, and access logs in the incremental pipeline."""

import json
from typing import Any

import pytest

from gloo_nomad.reports import Severity
from gloo_nomad.resources import CLUSTER, LISTENER, SECRET
from tests.pipeline.certificates import make_pair, tls_secret
from tests.pipeline.envoy_world import GATEWAY, TO_UP, World, make_world, managers, upstream, virtual_service

NAME = "solo_io_generated_otel_logs_requests"
OPTIONS = "accessLoggingService.accessLog[0]"


def telemetry(endpoint: str = "collector.example.com:4317", **collector: Any) -> dict[str, Any]:
    """A log to a collector."""
    written = {"endpoint": endpoint, "insecure": "sslConfig" not in collector, **collector}
    return {"openTelemetryService": {"logName": "requests", "collector": written}}


def gateway(*logs: dict[str, Any], name: str = "gw", port: int = 8080) -> str:
    """A Gateway with these logs."""
    written = {"accessLoggingService": {"accessLog": [*logs]}}
    text = GATEWAY.replace("name: gw,", f"name: {name},").replace("bindPort: 8080", f"bindPort: {port}")
    return f"{text}options: {json.dumps(written)}\n"


def world(*gateways: str) -> World:
    """A world with these gateways."""
    return make_world(*gateways, virtual_service(TO_UP), upstream())


def test_a_cluster_comes_and_goes_with_its_option() -> None:
    """It is served beside the clusters of upstreams as long as something asks for it."""
    found = world(gateway(telemetry()))

    assert found.names(CLUSTER) == [NAME, "up_gloo-system"]
    assert found.put(GATEWAY).names(CLUSTER) == ["up_gloo-system"]


def test_an_unchanged_cluster_is_the_same_object() -> None:
    """What happens elsewhere makes no new resource."""
    found = world(gateway(telemetry()))
    before = found.snapshot().of(CLUSTER)[NAME]

    assert found.put(upstream("other")).snapshot().of(CLUSTER)[NAME] is before


def test_connection_managers_follow_the_listeners_options() -> None:
    """A log that comes later is in the connection manager, and gone again without the option."""
    found = world(GATEWAY)
    assert not managers(found.listener())[0].access_log

    found.put(gateway(telemetry(), {"fileSink": {"path": "/dev/stdout"}}))
    assert [log.name for log in managers(found.listener())[0].access_log] == [
        "envoy.access_loggers.open_telemetry",
        "envoy.access_loggers.file",
    ]
    assert not managers(found.put(GATEWAY).listener())[0].access_log


def test_two_gateways_share_a_collector() -> None:
    """The same log on two gateways has one cluster."""
    found = world(gateway(telemetry()), gateway(telemetry(), name="other", port=8081))

    assert found.names(CLUSTER) == [NAME, "up_gloo-system"]
    assert not found.problems()


def test_two_collectors_need_two_names() -> None:
    """Two gateways with two collectors under one name: the first is used, and the other is told so."""
    other = gateway(telemetry("other.example.com:4317"), name="other", port=8081)
    found = world(gateway(telemetry()), other)
    endpoint = found.cluster(NAME).load_assignment.endpoints[0].lb_endpoints[0].endpoint

    assert endpoint.address.socket_address.address == "collector.example.com"
    assert found.said("Gateway", "gw") == []
    assert [NAME in text and "gw" in text for text in found.said("Gateway", "other")] == [True]
    assert found.problems(Severity.ERROR) == []


def test_a_collector_waits_for_its_secret() -> None:
    """Without the secret the gateway is not served; with it the secret goes along."""
    tls = {"secretRef": {"name": "logs", "namespace": "gloo-system"}}
    found = world(gateway(telemetry(sslConfig=tls)))
    assert found.names(LISTENER) == []
    assert found.names(CLUSTER) == ["up_gloo-system"]
    assert "there is no secret gloo-system.logs" in found.said("Gateway", "gw")[0]

    pair = make_pair("collector.example.com")
    found.put(tls_secret("logs", pair, pair.certificate))
    assert found.names(LISTENER) == ["listener-::-8080"]
    assert found.names(SECRET) == ["ca/gloo-system/logs", "tls/gloo-system/logs"]
    assert found.names(CLUSTER) == [NAME, "up_gloo-system"]


def _nest(depth: int, inner: Any, key: str) -> Any:
    for _ in range(depth):
        inner = {key: inner}
    return inner


def _nested_filter(depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {"traceableFilter": {}}
    for _ in range(depth):
        found = {"andFilter": {"filters": [found, {"traceableFilter": {}}]}}
    return {"fileSink": {"path": "/dev/stdout"}, "filter": found}


def _nested_json(depth: int) -> dict[str, Any]:
    return {"fileSink": {"path": "/dev/stdout", "jsonFormat": _nest(depth, "x", "a")}}


def _nested_body(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {"stringValue": "x"}
    for _ in range(depth):
        value = {"arrayValue": {"values": [value]}}
    log = telemetry()
    log["openTelemetryService"]["body"] = value
    return log


@pytest.mark.parametrize(
    ("log", "place"),
    [
        (_nested_filter(12), "filter"),
        (_nested_json(25), "fileSink.jsonFormat"),
        (_nested_body(18), "openTelemetryService.body"),
    ],
    ids=["filter", "json", "body"],
)
def test_nesting_is_bounded(log: dict[str, Any], place: str) -> None:
    """What is nested deeper than anybody writes is refused before it could become unreadable for Envoy."""
    found = world(gateway(log))

    assert len(found.said("Gateway", "gw")) == 1
    assert found.said("Gateway", "gw")[0].startswith(f"error options.{OPTIONS}.{place}")
    assert "deep" in found.said("Gateway", "gw")[0]


@pytest.mark.parametrize("log", [_nested_filter(9), _nested_json(16), _nested_body(16)], ids=["filter", "json", "body"])
def test_some_nesting_is_possible(log: dict[str, Any]) -> None:
    """What people write is not refused."""
    assert world(gateway(log)).problems() == []
