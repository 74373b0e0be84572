"""Hybrid and TCP gateways to the groups of a listener."""

from typing import Any

import pytest
import yaml

from gloo_nomad.api import codec
from tests.pipeline.gateway_world import Outcome, World, service, to_document, translate

VS = service()
SECURE = service("domains: [s.com]", "secure", "sslConfig: {secretRef: {name: s, namespace: n}, sniDomains: [s.com]}")
RANGE = {"addressPrefix": "10.0.0.0", "prefixLen": 8}
HOST = {"name": "h", "destination": {"single": {"upstream": {"name": "u", "namespace": "n"}}}}


def gateway(**kind: Any) -> str:
    """A gateway on the usual port."""
    metadata = {"name": "gateway-proxy", "namespace": "gloo-system"}
    return codec.to_json({"metadata": metadata, "bindAddress": "::", "bindPort": 8080, **kind})


def matched(*gateways: dict[str, Any]) -> str:
    """A hybrid gateway with these gateways inside."""
    return gateway(hybridGateway={"matchedGateways": list(gateways)})


def matchable(name: str, text: str, labels: str = "{}", namespace: str = "gloo-system") -> str:
    """A gateway that is an object of its own."""
    return f"metadata: {{name: {name}, namespace: {namespace}, labels: {labels}}}\n{text}\n"


def run(text: str, *services: str, **more: list[str]) -> Outcome:
    """A gateway with virtual services and other objects."""
    return translate({"Gateway": [text], "VirtualService": list(services), **more})


def shape(outcome: Outcome) -> list[tuple[str, list[str], list[list[str]]]]:
    """HTTP groups as object and path, virtual hosts, and server names of their chains."""
    return [
        (
            f"{group.source.name} {group.path}",
            [host.source.name for host in group.virtual_hosts],
            [list(config.sni_domains) for config, _ in group.ssl],
        )
        for group in outcome.listener().http
    ]


def test_matched_gateways_share_a_listener() -> None:
    """Each has its matcher, its virtual services by the matcher's TLS, and a RouteConfiguration of its own."""
    outcome = run(
        matched(
            {"matcher": {"sslConfig": {"oneWayTls": True}}, "httpGateway": {}},
            {"matcher": {"sourcePrefixRanges": [RANGE]}, "httpGateway": {}},
            {"httpGateway": {}},
        ),
        VS,
        SECURE,
    )
    assert outcome.said() == []
    assert shape(outcome) == [
        ("gateway-proxy hybridGateway.matchedGateways[0].httpGateway", ["secure"], [["s.com"]]),
        ("gateway-proxy hybridGateway.matchedGateways[1].httpGateway", ["vs"], []),
        ("gateway-proxy hybridGateway.matchedGateways[2].httpGateway", ["vs"], []),
    ]
    tls, ranged, rest = outcome.listener().http
    assert rest.route_config == "listener-::-8080-routes"
    assert rest.matcher is None
    assert len({tls.route_config, ranged.route_config, rest.route_config}) == 3
    assert ranged.route_config.startswith("listener-::-8080-routes-")
    assert ranged.matcher is not None
    assert to_document(ranged.matcher) == {"sourcePrefixRanges": [RANGE]}


def test_matcher_gives_the_tls_that_virtual_services_leave_unset() -> None:
    """A chain has the virtual service's TLS, and the matcher's where that says nothing."""
    tls = {"oneWayTls": True, "sniDomains": ["m.com"], "parameters": {"cipherSuites": ["A"]}}
    bare = service("domains: [b.com]", "bare", "sslConfig: {secretRef: {name: b, namespace: n}, oneWayTls: false}")
    outcome = run(matched({"matcher": {"sslConfig": tls}, "httpGateway": {}}), SECURE, bare)
    configs = {config.secret_ref.name: to_document(config) for config, _ in outcome.listener().http[0].ssl}
    assert configs["s"] == {"secretRef": {"name": "s", "namespace": "n"}, **tls, "sniDomains": ["s.com"]}
    assert configs["b"] == {"secretRef": {"name": "b", "namespace": "n"}, **tls, "oneWayTls": False}


