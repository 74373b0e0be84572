"""Gateways to listeners and proxies."""

import pytest

from gloo_nomad.api.refs import ObjectRef, Ref
from tests.pipeline.gateway_world import GATEWAY, SSL_GATEWAY, World, service, to_document, translate

VS = service()


def gateway(name: str, address: str, port: int, more: str = "") -> str:
    """A plain HTTP gateway."""
    return (
        f"metadata: {{name: {name}, namespace: gloo-system}}\nbindAddress: '{address}'\nbindPort: {port}\n"
        f"httpGateway: {{}}\n{more}\n"
    )


def test_a_gateway_becomes_a_listener_of_the_default_proxy() -> None:
    """Address, port, options and sources are taken over, under the names that users know."""
    text = GATEWAY.replace("httpGateway: {}", "httpGateway: {options: {gzip: {}}}") + (
        "options: {perConnectionBufferLimitBytes: 7}\nuseProxyProto: true\n"
        "routeOptions: {maxDirectResponseBodySizeBytes: 9}\n"
    )
    outcome = translate({"Gateway": [text], "VirtualService": [VS]})
    (proxy,) = outcome.proxies
    assert proxy.ref == Ref("gloo-system", "gateway-proxy")
    assert proxy.role == "gloo-system~gateway-proxy"
    (listener,) = proxy.listeners
    assert listener.source == ObjectRef("Gateway", "gloo-system", "gateway-proxy")
    assert (listener.name, listener.bind_address, listener.bind_port) == ("listener-::-8080", "::", 8080)
    assert to_document(listener.options) == {"perConnectionBufferLimitBytes": 7}
    assert to_document(listener.route_options) == {"maxDirectResponseBodySizeBytes": 9}
    assert listener.use_proxy_proto
    (group,) = listener.http
    assert group.route_config == "listener-::-8080-routes"
    assert to_document(group.options) == {"gzip": {}}
    assert (group.path, group.ssl, group.matcher, group.source) == ("httpGateway", (), None, listener.source)
    (host,) = group.virtual_hosts
    (source,) = host.message.metadata_static.sources
    assert (source.resource_kind, source.resource_ref.name) == ("*v1.VirtualService", "vs")


def test_gateways_are_read_from_the_write_namespace() -> None:
    """Gateways elsewhere count only if the settings say so, and proxies are in the write namespace."""
    elsewhere = gateway("g", "::", 81).replace("gloo-system", "other")
    objects = {"Gateway": [elsewhere, GATEWAY], "VirtualService": [VS]}
    assert [listener.name for listener in translate(objects).proxies[0].listeners] == ["listener-::-8080"]
    everywhere = translate(objects, "gateway: {readGatewaysFromAllNamespaces: true}")
    assert [listener.name for listener in everywhere.proxies[0].listeners] == ["listener-::-8080", "listener-::-81"]
    moved = translate(objects, "discoveryNamespace: other")
    assert [(proxy.role, proxy.listeners[0].name) for proxy in moved.proxies] == [
        ("other~gateway-proxy", "listener-::-81")
    ]


def test_a_gateway_may_be_in_several_proxies() -> None:
    """There is one proxy for each name that some gateway gives; a name given twice counts once."""
    outcome = translate(
        {
            "Gateway": [
                GATEWAY,
                gateway("two", "::", 81, "proxyNames: [b, a, b]"),
                gateway("three", "::", 82, "proxyNames: [a]"),
            ],
            "VirtualService": [VS],
        }
    )
    assert {proxy.ref.name: [listener.name for listener in proxy.listeners] for proxy in outcome.proxies} == {
        "a": ["listener-::-81", "listener-::-82"],
        "b": ["listener-::-81"],
        "gateway-proxy": ["listener-::-8080"],
    }


def test_listeners_and_virtual_hosts_are_sorted_by_name() -> None:
    """The order of what Envoy is sent does not depend on the order of objects."""
    services = [service("domains: [z.com]", "z"), service("domains: [a.com]", "a"), service("domains: [m.com]", "m")]
    outcome = translate({"Gateway": [gateway("a", "::", 9), gateway("b", "::", 10)], "VirtualService": services})
    assert [listener.name for listener in outcome.proxies[0].listeners] == ["listener-::-10", "listener-::-9"]
    assert list(outcome.hosts("listener-::-9")) == ["gloo-system.a", "gloo-system.m", "gloo-system.z"]


def test_gateway_without_a_type_is_an_error() -> None:
    """A gateway must say what it is; the others of its proxy work."""
    text = "metadata: {name: g, namespace: gloo-system}\nbindPort: 81\nbindAddress: '::'"
    outcome = translate({"Gateway": [GATEWAY, text], "VirtualService": [VS]})
    assert [listener.name for listener in outcome.proxies[0].listeners] == ["listener-::-8080"]
    (said,) = outcome.said()
    assert said.startswith("error Gateway gloo-system.g : invalid gateway: gateway must contain gatewayType")


@pytest.mark.parametrize(
    "services", [[], [service("domains: [s.com]", "s", "sslConfig: {secretRef: {name: s, namespace: n}}")]]
)
def test_gateway_that_matches_nothing_has_no_listener(services: list[str]) -> None:
    """Without a virtual service the port stays closed, unless translateEmptyGateways is set: then it answers 404."""
    objects = {"Gateway": [GATEWAY], "VirtualService": services}
    assert translate(objects).proxies[0].listeners == ()
    outcome = translate(objects, "gateway: {translateEmptyGateways: true}")
    assert outcome.hosts() == {}
    assert outcome.group().route_config == "listener-::-8080-routes"
    assert outcome.said() == []


