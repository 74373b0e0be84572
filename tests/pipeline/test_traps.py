"""Semantics that are easily got wrong, as users write them: what `docs/traps.md` names and nothing else tests."""

import pytest
from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2

from gloo_nomad.demo.certificates import Authority
from gloo_nomad.resources import CLUSTER, LISTENER, ROUTES
from gloo_nomad.store.services import Instance, parse_place
from tests.pipeline.envoy_world import (
    GATEWAY,
    SSL_GATEWAY,
    TO_UP,
    World,
    make_world,
    managers,
    upstream,
    virtual_service,
)

DIRECT = "{matchers: [{prefix: /}], directResponseAction: {status: 200, body: %s}}"
WRONG = "{matchers: [{prefix: /}], directResponseAction: {status: 9}}"
AUTHORISATION = "envoy.filters.http.ext_authz"
ISOLATED = {"gateway": {"isolateVirtualHostsBySslConfig": True}}


def secret(name: str, host: str) -> str:
    """A Secret with a certificate for a host."""
    document = Authority().issue(host).build_secret()
    lines = "".join(
        f"  {key}: |\n" + "".join(f"    {line}\n" for line in str(document["tls"][key]).splitlines())
        for key in ("certChain", "privateKey")
    )
    return f"kind: Secret\nmetadata: {{name: {name}, namespace: gloo-system}}\ntls:\n{lines}"


def secure(name: str, route: str) -> str:
    """A virtual service with its own certificate and server name."""
    tls = f"sslConfig: {{secretRef: {{name: {name}, namespace: gloo-system}}, sniDomains: [{name}.com]}}"
    return virtual_service(route, name=name, domains=f"[{name}.com]", more=tls)


def bodies(world: World) -> dict[str, list[str]]:
    """What direct responses say, by virtual host, in all RouteConfigurations."""
    return {
        host.name: [route.direct_response.body.inline_string for route in host.routes]
        for name in world.names(ROUTES)
        for host in world.route_config(name).virtual_hosts
    }


@pytest.mark.parametrize("settings", [{}, ISOLATED], ids=["together", "isolated"])
def test_last_good_versions_are_kept_with_and_without_isolation(settings: dict[str, object]) -> None:
    """A wrong edit of one virtual service keeps its old version, also where each certificate has its own routes."""
    world = make_world(
        SSL_GATEWAY,
        secret("a", "a.com"),
        secret("b", "b.com"),
        secure("a", DIRECT % "old"),
        secure("b", DIRECT % "b"),
        settings=settings,
    )
    assert len(world.names(ROUTES)) == (2 if settings else 1)
    world.put(secure("a", WRONG))

    assert bodies(world) == {"gloo-system_a": ["old"], "gloo-system_b": ["b"]}
    assert world.said("VirtualService", "b") == []


def test_a_server_name_stays_with_the_certificate_that_had_it_first() -> None:
    """An older virtual service that asks for another's server name gets it neither now nor after a restart."""
    secrets = (secret("a", "a.com"), secret("b", "b.com"))
    world = make_world(SSL_GATEWAY, *secrets, secure("a", DIRECT % "a"), secure("b", DIRECT % "b"))
    before = _chains(world)
    assert list(before) == [("a.com",), ("b.com",)]
    world.put(secure("a", DIRECT % "thief").replace("[a.com]", "[a.com, B.com]"))

    assert _chains(world) == before
    assert _chains(World(store=world.store).translate()) == before
    assert "had b.com" in " ".join(world.said("VirtualService", "a"))
    assert "TLS" not in " ".join(world.said("VirtualService", "b"))

    world.remove("VirtualService", "b")
    assert list(_chains(world)) == [("a.com", "b.com")]


def _chains(world: World) -> dict[tuple[str, ...], bytes]:
    """Filter chains' TLS by server names."""
    return {
        tuple(chain.filter_chain_match.server_names): chain.transport_socket.typed_config.value
        for chain in world.listener("listener-::-8443").filter_chains
    }


def test_a_table_alone_in_its_weight_keeps_its_order() -> None:
    """Sorting is for routes of several tables: the order that a user wrote is not touched within one."""

    def table(name: str, *prefixes: str) -> str:
        routes = "".join(
            f"\n- {{matchers: [{{prefix: {prefix}}}], directResponseAction: {{status: 200}}}}" for prefix in prefixes
        )
        return (
            f"kind: RouteTable\nmetadata: {{name: {name}, namespace: gloo-system, labels: {{a: b}}}}\nroutes:{routes}"
        )

    selecting = "{matchers: [{prefix: /}], delegateAction: {selector: {labels: {a: b}}}}"
    world = make_world(GATEWAY, virtual_service(selecting), table("one", "/a", "/a/b"))
    assert [route.match.prefix for route in world.routes()] == ["/a", "/a/b"]
    world.put(table("two", "/a/c", "/b"))
    assert [route.match.prefix for route in world.routes()] == ["/b", "/a/c", "/a/b", "/a"]


def test_what_is_present_counts_as_set() -> None:
    """An explicit zero, false or empty message of a child is not filled by its parent; one of a choice takes it all."""
    parent = (
        "{matchers: [{prefix: /}], options: {timeout: 9s, retries: {retryOn: '5xx', numRetries: 4}, "
        "autoHostRewrite: true}, delegateAction: {ref: {name: rt, namespace: gloo-system}}}"
    )
    child = TO_UP.replace("}]", "}], options: {timeout: 0s, retries: {}, hostRewrite: a.b}", 1)
    table = f"kind: RouteTable\nmetadata: {{name: rt, namespace: gloo-system}}\nroutes: [{child}]"
    (route,) = make_world(GATEWAY, upstream(), virtual_service(parent), table).routes()

    assert route.route.timeout.ToMilliseconds() == 0
    assert route.route.retry_policy.retry_on == ""
    assert route.route.host_rewrite_literal == "a.b"