def test_isolation_within_a_matched_gateway() -> None:
    """With isolateVirtualHostsBySslConfig each TLS configuration of a matched gateway has its own virtual hosts."""
    other = service("domains: [o.com]", "other", "sslConfig: {secretRef: {name: o, namespace: n}, sniDomains: [o.com]}")
    outcome = translate(
        {
            "Gateway": [matched({"matcher": {"sslConfig": {}}, "httpGateway": {}})],
            "VirtualService": [SECURE, other],
        },
        "gateway: {isolateVirtualHostsBySslConfig: true}",
    )
    assert [hosts for _, hosts, _ in shape(outcome)] == [["other"], ["secure"]]
    assert len({group.route_config for group in outcome.listener().http}) == 2


@pytest.mark.parametrize(
    ("gateways", "said"),
    [
        ([{"httpGateway": {}}, {}], "error Gateway gloo-system.gateway-proxy hybridGateway.matchedGateways[1]: has no"),
        (
            [{"httpGateway": {}}, {"matcher": {}, "httpGateway": {}}],
            "error Gateway gloo-system.gateway-proxy hybridGateway.matchedGateways[1].httpGateway: has the matcher of",
        ),
    ],
)
def test_wrong_matched_gateway_costs_itself_only(gateways: list[dict[str, Any]], said: str) -> None:
    """A matched gateway without a type, or behind the matcher of another, is an error; the others are served."""
    outcome = run(matched(*gateways), VS)
    assert len(shape(outcome)) == 1
    (text,) = outcome.said()
    assert text.startswith(said)


def test_hybrid_gateway_without_anything_to_serve() -> None:
    """Matched gateways without a virtual service reject the gateway; delegated ones are a warning."""
    outcome = run(matched({"matcher": {"sslConfig": {}}, "httpGateway": {}}), VS)
    assert outcome.proxies[0].listeners == ()
    (said,) = outcome.said()
    assert said.startswith(
        "error Gateway gloo-system.gateway-proxy hybridGateway.matchedGateways: hybrid gateway does not have any "
        "populated matched gateways"
    )
    outcome = run(gateway(hybridGateway={"delegatedHttpGateways": {"selector": {}}}), VS)
    assert outcome.proxies[0].listeners == ()
    (said,) = outcome.said()
    assert said.startswith("warning Gateway gloo-system.gateway-proxy hybridGateway: hybrid gateway does not have any")


CHILDREN = [
    matchable(
        "a", "matcher: {sourcePrefixRanges: [{addressPrefix: 10.0.0.0, prefixLen: 8}]}\nhttpGateway: {}", "{team: x}"
    ),
    matchable("b", "httpGateway: {}", "{team: y}", "other"),
    matchable("s", "matcher: {sslConfig: {}}\nhttpGateway: {}", "{team: x}"),
]

PICKS = [
    ("all namespaces by default", {"selector": {}}, ["a httpGateway", "b httpGateway"]),
    ("a namespace", {"selector": {"namespaces": ["other"]}}, ["b httpGateway"]),
    ("labels", {"selector": {"labels": {"team": "x"}}}, ["a httpGateway"]),
    (
        "expressions",
        {"selector": {"expressions": [{"key": "team", "operator": "NotIn", "values": ["x"]}]}},
        ["b httpGateway"],
    ),
    ("a reference", {"ref": {"name": "a", "namespace": "gloo-system"}}, ["a httpGateway"]),
    ("those with TLS", {"selector": {}, "sslConfig": {}}, ["s httpGateway"]),
]


@pytest.mark.parametrize(("delegated", "expected"), [case[1:] for case in PICKS], ids=[case[0] for case in PICKS])
def test_delegated_gateways_are_picked(delegated: dict[str, Any], expected: list[str]) -> None:
    """A reference or a selector picks MatchableHttpGateways whose use of TLS agrees."""
    outcome = run(
        gateway(hybridGateway={"delegatedHttpGateways": delegated}), VS, SECURE, MatchableHttpGateway=CHILDREN
    )
    assert [name for name, _, _ in shape(outcome)] == expected
    assert outcome.said() == []


