"""TCP gateways to filter chains: what is said, what is kept, and what they make reachable."""

from typing import Any

import pytest
import yaml
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2

from gloo_nomad.api.refs import Ref
from gloo_nomad.envoy.destinations import ANY_UPSTREAM
from gloo_nomad.envoy.translate import EnvoyProxy, translate_proxy
from gloo_nomad.resources import LISTENER
from tests.pipeline.envoy_world import World, make_world, upstream

UP = {"single": {"upstream": {"name": "up"}}}
GROUP = "kind: UpstreamGroup\nmetadata: {name: both, namespace: gloo-system}\n"


def gateway(*hosts: dict[str, Any], name: str = "tcp", port: int = 8080, **more: Any) -> str:
    """A TCP gateway with these hosts."""
    metadata = {"name": name, "namespace": "gloo-system"}
    document = {"kind": "Gateway", "metadata": metadata, "bindAddress": "::", "bindPort": port}
    return yaml.safe_dump({**document, "tcpGateway": {"tcpHosts": list(hosts), **more}})


def host(destination: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A host that leads to the usual upstream."""
    return {"destination": destination or UP, **more}


def chains(world: World) -> list[Any]:
    """The TCP proxies of the listener's chains."""
    found = []
    for chain in world.listener().filter_chains:
        proxy = tcp_proxy_pb2.TcpProxy()
        assert chain.filters[-1].typed_config.Unpack(proxy)
        found.append(proxy)
    return found


def translated(world: World) -> EnvoyProxy:
    """The envoy stage's answer for the only proxy."""
    (proxy,) = world.translation.proxies
    return translate_proxy(proxy, world.store.snapshot, world.settings, world.pipeline.memo)


def test_upstream_without_a_namespace_is_that_of_the_gateway() -> None:
    """A destination is looked for where the gateway is."""
    world = make_world(gateway(host()), upstream())

    assert [proxy.cluster for proxy in chains(world)] == ["up_gloo-system"]
    assert world.problems() == []
    assert translated(world).reachable == {Ref("gloo-system", "up")}


PLACE = "tcpGateway.tcpHosts[0].destination"
SAID: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "an upstream that does not exist",
        {"single": {"upstream": {"name": "gone", "namespace": "n"}}},
        "warning",
        "single.upstream: upstream n.gone does not exist; connections are closed",
    ),
    (
        "an upstream group that does not exist",
        {"upstreamGroup": {"name": "gone", "namespace": "n"}},
        "warning",
        "upstreamGroup: upstream group n.gone does not exist; connections are closed",
    ),
    (
        "no weight at all",
        {"multi": {"destinations": [{"destination": UP["single"]}]}},
        "error",
        "multi.destinations: all weights together are 0; they must be 1 to 4294967295",
    ),
    (
        "options of a weighted destination",
        {"multi": {"destinations": [{"destination": UP["single"], "weight": 1, "options": {}}]}},
        "warning",
        "multi.destinations[0].options: has no effect on TCP connections; remove it",
    ),
    (
        "a service of Kubernetes",
        {"single": {"kube": {"ref": {"name": "a", "namespace": "b"}, "port": 1}}},
        "error",
        "single.kube: services of Kubernetes do not exist here; name an upstream or a Consul service",
    ),
]


@pytest.mark.parametrize(
    ("destination", "severity", "text"), [case[1:] for case in SAID], ids=[case[0] for case in SAID]
)
def test_what_is_said_of_destinations(destination: dict[str, Any], severity: str, text: str) -> None:
    """A mistake is said with its path; a host with an error is left out, with a warning it is served."""
    world = make_world(gateway(host(destination), host(sslConfig={"sniDomains": ["a.com"]})), upstream())

    assert f"{severity} {PLACE}.{text}" in world.said("Gateway", "tcp")
    assert len(chains(world)) == (1 if severity == "error" else 2)


def test_an_upstream_that_appears_is_used() -> None:
    """The warning goes as soon as the upstream is there; the listener stays what it was."""
    world = make_world(gateway(host()))
    before = world.snapshot().of(LISTENER)["listener-::-8080"]
    assert len(world.problems()) == 1
    world.put(upstream())

    assert world.problems() == []
    assert world.snapshot().of(LISTENER)["listener-::-8080"] is before


