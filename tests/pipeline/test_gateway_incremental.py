"""The gateway stage with a memory gives what it gives without one, after any sequence of changes."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gloo_nomad.api import codec
from gloo_nomad.gateway.translate import translate_gateways
from gloo_nomad.messages import to_bytes
from gloo_nomad.proxies import Proxy
from gloo_nomad.store.memo import Memo
from tests.pipeline.gateway_world import NAMESPACE, World

NAMES = ("a", "b", "c")
NAMESPACES = (NAMESPACE, "other")


def metadata(name: str, namespace: str, team: str) -> dict[str, Any]:
    """Metadata with a label that selectors pick."""
    return {"name": name, "namespace": namespace, "labels": {"team": team}}


def ref(name: str, namespace: str = NAMESPACE) -> dict[str, str]:
    """A reference to an object that may exist."""
    return {"name": name, "namespace": namespace}


names = st.sampled_from(NAMES)
namespaces = st.sampled_from((NAMESPACE, *NAMESPACES))
flags = st.sampled_from(
    [{}, {"inheritableMatchers": True}, {"inheritablePathMatchers": True}, {"inheritableMatchers": False}]
)
refs = st.lists(names.map(ref), max_size=2).map(
    lambda found: {"optionsConfigRefs": {"delegateOptions": found}} if found else {}
)
matchers = st.lists(
    st.sampled_from(
        [
            {"prefix": "/"},
            {"prefix": "/"},
            {"prefix": "/"},
            {"prefix": "/a"},
            {"prefix": "/a"},
            {"exact": "/a/b"},
            {"regex": "/a.*"},
            {"headers": [{"name": "x", "value": "y"}]},
            {"prefix": "/a", "methods": ["GET"]},
            {"prefix": "/a", "caseSensitive": False, "queryParameters": [{"name": "q"}]},
        ]
    ),
    max_size=1,
)
two_matchers = st.just([{"prefix": "/a"}, {"prefix": "/b"}])
selectors = st.sampled_from(
    [
        {"labels": {"team": "x"}},
        {"labels": {"team": "x"}},
        {"namespaces": ["*"], "labels": {"team": "y"}},
        {"namespaces": ["*"]},
        {"namespaces": ["other"]},
        {"expressions": [{"key": "team", "operator": "NotIn", "values": ["x"]}]},
        {"labels": {"team": "x"}, "expressions": [{"key": "team", "operator": "In"}]},
    ]
)
actions: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({"routeAction": {"single": {"upstream": {"name": "u"}}}}),
    st.just({"redirectAction": {"hostRedirect": "h"}}),
    st.just({}),
    st.tuples(names, namespaces).map(lambda pair: {"delegateAction": {"ref": ref(*pair)}}),
    selectors.map(lambda selector: {"delegateAction": {"selector": selector}}),
)
options = st.sampled_from([{}, {"options": {"timeout": "1s"}}, {"options": {"timeout": "0s", "hostRewrite": "h"}}])
labels = st.sampled_from(["", "named"]).map(lambda name: {"name": name} if name else {})
routes = st.lists(
    st.builds(
        lambda found, *parts: {"matchers": found, **{key: value for part in parts for key, value in part.items()}},
        st.one_of(matchers, matchers, matchers, two_matchers),
        actions,
        options,
        flags,
        refs,
        labels,
    ),
    max_size=3,
)
teams = st.sampled_from(["x", "y"])
tls = st.sampled_from(
    [
        {},
        {},
        {"sslConfig": {"secretRef": ref("s1")}},
        {"sslConfig": {"secretRef": ref("s1"), "sniDomains": ["a.com"]}},
        {"sslConfig": {"secretRef": ref("s2"), "sniDomains": ["a.com", "b.com"]}},
    ]
)
virtual_services = st.builds(
    lambda name, namespace, team, domains, found, more, ssl: (
        "VirtualService",
        {
            "metadata": metadata(name, namespace, team),
            "virtualHost": {"domains": domains, "routes": found, **more},
            **ssl,
        },
    ),
    names,
    namespaces,
    teams,
    st.lists(st.sampled_from(["a.com", "A.com", "b.com", "*", ""]), max_size=3),
    routes,
    refs,
    tls,
)
route_tables = st.builds(
    lambda name, namespace, team, found, weight: (
        "RouteTable",
        {"metadata": metadata(name, namespace, team), "routes": found, **({"weight": weight} if weight else {})},
    ),
    names,
    namespaces,
    teams,
    routes,
    st.integers(-1, 1),
)
route_options = st.builds(
    lambda name, timeout: ("RouteOption", {"metadata": ref(name), "options": {"timeout": timeout}}),
    names,
    st.sampled_from(["1s", "2s"]),
)
host_options = st.builds(
    lambda name, retries: (
        "VirtualHostOption",
        {"metadata": ref(name), "options": {"retries": {"numRetries": retries}}},
    ),
    names,
    st.integers(0, 2),
)
gateways = st.builds(
    lambda name, namespace, address, port, ssl, http, proxies, more: (
        "Gateway",
        {
            **more,
            "metadata": metadata(name, namespace, "x"),
            "bindAddress": address,
            "bindPort": port,
            "ssl": ssl,
            "proxyNames": proxies,
            **http,
        },
    ),
    names,
    namespaces,
    st.sampled_from(["::", "127.0.0.1"]),
    st.sampled_from([80, 443]),
    st.booleans(),
    st.sampled_from(
        [
            {},
            {"httpGateway": {}},
            {"httpGateway": {"options": {"gzip": {}}}},
            {"httpGateway": {"virtualServices": [ref("a"), ref("b", "other")]}},
            {"httpGateway": {"virtualServiceSelector": {"team": "x"}}},
            {"tcpGateway": {"tcpHosts": [{"name": "h", "destination": {"forwardSniClusterName": {}}}, {"name": "i"}]}},
            {"hybridGateway": {"delegatedHttpGateways": {"selector": {}}}},
            {"hybridGateway": {"delegatedHttpGateways": {"ref": ref("a"), "sslConfig": {"oneWayTls": True}}}},
            {
                "hybridGateway": {
                    "matchedGateways": [
                        {"matcher": {"sslConfig": {}}, "httpGateway": {}},
                        {"httpGateway": {"virtualServiceSelector": {"team": "y"}}},
                        {"httpGateway": {}},
                    ]
                }
            },
            {
                "httpGateway": {
                    "virtualServiceExpressions": {"expressions": [{"key": "team", "operator": "Exists"}]},
                    "virtualServiceNamespaces": ["other"],
                }
            },
        ]
    ),
    st.lists(st.sampled_from(["p", "q"]), max_size=2),
    st.sampled_from([{}, {"useProxyProto": True}, {"options": {"perConnectionBufferLimitBytes": 1}}]),
)
matchables = st.builds(
    lambda name, team, matcher: (
        "MatchableHttpGateway",
        {"metadata": metadata(name, NAMESPACE, team), "httpGateway": {}, **matcher},
    ),
    names,
    teams,
    st.sampled_from(
        [
            {},
            {"matcher": {"sslConfig": {"sniDomains": ["m.com"]}}},
            {"matcher": {"sourcePrefixRanges": [{"addressPrefix": "10.0.0.0", "prefixLen": 8}]}},
        ]
    ),
)
puts = st.one_of(
    matchables, virtual_services, virtual_services, *[route_tables] * 3, route_options, host_options, gateways
)
deletes = st.tuples(
    st.just("delete"),
    st.sampled_from(
        ["VirtualService", "RouteTable", "RouteOption", "VirtualHostOption", "Gateway", "MatchableHttpGateway"]
    ),
    names,
    namespaces,
)
configurations = st.sampled_from(
    [
        "{}",
        "gateway: {isolateVirtualHostsBySslConfig: true, readGatewaysFromAllNamespaces: true}",
        "gateway: {translateEmptyGateways: true, virtualServiceOptions: {oneWayTls: true}}",
        "gloo: {invalidConfigPolicy: {invalidRouteResponseCode: 500}}",
    ]
).map(lambda text: ("settings", text))
rounds = st.lists(
    st.lists(st.one_of(puts, puts, deletes, configurations), min_size=1, max_size=2), min_size=1, max_size=10
)
claimants = st.builds(
    lambda name, domains, found, ssl: (
        "VirtualService",
        {"metadata": ref(name), "virtualHost": {"domains": domains, "routes": found}, **ssl},
    ),
    names,
    st.lists(st.sampled_from(["a.com", "b.com"]), max_size=2),
    st.sampled_from([[], [{"name": "r", "directResponseAction": {"status": 200}}]]),
    tls,
)
contests = st.lists(
    st.lists(
        st.one_of(claimants, st.tuples(st.just("delete"), st.just("VirtualService"), names)), min_size=1, max_size=3
    ),
    min_size=1,
    max_size=10,
)


def apply_step(step: tuple[Any, ...], out: World) -> None:
    """One change of the world."""
    if step[0] == "delete":
        out.delete(*step[1:])
    elif step[0] == "settings":
        out.configure(step[1])
    else:
        out.put(step[0], codec.to_json(step[1]))


def show(proxies: tuple[Proxy, ...]) -> list[Any]:
    """Proxies by value: every message as its bytes."""
    return [
        (
            proxy.ref,
            [
                (
                    listener.name,
                    listener.source,
                    (listener.bind_address, listener.bind_port, listener.use_proxy_proto, to_bytes(listener.options)),
                    [show_group(group) for group in listener.http],
                    [[to_bytes(host) for host in group.hosts] for group in listener.tcp],
                )
                for listener in proxy.listeners
            ],
        )
        for proxy in proxies
    ]


def show_group(group: Any) -> Any:
    """One HTTP group by value."""
    return (
        group.route_config,
        to_bytes(group.options),
        group.matcher and to_bytes(group.matcher),
        [(to_bytes(config), sources) for config, sources in group.ssl],
        [
            (
                to_bytes(host.message),
                host.paths,
                host.ssl and to_bytes(host.ssl),
                show_origins(host),
                dict(host.options),
            )
            for host in group.virtual_hosts
        ],
    )


def show_origins(host: Any) -> list[Any]:
    """Where routes were written, by value."""
    return [(origin.source, origin.path, origin.via, dict(origin.options)) for origin in host.origins]


def check(world: World) -> None:
    """A long memory and no memory at all give equal proxies and the same problems."""
    remembered = world.translate()
    proxies, problems = translate_gateways(world.store.snapshot, world.settings, Memo())
    assert show(remembered.proxies) == show(proxies)
    assert remembered.problems == problems
    assert world.translate().proxies is remembered.proxies


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rounds)
def test_incremental_equals_from_scratch(found: list[list[tuple[Any, ...]]]) -> None:
    """After each round of changes of anything, the memory makes no difference."""
    world = World()
    world.put("Gateway", codec.to_json({"metadata": ref("g"), "bindAddress": "::", "bindPort": 80, "httpGateway": {}}))
    for steps in found:
        for step in steps:
            apply_step(step, world)
        check(world)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(contests)
def test_contests_are_settled_as_from_scratch(found: list[list[tuple[Any, ...]]]) -> None:
    """After each round of changes of who claims which domain, since when, the memory makes no difference."""
    world = World()
    http: dict[str, Any] = {"metadata": ref("g"), "bindAddress": "::", "bindPort": 80, "httpGateway": {}}
    world.put("Gateway", codec.to_json(http))
    world.put("Gateway", codec.to_json({**http, "metadata": ref("s"), "bindPort": 443, "ssl": True}))
    for steps in found:
        for step in steps:
            apply_step(step, world)
        check(world)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.one_of(gateways, gateways, matchables, configurations), min_size=1, max_size=12))
def test_gateways_are_edited_as_from_scratch(found: list[tuple[Any, ...]]) -> None:
    """After each change of a gateway in front of the same virtual services, the memory makes no difference."""
    world = World()
    for name in ("a", "b"):
        world.put("VirtualService", codec.to_json({"metadata": metadata(name, NAMESPACE, "x")}))
    secure = {"metadata": ref("c"), "sslConfig": {"secretRef": ref("s")}}
    world.put("VirtualService", codec.to_json(secure))
    for step in found:
        apply_step(step, world)
        check(world)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rounds)
def test_no_domain_is_served_twice(found: list[list[tuple[Any, ...]]]) -> None:
    """Whatever users write, each domain is in one virtual host of a group, and each route has an action."""
    world = World()
    for step in (step for steps in found for step in steps):
        apply_step(step, world)
    for proxy in world.translate().proxies:
        for listener in proxy.listeners:
            for group in listener.http:
                domains = [domain.lower() for host in group.virtual_hosts for domain in host.message.domains]
                assert len(domains) == len(set(domains))
                assert all(domain for domain in domains)
                assert all(route.WhichOneof("action") for host in group.virtual_hosts for route in host.message.routes)