def test_matchable_gateways_are_selected_in_all_namespaces() -> None:
    """Unlike route tables: no namespaces in a selector of gateways means all of them."""
    hybrid = GATEWAY.replace("httpGateway: {}", "hybridGateway: {delegatedHttpGateways: {selector: {labels: {a: b}}}}")
    elsewhere = (
        "kind: MatchableHttpGateway\nmetadata: {name: m, namespace: other, labels: {a: b}}\n"
        "matcher: {sourcePrefixRanges: [{addressPrefix: 10.0.0.0, prefixLen: 8}]}\nhttpGateway: {}"
    )
    world = make_world(hybrid, elsewhere, virtual_service(DIRECT % "x"))

    assert world.names(LISTENER) == ["listener-::-8080"]
    assert world.problems() == []


def test_only_what_routes_name_has_a_cluster() -> None:
    """A stored upstream of a service and a route to the service by name are two clusters; neither appears by itself."""
    stored = upstream("web", "consul: {serviceName: web}")
    world = make_world(GATEWAY, stored, virtual_service(TO_UP.replace("name: up", "name: web")))
    assert world.names(CLUSTER) == ["web_gloo-system"]

    world.put(virtual_service("{routeAction: {single: {consul: {serviceName: web}}}}"))
    assert world.names(CLUSTER) == ["consul-svc:web_gloo-system", "web_gloo-system"]


def test_each_upstream_is_read_as_it_asks() -> None:
    """Two upstreams of one service with other words on consistency and caches are two questions to Consul."""
    strict = upstream("strict", "consul: {serviceName: web, consistencyMode: ConsistentMode}")
    cached = upstream("cached", "consul: {serviceName: web, queryOptions: {useCache: true}}")
    routes = (TO_UP.replace("name: up", f"name: {name}") for name in ("strict", "cached"))
    world = make_world(GATEWAY, strict, cached, virtual_service(*routes))

    readings = {parse_place(ref.namespace).reading for _, ref in world.translation.services}
    assert readings == {"consistent", "cached"}


def test_an_upstream_that_changes_keeps_the_name_of_its_endpoints() -> None:
    """No hash of the upstream is in the name: endpoints stay while the upstream is edited."""
    world = make_world(
        GATEWAY,
        upstream("web", "consul: {serviceName: web}"),
        virtual_service(TO_UP.replace("name: up", "name: web")),
    )
    world.put_instances("web", Instance("10.0.0.1", 80, "one"))
    before = world.endpoints("web_gloo-system")
    world.put(upstream("web", "consul: {serviceName: web}\nconnectionConfig: {connectTimeout: 1s}"))

    assert world.endpoints("web_gloo-system") == before
    assert world.cluster("web_gloo-system").eds_cluster_config.service_name in {"", "web_gloo-system"}


@pytest.mark.parametrize("remove", [None, True, False])
def test_stock_envoy_is_never_sent_filters_of_its_fork(*, remove: bool | None) -> None:
    """Whatever `removeUnusedFilters` says, no filter of the reference's own Envoy is in a listener."""
    settings = {} if remove is None else {"gloo": {"removeUnusedFilters": remove}}
    world = make_world(GATEWAY, upstream(), virtual_service(TO_UP), settings=settings)
    (manager,) = managers(world.listener())

    names = [one.name for one in manager.http_filters]
    assert [name for name in names if name.startswith("io.solo")] == []
    assert ("envoy.filters.http.fault" in names) is (remove is False)


def test_authorisation_is_opt_in() -> None:
    """With a server in the settings, only virtual hosts that ask for it are checked."""
    asking = "\n  options: {extauth: {customAuth: {contextExtensions: {a: b}}}}"
    world = make_world(
        GATEWAY,
        upstream(),
        upstream("auth"),
        virtual_service(TO_UP),
        virtual_service(TO_UP, name="asking", domains="[a.com]").replace("virtualHost:", f"virtualHost:{asking}"),
        settings={"extauth": {"extauthzServerRef": {"name": "auth", "namespace": "gloo-system"}}},
    )
    routes = world.route_config()
    everywhere = ext_authz_pb2.ExtAuthzPerRoute()
    assert routes.typed_per_filter_config[AUTHORISATION].Unpack(everywhere)
    checked = {host.name: list(host.typed_per_filter_config) for host in routes.virtual_hosts}

    assert everywhere.disabled
    assert checked == {"gloo-system_asking": [AUTHORISATION], "gloo-system_vs": []}


def test_a_group_without_a_namespace_is_not_guessed() -> None:
    """Upstreams default to the namespace of the object that names them, UpstreamGroups do not."""
    route = "{routeAction: {upstreamGroup: {name: g}}}"
    group = (
        "kind: UpstreamGroup\nmetadata: {name: g, namespace: gloo-system}\n"
        "destinations: [{weight: 1, destination: {upstream: {name: up}}}]"
    )
    world = make_world(GATEWAY, upstream(), group, virtual_service(route))

    (said,) = world.said("VirtualService", "vs")
    assert "does not exist" in said
    assert world.routes()[0].route.cluster == "g"


def test_a_gateway_controller_that_is_switched_off() -> None:
    """With `enableGatewayController: false` Gateways lead to nothing: see test_stored_proxies."""
    settings = {"gateway": {"enableGatewayController": False}}
    world = make_world(GATEWAY, virtual_service(DIRECT % "x"), settings=settings)

    assert world.names(LISTENER) == []