def test_consul_services_of_tcp_hosts_are_watched() -> None:
    """A Consul destination has its cluster, by tags, and its service is found."""
    world = make_world(gateway(host({"single": {"consul": {"serviceName": "db", "tags": ["blue"]}}})))
    (proxy,) = chains(world)

    assert proxy.cluster == "consul-svc:db_gloo-system"
    assert proxy.metadata_match.filter_metadata["envoy.lb"]["tags"] == "blue"
    assert world.cluster("consul-svc:db_gloo-system").name == "consul-svc:db_gloo-system"
    assert translated(world).consul_services == {"db"}


def test_a_server_name_may_reach_any_upstream() -> None:
    """With forwardSniClusterName clients name the cluster: endpoints of all upstreams are needed."""
    world = make_world(gateway(host({"forwardSniClusterName": {}}, sslConfig={"sniDomains": ["*"]})))

    assert translated(world).reachable == {ANY_UPSTREAM}
    assert [item.name for item in world.listener().listener_filters] == ["envoy.filters.listener.tls_inspector"]


def test_plain_hosts_are_not_looked_into() -> None:
    """Without server names no handshake is inspected, so that protocols in which the server speaks first work."""
    assert not make_world(gateway(host()), upstream()).listener().listener_filters


def test_two_hosts_for_everything_are_a_conflict() -> None:
    """Of two hosts that take the same connections the first one is served, the other is told."""
    world = make_world(gateway(host(), host(name="second")), upstream())

    assert len(chains(world)) == 1
    (said,) = world.said("Gateway", "tcp")
    assert said.startswith("error tcpGateway.tcpHosts[1].sslConfig.sniDomains: TLS conflict: another configuration")


def test_wrong_options_cost_their_gateway_only() -> None:
    """Options that Envoy would refuse close that port; other gateways are served."""
    bad = gateway(host(), name="bad", port=8081, options={"tcpProxySettings": {"maxConnectAttempts": 0}})
    world = make_world(gateway(host()), bad, upstream())

    assert world.names(LISTENER) == ["listener-::-8080"]
    assert world.said("Gateway", "bad") == [
        "error tcpGateway.options.tcpProxySettings.maxConnectAttempts: must be at least 1"
    ]


def test_what_did_not_change_is_kept() -> None:
    """Another upstream costs no TCP chain, a change of the gateway does."""
    world = make_world(gateway(host()), upstream())
    before = translated(world).listeners["listener-::-8080"]
    world.put(upstream("other"))
    assert translated(world).listeners["listener-::-8080"] is before
    world.put(gateway(host(), options={"tcpProxySettings": {"maxConnectAttempts": 2}}))

    assert [proxy.max_connect_attempts.value for proxy in chains(world)] == [2]


def test_upstream_groups_are_looked_up_beside_the_group() -> None:
    """Destinations of a group are weighted; one that weighs nothing is left out, Envoy has no place for it."""
    entries = [{"destination": {"upstream": {"name": "up"}}, "weight": weight} for weight in (3, 0)]
    world = make_world(
        gateway(host({"upstreamGroup": {"name": "both"}})),
        GROUP + yaml.safe_dump({"destinations": entries}),
        upstream(),
    )

    assert [(entry.name, entry.weight) for entry in chains(world)[0].weighted_clusters.clusters] == [
        ("up_gloo-system", 3)
    ]
    assert world.problems() == []


def test_matched_gateways_with_one_server_name_are_a_conflict() -> None:
    """Of two gateways behind different matchers that take the same connections the first one is served."""
    tcp = {"tcpGateway": {"tcpHosts": [host(sslConfig={"sniDomains": ["a.com"]})]}}
    matched = [{"matcher": {"sslConfig": {"sniDomains": names}}, **tcp} for names in (["a.com"], ["a.com", "b.com"])]
    metadata = {"name": "both", "namespace": "gloo-system"}
    document = {"kind": "Gateway", "metadata": metadata, "bindAddress": "::", "bindPort": 8080}
    world = make_world(yaml.safe_dump({**document, "hybridGateway": {"matchedGateways": matched}}), upstream())

    assert len(chains(world)) == 1
    (said,) = world.said("Gateway", "both")
    assert said.startswith("error hybridGateway.matchedGateways[1].tcpGateway.tcpHosts[0].sslConfig.sniDomains: TLS")