@pytest.mark.parametrize(
    ("delegated", "said"),
    [
        ({"ref": {"name": "z", "namespace": "n"}}, "delegatedHttpGateways.ref: MatchableHttpGateway n.z missing"),
        ({}, "delegatedHttpGateways: picks no gateway"),
        (
            {"selector": {"expressions": [{"key": "team", "operator": "In"}]}},
            "delegatedHttpGateways.selector.expressions[0]: In takes at least one value",
        ),
    ],
)
def test_delegating_to_nothing_is_said(delegated: dict[str, Any], said: str) -> None:
    """A missing object, no choice and a bad selector are named, besides the gateway being empty."""
    outcome = run(gateway(hybridGateway={"delegatedHttpGateways": delegated}), VS, MatchableHttpGateway=CHILDREN)
    first, second = outcome.said()
    assert f"Gateway gloo-system.gateway-proxy hybridGateway.{said}" in first
    assert "does not have any populated delegated gateways" in second


@pytest.mark.parametrize(("prevent", "via", "one_way"), [(False, "child", False), (True, "parent", True)])
def test_delegated_settings_reach_the_children(prevent: bool, via: str, one_way: bool) -> None:
    """Connection manager settings and TLS are handed down; preventChildOverrides decides who wins."""
    child = matchable(
        "s",
        "matcher: {sslConfig: {oneWayTls: false}}\n"
        "httpGateway: {options: {gzip: {}, httpConnectionManagerSettings: {via: child}}}",
    )
    delegated = {
        "selector": {},
        "preventChildOverrides": prevent,
        "sslConfig": {"oneWayTls": True, "alpnProtocols": ["h2"]},
        "httpConnectionManagerSettings": {"via": "parent", "serverName": "parent"},
    }
    text = gateway(hybridGateway={"delegatedHttpGateways": delegated})
    outcome = run(text, SECURE, MatchableHttpGateway=[child])
    (group,) = outcome.listener().http
    assert to_document(group.options) == {
        "gzip": {},
        "httpConnectionManagerSettings": {"via": via, "serverName": "parent"},
    }
    ((config, _),) = group.ssl
    assert to_document(config)["oneWayTls"] is one_way
    assert to_document(config)["alpnProtocols"] == ["h2"]


def test_matched_gateways_go_before_delegated_ones() -> None:
    """Delegation counts only while nothing is matched inside of the gateway."""
    text = gateway(hybridGateway={"matchedGateways": [{"httpGateway": {}}], "delegatedHttpGateways": {"selector": {}}})
    outcome = run(text, VS, MatchableHttpGateway=CHILDREN)
    assert [name for name, _, _ in shape(outcome)] == ["gateway-proxy hybridGateway.matchedGateways[0].httpGateway"]


def test_conflicts_are_told_to_the_matchable_gateway() -> None:
    """A domain conflict behind an object of its own is told to that object."""
    text = gateway(hybridGateway={"delegatedHttpGateways": {"ref": {"name": "b", "namespace": "other"}}})
    services = [service("domains: [a.com]", "one"), service("domains: [a.com]", "two")]
    outcome = run(text, *services, MatchableHttpGateway=CHILDREN)
    assert [str(problem.ref) for problem in outcome.problems] == [
        "VirtualService gloo-system.one",
        "VirtualService gloo-system.two",
        "MatchableHttpGateway other.b",
    ]


def test_tcp_gateway_has_its_hosts() -> None:
    """Hosts and options are handed on as they are written."""
    outcome = run(gateway(tcpGateway={"tcpHosts": [HOST], "options": {"tcpProxySettings": {"maxConnectAttempts": 3}}}))
    (group,) = outcome.listener().tcp
    assert [to_document(host) for host in group.hosts] == [HOST]
    assert to_document(group.options) == {"tcpProxySettings": {"maxConnectAttempts": 3}}
    assert (group.path, group.matcher, outcome.listener().http) == ("tcpGateway", None, ())


def test_tcp_host_without_a_destination_is_left_out() -> None:
    """A host that leads nowhere is an error of the gateway, which serves the others."""
    outcome = run(gateway(tcpGateway={"tcpHosts": [{"name": "x"}, HOST]}))
    assert [host.name for host in outcome.listener().tcp[0].hosts] == ["h"]
    assert outcome.listener().tcp[0].places == (1,)
    (said,) = outcome.said()
    assert said.startswith("error Gateway gloo-system.gateway-proxy tcpGateway.tcpHosts[0].destination: is required")
    (said,) = run(gateway(tcpGateway={})).said()
    assert said.startswith("error Gateway gloo-system.gateway-proxy tcpGateway.tcpHosts: is empty")


