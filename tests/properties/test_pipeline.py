"""Incremental equals from scratch, byte for byte, after any sequence of changes."""

import copy
from collections.abc import Iterator
from typing import Any

from envoy.config.route.v3 import route_components_pb2, route_pb2, scoped_route_pb2
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gloo_nomad.api import codec
from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.kinds import KINDS
from gloo_nomad.api.refs import Ref
from gloo_nomad.envoy.endpoints import translate_endpoints
from gloo_nomad.good_listeners import GoodListeners
from gloo_nomad.lastgood import LastGood
from gloo_nomad.messages import to_bytes
from gloo_nomad.pipeline import Pipeline, Translation
from gloo_nomad.resources import ROUTES, SCOPED_ROUTES, VIRTUAL_HOST, Resource, XdsSnapshot
from gloo_nomad.splitting import Splitting
from gloo_nomad.store.change import Change, Entry
from gloo_nomad.store.memo import Memo
from gloo_nomad.store.services import CONSUL_SERVICE, Instance, ServiceInstances
from gloo_nomad.store.store import Store
from tests.mesh_identity import identity_change
from tests.pipeline.certificates import make_pair

NAMES = ("a", "b", "c")
NAMESPACE = "gloo-system"
SETTINGS = settings_pb2.Settings()
SPLIT, SCOPED = (
    json_format.ParseDict(
        {"extensions": {"configs": {"gloo-nomad": {"virtualHostDiscovery": how}}}}, settings_pb2.Settings()
    )
    for how in ("always", "scoped")
)
FORMS = st.sampled_from([SETTINGS, SPLIT, SCOPED])
"""With virtual hosts in their RouteConfiguration, as resources of their own, and a RouteConfiguration for each host."""


def metadata(name: str) -> dict[str, Any]:
    """Metadata with a label that selectors of these tests pick."""
    return {"name": name, "namespace": NAMESPACE, "labels": {"team": name}}


def ref(name: str) -> dict[str, str]:
    """A reference to one of the objects."""
    return {"name": name, "namespace": NAMESPACE}