def test_empty_gateway_never_speaks_plain_text_in_place_of_tls() -> None:
    """An ``ssl`` gateway without a virtual service has no certificate: its port stays closed, whatever is set."""
    outcome = translate({"Gateway": [SSL_GATEWAY]}, "gateway: {translateEmptyGateways: true}")
    assert outcome.proxies[0].listeners == ()


def test_listener_goes_with_its_last_virtual_service() -> None:
    """A gateway that loses its last virtual service loses its listener."""
    world = World()
    world.put("Gateway", GATEWAY)
    world.put("VirtualService", VS)
    assert len(world.translate().proxies[0].listeners) == 1
    world.delete("VirtualService", "vs")
    assert world.translate().proxies[0].listeners == ()


def test_rejected_virtual_service_keeps_its_listener_open() -> None:
    """With nothing but a wrong virtual service the group is empty but there: a last good version has a place."""
    outcome = translate({"Gateway": [GATEWAY], "VirtualService": [service("domains: ['']")]})
    assert outcome.hosts() == {}
    assert [problem.severity.name for problem in outcome.problems] == ["ERROR"]


CLASHES = [
    ("the same address", "::", "::", True),
    ("a wildcard and an address", "0.0.0.0", "127.0.0.1", True),
    ("all addresses and one of IPv4", "::", "127.0.0.1", True),
    ("all addresses and all of IPv4", "::", "0.0.0.0", True),
    ("all addresses and one of IPv6", "::", "::1", True),
    ("the same address in other words", "::1", "0:0:0:0:0:0:0:1", True),
    ("all of IPv4 and one of IPv6", "0.0.0.0", "::1", False),
    ("two addresses", "127.0.0.1", "127.0.0.2", False),
    ("names", "a", "b", False),
]


@pytest.mark.parametrize(("one", "two", "clash"), [case[1:] for case in CLASHES], ids=[case[0] for case in CLASHES])
def test_gateways_of_one_proxy_on_one_address(one: str, two: str, clash: bool) -> None:
    """Two gateways on one port clash if their addresses overlap; the older one is served, both are told."""
    outcome = translate({"Gateway": [gateway("z-old", one, 80), gateway("a-new", two, 80)], "VirtualService": [VS]})
    served = [listener.source.name for listener in outcome.proxies[0].listeners]
    assert sorted(served) == (["z-old"] if clash else ["a-new", "z-old"])
    told = [problem.ref.name for problem in outcome.problems]
    assert told == (["a-new", "z-old"] if clash else [])
    for problem in outcome.problems:
        assert problem.path == "bindPort"
        assert "is not unique in a proxy. gateways: gloo-system.a-new, gloo-system.z-old; " in problem.message


def test_gateways_of_different_proxies_may_share_an_address() -> None:
    """Each proxy is another Envoy."""
    objects = {"Gateway": [GATEWAY, gateway("g", "::", 8080, "proxyNames: [other]")], "VirtualService": [VS]}
    outcome = translate(objects)
    assert outcome.said() == []
    assert [len(proxy.listeners) for proxy in outcome.proxies] == [1, 1]


def test_nothing_gives_nothing() -> None:
    """Without gateways there are no proxies, whatever else there is."""
    assert translate({"VirtualService": [VS]}).proxies == ()
    assert translate({}).problems == ()


def test_what_did_not_change_is_the_same_object() -> None:
    """A change of one virtual service leaves all others, and the listeners that do not have it, untouched."""
    world = World()
    world.put("Gateway", GATEWAY, SSL_GATEWAY, gateway("other", "::", 81, "proxyNames: [other]"))
    secure = service("domains: [s.com]", "s", "sslConfig: {secretRef: {name: s, namespace: n}}")
    world.put("VirtualService", service("domains: [a.com]", "a"), service("domains: [b.com]", "b"), secure)
    before = world.translate()
    again = world.translate()
    assert again.proxies is before.proxies
    world.put("VirtualService", secure.replace("s.com", "t.com"))
    after = world.translate()
    assert after.listener() is before.listener()
    assert after.listener("listener-::-8443") is not before.listener("listener-::-8443")
    assert after.proxies[1] is before.proxies[1]
    assert after.group("listener-::-8443").ssl is before.group("listener-::-8443").ssl
    world.put("VirtualService", service("domains: [a.com]\noptions: {retries: {}}", "a"))
    last = world.translate()
    assert last.host("gloo-system.b") is after.host("gloo-system.b")
    assert last.host("gloo-system.a") is not after.host("gloo-system.a")
    assert last.listener("listener-::-8443") is after.listener("listener-::-8443")


def test_edited_gateway_takes_effect() -> None:
    """An edit of a gateway's own options reaches its listener and group, whose virtual hosts stay the same objects."""
    world = World()
    world.put("Gateway", GATEWAY)
    world.put("VirtualService", VS)
    before = world.translate()
    world.put("Gateway", GATEWAY.replace("httpGateway: {}", "httpGateway: {options: {gzip: {}}}\nuseProxyProto: true"))
    after = world.translate()
    assert after.listener().use_proxy_proto
    assert to_document(after.group().options) == {"gzip": {}}
    assert after.host() is before.host()
