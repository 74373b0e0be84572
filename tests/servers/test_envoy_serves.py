"""What the translation is for: a real Envoy with it inside answers as the objects say."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import json_format

from gloo_nomad.demo.envoy import Envoy
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.store.services import Instance
from tests.envoy_validate import build_bootstrap
from tests.pipeline.envoy_world import GATEWAY, World, make_world, upstream, virtual_service

pytestmark = pytest.mark.envoy
RunEnvoy = Callable[..., Envoy]
RunEcho = Callable[..., int]


def gateway(port: int) -> str:
    """A gateway on a free port of loopback."""
    return GATEWAY.replace('"::"', "127.0.0.1").replace("8080", str(port))


def start(world: World, run_envoy: RunEnvoy) -> None:
    """Starts an Envoy with everything that the world is served."""
    bootstrap = build_bootstrap(world.snapshot())
    document: dict[str, Any] = json_format.MessageToDict(bootstrap, preserving_proto_field_name=True)
    run_envoy(document, ready=True)


def to_consul(path: str, more: str) -> str:
    """A route to the Consul service ``web``."""
    return f"{{matchers: [{{prefix: {path}}}], routeAction: {{single: {{consul: {{serviceName: web{more}}}}}}}}}"


def test_consul_subsets(run_envoy: RunEnvoy, run_echo: RunEcho, free_port: Callable[[], int]) -> None:
    """Exactly the tags, datacenters one after the other, and any instance when there is no such one."""
    port = free_port()
    routes = [
        to_consul("/any", ""),
        to_consul("/v1", ", tags: [v1]"),
        to_consul("/both", ", tags: [v2, canary]"),
        to_consul("/gone", ", tags: [v9]"),
        to_consul("/dc2", ", dataCenters: [dc2]"),
        to_consul("/dc9-dc2", ", dataCenters: [dc9, dc2]"),
        to_consul("/dc9", ", dataCenters: [dc9]"),
        to_consul("/elsewhere", ", tags: [v1], dataCenters: [dc2]"),
    ]
    world = make_world(gateway(port), virtual_service(*routes))
    world.put_instances("web", Instance("127.0.0.1", run_echo("one"), "1", ("v1",), "dc1"))
    world.put_instances(
        "web",
        Instance("127.0.0.1", run_echo("two"), "2", ("canary", "v2"), "dc2"),
        Instance("127.0.0.1", run_echo("three"), "3", ("v2",), "dc2"),
        datacenter="dc2",
    )
    start(world, run_envoy)

    def instances(path: str) -> set[str]:
        return {fetch(port, path).json()["instance"] for _ in range(12)}

    assert instances("/any") == {"one", "two", "three"}
    assert instances("/v1") == {"one"}
    assert instances("/both") == {"two"}
    assert instances("/gone") == {"one", "two", "three"}
    assert instances("/dc2") == {"two", "three"}
    assert instances("/dc9-dc2") == {"two", "three"}
    assert instances("/dc9") == {"one", "two", "three"}
    assert instances("/elsewhere") == {"one"}


def test_weights_of_one_service(run_envoy: RunEnvoy, run_echo: RunEcho, free_port: Callable[[], int]) -> None:
    """An 80/20 split over two tags of one Consul service comes out as 80/20."""
    port = free_port()
    multi = (
        "{routeAction: {multi: {destinations: ["
        "{weight: 80, destination: {consul: {serviceName: web, tags: [v1]}}},"
        "{weight: 20, destination: {consul: {serviceName: web, tags: [v2]}}}]}}}"
    )
    world = make_world(gateway(port), virtual_service(multi))
    world.put_instances(
        "web",
        Instance("127.0.0.1", run_echo("one"), "1", ("v1",)),
        Instance("127.0.0.1", run_echo("two"), "2", ("v2",)),
    )
    start(world, run_envoy)

    counted = Counter(fetch(port, "/").json()["instance"] for _ in range(300))

    assert 200 <= counted["one"] <= 280
    assert counted["one"] + counted["two"] == 300


def test_answers_without_an_upstream(run_envoy: RunEnvoy, free_port: Callable[[], int]) -> None:
    """Direct responses, redirects, a missing upstream, an invalid route and no route at all."""
    port = free_port()
    world = make_world(
        gateway(port),
        virtual_service(
            "{matchers: [{exact: /hello}], directResponseAction: {status: 201, body: hi}}",
            "{matchers: [{prefix: /old}], redirectAction: {hostRedirect: new.example.com, responseCode: FOUND}}",
            "{matchers: [{prefix: /missing}], routeAction: {single: {upstream: {name: gone}}}}",
            "{matchers: [{prefix: /broken}], directResponseAction: {status: 1}}",
        ),
    )
    start(world, run_envoy)

    hello = fetch(port, "/hello")
    redirect = fetch(port, "/old/x")
    assert (hello.status, hello.text) == (201, "hi")
    assert (redirect.status, redirect.headers["location"]) == (302, "http://new.example.com/old/x")
    assert fetch(port, "/missing").status == 503
    assert fetch(port, "/broken").status == 404
    assert fetch(port, "/elsewhere").status == 404


def test_matchers(run_envoy: RunEnvoy, run_echo: RunEcho, free_port: Callable[[], int]) -> None:
    """Headers, methods, query parameters and case decide together with the path."""
    port = free_port()
    matcher = (
        "{prefix: /a, caseSensitive: false, methods: [GET, PUT], headers: [{name: x-v, value: 'v[0-9]', regex: true},"
        " {name: x-no, invertMatch: true}], queryParameters: [{name: q, value: '1'}]}"
    )
    action = "routeAction: {single: {upstream: {name: up, namespace: gloo-system}}}"
    world = make_world(
        gateway(port),
        upstream(spec=f"static: {{hosts: [{{addr: localhost, port: {run_echo()}}}]}}"),
        virtual_service(f"{{matchers: [{matcher}], {action}}}"),
    )
    start(world, run_envoy)

    assert fetch(port, "/A/b?q=1", headers={"x-v": "v1"}).status == 200
    assert fetch(port, "/a?q=2", headers={"x-v": "v1"}).status == 404
    assert fetch(port, "/a?q=1", headers={"x-v": "v10"}).status == 404
    assert fetch(port, "/a?q=1", headers={"x-v": "v1", "x-no": ""}).status == 404
    assert fetch(port, "/a?q=1", headers={"x-v": "v1"}, method="POST").status == 404


def test_edge_defaults_hold(run_envoy: RunEnvoy, run_echo: RunEcho, free_port: Callable[[], int]) -> None:
    """Paths are normalised, headers with underscores refused, and nobody forges where a request came from."""
    port = free_port()
    world = make_world(
        gateway(port),
        upstream(spec=f"static: {{hosts: [{{addr: 127.0.0.1, port: {run_echo()}}}]}}"),
        virtual_service("{routeAction: {single: {upstream: {name: up, namespace: gloo-system}}}}"),
    )
    start(world, run_envoy)

    seen = fetch(port, "/a//b/../c", headers={"x-forwarded-for": "9.9.9.9"}).json()
    assert seen["path"] == "/a/c"
    assert len(seen["headers"]["x-forwarded-for"].split(",")) == 2
    assert fetch(port, "/", headers={"x_underscore": "1"}).status == 400
    assert fetch(port, "/a%2fb").status == 307