names = st.sampled_from(NAMES)
prefixes = st.sampled_from(["/", "/x", "/x/y", "//bad", "/z"])
destinations = st.one_of(
    names.map(lambda name: {"single": {"upstream": ref(name)}}),
    names.map(lambda name: {"single": {"upstream": ref(f"missing-{name}")}}),
    names.map(lambda name: {"single": {"consul": {"serviceName": f"service-{name}", "tags": ["v1"]}}}),
    names.map(lambda name: {"upstreamGroup": ref(name)}),
    st.lists(st.tuples(names, st.integers(0, 3)), max_size=2).map(
        lambda pairs: {
            "multi": {
                "destinations": [{"weight": weight, "destination": {"upstream": ref(name)}} for name, weight in pairs]
            }
        }
    ),
)
actions = st.one_of(
    destinations.map(lambda destination: {"routeAction": destination}),
    st.just({"redirectAction": {"hostRedirect": "example.com", "responseCode": "FOUND"}}),
    st.sampled_from([200, 404, 999]).map(lambda status: {"directResponseAction": {"status": status, "body": "hello"}}),
    names.map(lambda name: {"delegateAction": {"ref": ref(name)}}),
    names.map(lambda name: {"delegateAction": {"selector": {"labels": {"team": name}}}}),
)
options = st.sampled_from(
    [
        {},
        {"timeout": "2s"},
        {"prefixRewrite": "/new"},
        {"retries": {"retryOn": "5xx", "numRetries": 2}},
        {"headerManipulation": {"requestHeadersToAdd": [{"header": {"key": "x-a", "value": "b"}}]}},
        {"cors": {"allowOrigin": ["https://example.com"]}},
    ]
)
routes = st.builds(
    lambda prefix, action, more: {"matchers": [{"prefix": prefix}], **action, **({"options": more} if more else {})},
    prefixes,
    actions,
    options,
)
domains = st.lists(st.sampled_from(["a.com", "a.com:81", "b.com", "*.c.com", "*"]), max_size=2)
virtual_services = st.builds(
    lambda name, hosts, found, secret: (
        "VirtualService",
        name,
        {
            "metadata": metadata(name),
            "virtualHost": {"domains": hosts, "routes": found},
            **({"sslConfig": {"secretRef": ref(secret)}} if secret else {}),
        },
    ),
    names,
    domains,
    st.lists(routes, max_size=3),
    st.sampled_from(["", "", "a", "missing"]),
)
route_tables = st.builds(
    lambda name, found, weight: (
        "RouteTable",
        name,
        {"metadata": metadata(name), "routes": found, "weight": weight},
    ),
    names,
    st.lists(routes, max_size=2),
    st.integers(0, 2),
)
upstreams = st.builds(
    lambda name, spec: ("Upstream", name, {"metadata": metadata(name), **spec}),
    names,
    st.sampled_from(
        [
            {"static": {"hosts": [{"addr": "127.0.0.1", "port": 80}]}},
            {"static": {"hosts": [{"addr": "example.com", "port": 443}]}},
            {"consul": {"serviceName": "service-a"}},
            {"consul": {"serviceName": "service-a", "connectEnabled": True}},
            {"static": {"hosts": [{"addr": "", "port": 99999}]}},
        ]
    ),
)
groups = st.builds(
    lambda name, target: (
        "UpstreamGroup",
        name,
        {"metadata": metadata(name), "destinations": [{"weight": 1, "destination": {"upstream": ref(target)}}]},
    ),
    names,
    names,
)
tcp_destinations: st.SearchStrategy[dict[str, Any]] = st.one_of(
    destinations, st.just({"forwardSniClusterName": {}}), st.just({})
)
tcp_ssl = st.sampled_from([{}, {"sslConfig": {"sniDomains": ["a.com"]}}, {"sslConfig": {"secretRef": ref("missing")}}])
tcp_hosts = st.builds(lambda destination, ssl: {"destination": destination, **ssl}, tcp_destinations, tcp_ssl)
tcp_options = st.sampled_from([{}, {"tcpProxySettings": {"maxConnectAttempts": 0}}, {"connectionLimit": {}}])
tcp_gateways = st.builds(
    lambda hosts, options: {"tcpHosts": hosts, "options": options}, st.lists(tcp_hosts, max_size=3), tcp_options
)
matchers = st.sampled_from(
    [
        {},
        {"sslConfig": {"sniDomains": ["a.com", "b.com"]}},
        {"sourcePrefixRanges": [{"addressPrefix": "10.0.0.0", "prefixLen": 8}]},
        {"sourcePrefixRanges": [{"addressPrefix": "10.0.0.0", "prefixLen": 99}]},
    ]
)
inner_gateways = st.one_of(st.just({"httpGateway": {}}), tcp_gateways.map(lambda tcp: {"tcpGateway": tcp}))
matched = st.builds(lambda matcher, inner: {"matcher": matcher, **inner}, matchers, inner_gateways)
delegated: dict[str, Any] = {"delegatedTcpGateways": {"selector": {}}, "delegatedHttpGateways": {"selector": {}}}
gateway_types = st.one_of(
    st.just({"httpGateway": {}}),
    st.just({"httpGateway": {}}),
    tcp_gateways.map(lambda tcp: {"tcpGateway": tcp}),
    st.lists(matched, max_size=3).map(lambda found: {"hybridGateway": {"matchedGateways": found}}),
    st.just({"hybridGateway": delegated}),
)
gateways = st.builds(
    lambda name, address, port, ssl, kind: (
        "Gateway",
        name,
        {"metadata": metadata(name), "bindAddress": address, "bindPort": port, "ssl": ssl, **kind},
    ),
    names,
    st.sampled_from(["::", "127.0.0.1", "no-address"]),
    st.sampled_from([8080, 8443]),
    st.booleans(),
    gateway_types,
)
matchables = st.builds(
    lambda name, matcher, inner: (
        "MatchableTcpGateway" if "tcpGateway" in inner else "MatchableHttpGateway",
        name,
        {"metadata": metadata(name), "matcher": matcher, **inner},
    ),
    names,
    matchers,
    inner_gateways,
)
puts = st.one_of(virtual_services, virtual_services, route_tables, upstreams, groups, gateways, matchables)
KINDS_OF_STEPS = (
    "VirtualService",
    "RouteTable",
    "Upstream",
    "UpstreamGroup",
    "Gateway",
    "MatchableHttpGateway",
    "MatchableTcpGateway",
)
deletes = st.tuples(st.just("delete"), st.sampled_from(KINDS_OF_STEPS), names)
services = st.tuples(st.just("service"), names, st.integers(0, 2))
identities = st.tuples(st.just("identity"), st.integers(1, 2))
steps = st.lists(st.one_of(puts, deletes, services, identities), min_size=1, max_size=12)


def to_change(step: tuple[Any, ...], created: int) -> Change:
    """One step as the change that a source would send."""
    if step[0] == "delete":
        return Change("test", step[1], deletes=frozenset({Ref(NAMESPACE, step[2])}))
    if step[0] == "service":
        found = tuple(Instance("127.0.0.1", 9000 + number, f"i{number}") for number in range(step[2]))
        return Change("services", CONSUL_SERVICE, {Ref("", f"service-{step[1]}"): Entry(ServiceInstances(found))})
    if step[0] == "identity":
        return identity_change(make_pair(f"gateway-{step[1]}"), make_pair("root"))
    kind, name, document = step
    decoded = codec.decode(KINDS[kind], codec.to_json(document).encode(), Ref(NAMESPACE, name))
    entry = Entry(decoded.message, decoded.rejection, decoded.status, created, created)
    return Change("test", kind, {Ref(NAMESPACE, name): entry})


