"""Upstreams that filters and tracers of a gateway speak to."""

import base64
from pathlib import Path

from gloo_nomad.api.refs import Ref
from gloo_nomad.reports import Severity
from gloo_nomad.resources import CLUSTER
from gloo_nomad.store.services import CONSUL_SERVICE
from tests.pipeline.envoy_world import World, make_world

GATEWAY = """
kind: Gateway
metadata: {name: gw, namespace: gloo-system}
bindAddress: "::"
bindPort: 8080
httpGateway:
  options:
    httpConnectionManagerSettings:
      tracing:
        zipkinConfig:
          collectorUpstreamRef: {name: collector, namespace: gloo-system}
          collectorEndpoint: /api/v2/spans
"""
SERVICE = """
kind: VirtualService
metadata: {name: vs, namespace: gloo-system}
virtualHost:
  domains: ["*"]
  routes:
  - matchers: [{prefix: /}]
    directResponseAction: {status: 200}
"""
COLLECTOR = """
kind: Upstream
metadata: {name: collector, namespace: gloo-system}
consul: {serviceName: zipkin}
"""
REJECTED = """
kind: Upstream
metadata: {name: collector, namespace: gloo-system}
static: {hosts: [{addr: "a b", port: 80}]}
"""


PLAIN_GATEWAY = """
kind: Gateway
metadata: {name: gw, namespace: gloo-system}
bindAddress: "::"
bindPort: 8080
httpGateway: {}
"""
ROUTED = """
kind: VirtualService
metadata: {name: vs, namespace: gloo-system}
virtualHost:
  domains: ["*"]
  routes:
  - matchers: [{prefix: /}]
    routeAction: {single: {upstream: {name: up, namespace: gloo-system}}}
"""
UPSTREAM = """
kind: Upstream
metadata: {name: up, namespace: gloo-system}
static:
  hosts: [{addr: 127.0.0.1, port: 8081}]
  %s
"""
SPEC = """
  serviceSpec:
    grpcJsonTranscoder:
      services: [shop.Catalog]
      protoDescriptorConfigMap: {configMapRef: {name: shop, namespace: gloo-system}}
"""


def _is_traced(world: World) -> bool:
    return b"envoy.tracers.zipkin" in world.listener().SerializeToString()


def test_instances_of_a_collector_are_watched() -> None:
    """An upstream that no route leads to, but spans go to, counts as reachable."""
    world = make_world(GATEWAY, SERVICE, COLLECTOR)

    assert _is_traced(world)
    assert {(kind, ref.name) for kind, ref in world.translation.services} == {(CONSUL_SERVICE, "zipkin")}


def test_tracing_follows_its_collector() -> None:
    """It begins when the collector comes and ends when it goes or is rejected; the gateway serves all the time."""
    world = make_world(GATEWAY, SERVICE)
    assert not _is_traced(world)
    assert [problem.severity for problem in world.problems()] == [Severity.WARNING]

    assert _is_traced(world.put(COLLECTOR))
    assert world.problems() == []
    assert not _is_traced(world.put(REJECTED))
    assert _is_traced(world.put(COLLECTOR))
    assert not _is_traced(world.remove("Upstream", "collector"))


def test_service_specs_follow_their_upstream() -> None:
    """A route is translated anew when the upstream that it leads to gets descriptors, and its filter appears."""
    plain = UPSTREAM % ""
    described = UPSTREAM % SPEC
    world = make_world(PLAIN_GATEWAY, ROUTED, plain)
    name = "envoy.filters.http.grpc_json_transcoder"
    assert not world.routes()[0].typed_per_filter_config

    world.put(described)
    assert [str(problem.ref) for problem in world.problems(Severity.ERROR)] == ["Upstream gloo-system.up"]
    assert not world.routes()[0].typed_per_filter_config

    world.put(f"{{kind: Artifact, metadata: {{name: shop, namespace: gloo-system}}, data: {{a: '{_descriptors()}'}}}}")
    assert world.problems() == []
    assert [*world.routes()[0].typed_per_filter_config] == [name]
    assert name.encode() in world.listener().SerializeToString()


def _descriptors() -> str:
    return base64.b64encode((Path(__file__).parent.parent / "golden" / "shop.pb").read_bytes()).decode()


def test_a_forward_proxy_is_shared() -> None:
    """Gateways with the same options share one generated cluster; its name changes with the options."""
    gateway = (
        "{kind: Gateway, metadata: {name: g%d, namespace: gloo-system}, bindAddress: '::', bindPort: %d,"
        " httpGateway: {options: {dynamicForwardProxy: {%s}}}}"
    )
    service = (
        "{kind: VirtualService, metadata: {name: vs, namespace: gloo-system}, virtualHost: {domains: ['*'], routes:"
        " [{matchers: [{prefix: /}], routeAction: {dynamicForwardProxy: {}}}]}}"
    )
    world = make_world(gateway % (1, 8080, ""), gateway % (2, 8081, ""), service)
    (shared,) = _generated(world)
    assert world.routes()[0].route.cluster == shared

    world.put(gateway % (2, 8081, "saveUpstreamAddress: true"))
    assert len(_generated(world)) == 2
    assert world.routes()[0].route.cluster == shared


def _generated(world: World) -> set[str]:
    return {name for name in world.snapshot().of(CLUSTER) if name.startswith("solo_io_generated_dfp:")}


def test_references_are_names() -> None:
    """A collector is looked up in the namespace that is written, and nowhere else."""
    world = make_world(
        GATEWAY.replace("name: collector, namespace: gloo-system", "name: collector, namespace: other"),
        SERVICE,
        COLLECTOR,
    )

    assert not _is_traced(world)
    assert "other.collector" in world.problems()[0].message
    assert Ref("other", "collector") not in {ref for _, ref in world.translation.services}