def test_tcp_host_behind_a_matcher_stays_within_its_server_names() -> None:
    """A host's server names must be among the matcher's; what it leaves unset comes from there."""
    good: dict[str, Any] = {**HOST, "sslConfig": {"sniDomains": ["a.com"]}}
    bad = {**HOST, "name": "bad", "sslConfig": {"sniDomains": ["z.com"]}}
    matcher = {"sslConfig": {"sniDomains": ["a.com", "b.com"], "oneWayTls": True}}
    outcome = run(matched({"matcher": matcher, "tcpGateway": {"tcpHosts": [good, bad, {**HOST, "name": "bare"}]}}))
    (group,) = outcome.listener().tcp
    assert [
        (host.name, list(host.ssl_config.sni_domains), host.ssl_config.one_way_tls.value) for host in group.hosts
    ] == [
        ("h", ["a.com"], True),
        ("bare", ["a.com", "b.com"], True),
    ]
    (said,) = outcome.said()
    assert said.startswith(
        "error Gateway gloo-system.gateway-proxy hybridGateway.matchedGateways[0].tcpGateway.tcpHosts[1]."
        "sslConfig.sniDomains[0]: z.com is none of the matcher's sniDomains (a.com, b.com)"
    )


def test_delegated_tcp_gateways_stand_beside_http_ones() -> None:
    """A hybrid gateway may delegate to both kinds at once."""
    child = matchable(
        "t", yaml.safe_dump({"matcher": {"sourcePrefixRanges": [RANGE]}, "tcpGateway": {"tcpHosts": [HOST]}})
    )
    text = gateway(
        hybridGateway={
            "delegatedTcpGateways": {"selector": {}},
            "delegatedHttpGateways": {"selector": {"namespaces": ["other"]}},
        }
    )
    outcome = run(text, VS, MatchableHttpGateway=CHILDREN, MatchableTcpGateway=[child])
    (group,) = outcome.listener().tcp
    assert (group.source.kind, group.source.name, group.path) == ("MatchableTcpGateway", "t", "tcpGateway")
    assert group.matcher is not None
    assert to_document(group.matcher) == {"sourcePrefixRanges": [RANGE]}
    assert [name for name, _, _ in shape(outcome)] == ["b httpGateway"]
    assert outcome.said() == []


def test_hybrid_gateway_keeps_what_did_not_change() -> None:
    """A change behind one matched gateway leaves the groups of the others the same objects."""
    world = World()
    world.put("Gateway", gateway(hybridGateway={"delegatedHttpGateways": {"selector": {}}}))
    world.put("MatchableHttpGateway", *CHILDREN[:2])
    world.put("VirtualService", VS)
    before = world.translate().listener().http
    world.put("MatchableHttpGateway", CHILDREN[1].replace("httpGateway: {}", "httpGateway: {options: {gzip: {}}}"))
    after = world.translate().listener().http
    assert [new is old for new, old in zip(after, before, strict=True)] == [True, False]
    world.put("VirtualService", SECURE)
    assert world.translate().listener().http == after


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        ({"tcpGateway": {"tcpHosts": [HOST]}}, "the sslConfig of each of the tcpHosts decides"),
        ({"hybridGateway": {"matchedGateways": [{"httpGateway": {}}]}}, "the sslConfig of each matcher decides"),
    ],
)
def test_ssl_of_a_gateway_is_for_http_gateways(kind: dict[str, Any], remedy: str) -> None:
    """On hybrid and TCP gateways ``ssl`` is said to have no effect, and the gateway is served."""
    outcome = run(gateway(ssl=True, **kind), VS)
    (said,) = outcome.said()
    assert said == f"warning Gateway gloo-system.gateway-proxy ssl: has no effect here: {remedy}; remove it"
    assert outcome.listener().name
    assert run(gateway(ssl=False, **kind), VS).said() == []


def test_isolation_leaves_tcp_gateways_alone() -> None:
    """A hybrid gateway of TCP gateways only works whether virtual hosts are isolated or not."""
    text = matched({"matcher": {"sourcePrefixRanges": [RANGE]}, "tcpGateway": {"tcpHosts": [HOST]}})
    outcome = translate({"Gateway": [text]}, "gateway: {isolateVirtualHostsBySslConfig: true}")
    assert outcome.said() == []
    assert [group.path for group in outcome.listener().tcp] == ["hybridGateway.matchedGateways[0].tcpGateway"]
