"""Headers of a Secret where only Upstreams of its own namespace may get them."""

import pytest

from gloo_nomad.resources import ROUTES
from gloo_nomad.settings.load import Flags, load_settings
from tests.pipeline.envoy_world import GATEWAY, World, make_world, upstream, virtual_service

STRICT = {"extensions": {"configs": {"gloo-nomad": {"headerSecretNamespaceMatches": True}}}}
ADDED = "headerManipulation: {requestHeadersToAdd: [{headerSecretRef: {name: key, namespace: apps}}]}"
SECRET = "kind: Secret\nmetadata: {name: key, namespace: apps}\nheader: {headers: {x-key: canary}}"
GROUP = (
    "kind: UpstreamGroup\nmetadata: {name: group, namespace: apps}\n"
    "destinations: [{weight: 1, destination: {upstream: {name: inside}}}]"
)
INSIDE, OUTSIDE = "{name: inside, namespace: apps}", "{name: up, namespace: gloo-system}"


def world_of(route: str, *, strict: bool = True, more: str = "") -> World:
    """A virtual service with that route, and upstreams of two namespaces."""
    inside = upstream("inside").replace("gloo-system", "apps")
    vs = virtual_service(route, more=more)
    return make_world(GATEWAY, SECRET, GROUP, inside, upstream(), vs, settings=STRICT if strict else {})


def multi(*targets: str, options: str = "") -> str:
    """A route to several upstreams, the first of which has options."""
    entries = [f"{{weight: 1, destination: {{upstream: {target}}}}}" for target in targets]
    entries[0] = entries[0][:-1] + (f", options: {{{options}}}}}" if options else "}")
    return f"multi: {{destinations: [{', '.join(entries)}]}}"


@pytest.mark.parametrize(
    ("action", "allowed"),
    [
        (f"single: {{upstream: {INSIDE}}}", True),
        (f"single: {{upstream: {OUTSIDE}}}", False),
        ("single: {consul: {serviceName: web}}", False),
        (multi(INSIDE, INSIDE), True),
        (multi(INSIDE, OUTSIDE), False),
        ("upstreamGroup: {name: group, namespace: apps}", True),
        ("clusterHeader: x-cluster", False),
    ],
)
@pytest.mark.parametrize("strict", [True, False])
def test_a_route(action: str, *, allowed: bool, strict: bool) -> None:
    """Every upstream that a route leads to has to be in the Secret's namespace, if that is asked for."""
    world = world_of(f"{{matchers: [{{prefix: /}}], options: {{{ADDED}}}, routeAction: {{{action}}}}}", strict=strict)
    (route,) = world.routes()
    keys = [entry.header.key for entry in route.request_headers_to_add]

    if allowed or not strict:
        assert keys == ["x-key"]
        return
    assert keys == []
    assert route.direct_response.status == 404
    (said,) = (text for text in world.said("VirtualService", "vs") if "headerSecretRef" in text)
    assert "is not in the namespace of each Upstream that gets it" in said


@pytest.mark.parametrize(("target", "allowed"), [(INSIDE, True), (OUTSIDE, False)])
def test_one_destination_of_several(target: str, *, allowed: bool) -> None:
    """Of a weighted destination its own upstream counts, and not the others."""
    world = world_of(f"{{routeAction: {{{multi(target, OUTSIDE, options=ADDED)}}}}}")

    assert (world.routes()[0].route.weighted_clusters.clusters[0:1] != []) is allowed
    assert ("headerSecretRef" in str(world.said("VirtualService", "vs"))) is not allowed


@pytest.mark.parametrize("strict", [True, False])
def test_a_virtual_host(*, strict: bool) -> None:
    """Where it is not known who gets the headers, nobody does."""
    vs = virtual_service().replace("virtualHost:", f"virtualHost:\n  options: {{{ADDED}}}")
    world = make_world(GATEWAY, SECRET, upstream(), vs, settings=STRICT if strict else {})
    hosts = world.route_config().virtual_hosts if world.names(ROUTES) else ()

    keys = [entry.header.key for host in hosts for entry in host.request_headers_to_add]
    assert keys == ([] if strict else ["x-key"])
    assert ("headerSecretRef" in str(world.said("VirtualService", "vs"))) is strict


@pytest.mark.parametrize("namespace", ["apps", "gloo-system"])
def test_a_health_check(namespace: str) -> None:
    """An Upstream's own checks may use the Secrets of its namespace."""
    check = (
        "healthChecks: [{timeout: 1s, interval: 1s, healthyThreshold: 1, unhealthyThreshold: 1, httpHealthCheck: "
        "{path: /, requestHeadersToAdd: [{headerSecretRef: {name: key, namespace: apps}}]}}]"
    )
    checked = upstream("checked", f"static: {{hosts: [{{addr: 127.0.0.1, port: 80}}]}}\n{check}")
    world = make_world(GATEWAY, SECRET, checked.replace("gloo-system", namespace), settings=STRICT)

    assert ("headerSecretRef" in str(world.problems())) is (namespace == "gloo-system")


def test_the_references_variable() -> None:
    """The environment variable of the reference asks for it, whatever the Settings say."""
    environ = {"CONSUL_HTTP_ADDR": "127.0.0.1:8500"}
    assert load_settings(Flags(), environ).own("headerSecretNamespaceMatches") is False
    strict = load_settings(Flags(), {**environ, "HEADER_SECRET_REF_NS_MATCHES_US": "true"})
    assert strict.own("headerSecretNamespaceMatches") is True