def flat(translation: Translation, store: Store, memo: Memo) -> dict[tuple[str, str, str], tuple[str, bytes]]:
    """Every resource's version and bytes, endpoints included, for both protocols."""
    found = {
        (role + protocol, type_url, name): (resource.version, resource.body)
        for role, snapshot in translation.xds.items()
        for protocol, types in (("", snapshot.types), (" delta", snapshot.delta))
        for type_url, resources in types.items()
        for name, resource in resources.items()
    }
    endpoints = translate_endpoints(translation.clusters, store.snapshot, memo)
    found.update({("", "endpoints", name): (resource.version, resource.body) for name, resource in endpoints.items()})
    return found


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps, st.lists(FORMS, min_size=1, max_size=3))
def test_incremental_equals_from_scratch(sequence: list[tuple[Any, ...]], forms: list[settings_pb2.Settings]) -> None:
    """A pipeline that lived through all changes serves what a fresh one makes of the result."""
    store, pipeline, memo = Store(), Pipeline(), Memo()
    for number, step in enumerate(sequence, 1):
        store.apply(to_change(step, number))
        form = forms[number % len(forms)]
        hosts, listeners = copy.copy(pipeline.last_good.hosts), copy.copy(pipeline.good_listeners.listeners)
        incremental = pipeline.translate(store.snapshot, form)
        fresh = Pipeline(
            last_good=LastGood(hosts),
            good_listeners=GoodListeners(listeners),
            splitting=Splitting(scoped=set(pipeline.splitting.scoped)),
        )
        scratch = fresh.translate(store.snapshot, form)

        assert flat(incremental, store, memo) == flat(scratch, store, Memo())
        assert set(incremental.problems) == set(scratch.problems)
        assert incremental.services == scratch.services
        assert all(joined(snapshot) and found(snapshot) for snapshot in incremental.xds.values())


def joined(snapshot: XdsSnapshot) -> bool:
    """Whether virtual hosts as resources of their own are those of the whole, apart from their longer names."""
    hosts = [
        route_components_pb2.VirtualHost.FromString(found.body)
        for found in snapshot.for_delta().of(VIRTUAL_HOST).values()
    ]
    whole = [
        (config.name, host)
        for name in snapshot.for_delta().of(ROUTES)
        for config in [route_pb2.RouteConfiguration.FromString(snapshot.of(ROUTES)[name].body)]
        if route_pb2.RouteConfiguration.FromString(snapshot.for_delta().of(ROUTES)[name].body).HasField("vhds")
        for host in config.virtual_hosts
    ]
    for routes, host in whole:
        host.name = f"{routes}/{host.name}"
    return [to_bytes(host) for host in hosts] == [to_bytes(host) for _, host in whole]


def found(snapshot: XdsSnapshot) -> bool:
    """Whether each scope leads to the virtual hosts of its host name, and no RouteConfiguration is without a scope."""
    configs = [route_pb2.RouteConfiguration.FromString(each.body) for each in snapshot.of(ROUTES).values()]
    scopes = [
        scoped_route_pb2.ScopedRouteConfiguration.FromString(each.body) for each in snapshot.of(SCOPED_ROUTES).values()
    ]
    hosts = {scope.route_configuration_name: scope.key.fragments[1].string_key for scope in scopes}
    scoped = [config for config in configs if "/" in config.name]
    return {config.name for config in scoped} == hosts.keys() and all(
        config.virtual_hosts
        and all(
            hosts[config.name] in {domain.partition(":")[0] for domain in host.domains} for host in config.virtual_hosts
        )
        for config in scoped
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps, FORMS)
def test_nothing_changed_gives_the_same_resources(sequence: list[tuple[Any, ...]], form: settings_pb2.Settings) -> None:
    """Translating the same snapshot twice gives the identical resource objects."""
    store, pipeline = Store(), Pipeline()
    for number, step in enumerate(sequence, 1):
        store.apply(to_change(step, number))
    pipeline.translate(store.snapshot, form)
    first = pipeline.translate(store.snapshot, form)
    second = pipeline.translate(store.snapshot, form)

    assert second.xds.keys() == first.xds.keys()
    for role, snapshot in second.xds.items():
        before, after = list(each_resource(first.xds[role])), list(each_resource(snapshot))
        assert all(new is old for new, old in zip(after, before, strict=True))


def each_resource(snapshot: XdsSnapshot) -> Iterator[Resource]:
    """Those of both protocols, in order."""
    for resources in (*snapshot.types.values(), *snapshot.delta.values()):
        yield from resources.values()
