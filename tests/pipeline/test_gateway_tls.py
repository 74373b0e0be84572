"""TLS of virtual services behind gateways with ssl."""

from typing import Any

import pytest

from tests.pipeline.gateway_world import GATEWAY, SSL_GATEWAY, Outcome, World, service, to_document, translate

LISTENER = "listener-::-8443"


def secure(name: str, ssl: str, domains: str = "") -> str:
    """A virtual service with this sslConfig."""
    return service(f"domains: {domains or f'[{name}.com]'}", name, f"sslConfig: {ssl}")


def tls(secret: str, names: str = "", more: str = "") -> str:
    """An sslConfig with a secret and server names."""
    sni = f", sniDomains: [{names}]" if names else ""
    return f"{{secretRef: {{name: {secret}, namespace: n}}{sni}{', ' + more if more else ''}}}"


def behind(*services: str, settings: str = "{}", gateway: str = SSL_GATEWAY) -> Outcome:
    """Virtual services behind a gateway with ssl."""
    return translate({"Gateway": [gateway], "VirtualService": list(services)}, settings)


def chains(outcome: Outcome) -> list[tuple[str, list[str], list[str]]]:
    """Each chain as its secret, server names and virtual services."""
    return [
        (config.secret_ref.name, list(config.sni_domains), [source.name for source in sources])
        for group in outcome.listener(LISTENER).http
        for config, sources in group.ssl
    ]


MERGES: list[tuple[str, list[str], list[Any]]] = [
    ("each its own", [tls("s1", "a.com"), tls("s2", "b.com")], [("s1", ["a.com"], ["v0"]), ("s2", ["b.com"], ["v1"])]),
    (
        "equal ones share",
        [tls("s", "a.com"), tls("s", "b.com, c.com")],
        [("s", ["a.com", "b.com", "c.com"], ["v0", "v1"])],
    ),
    ("names once", [tls("s", "a.com, A.com"), tls("s", "a.com")], [("s", ["a.com"], ["v0", "v1"])]),
    ("any name if one has none", [tls("s", "a.com"), tls("s")], [("s", [], ["v0", "v1"])]),
    (
        "other parameters, other chain",
        [tls("s", "a.com"), tls("s", "b.com", "oneWayTls: true")],
        [("s", ["a.com"], ["v0"]), ("s", ["b.com"], ["v1"])],
    ),
    ("a star for any name", [tls("s", "a.com, '*'")], [("s", [], ["v0"])]),
    ("wildcards", [tls("s", "'*.a.com'")], [("s", ["*.a.com"], ["v0"])]),
]


@pytest.mark.parametrize(("configs", "expected"), [case[1:] for case in MERGES], ids=[case[0] for case in MERGES])
def test_configurations_that_differ_in_names_only_share_a_chain(configs: list[str], expected: list[Any]) -> None:
    """Server names of equal configurations are put together."""
    outcome = behind(*(secure(f"v{number}", config) for number, config in enumerate(configs)))
    assert chains(outcome) == expected
    assert outcome.said() == []


def test_every_virtual_host_is_on_every_chain() -> None:
    """Without isolation there is one group with all chains and all virtual hosts."""
    outcome = behind(secure("a", tls("s1", "a.com")), secure("b", tls("s2", "b.com")))
    assert outcome.hosts(LISTENER) == {"gloo-system.a": ["a.com"], "gloo-system.b": ["b.com"]}
    assert outcome.group(LISTENER).route_config == "listener-::-8443-routes"
    assert [host.ssl is not None for host in outcome.group(LISTENER).virtual_hosts] == [True, True]


ANNOTATED = SSL_GATEWAY.replace(
    "namespace: gloo-system", "namespace: gloo-system, annotations: {gateway.solo.io/isolate_vhost: 'true'}"
)
REFUSED = ANNOTATED.replace("'true'", "'false'")
ISOLATE = "gateway: {isolateVirtualHostsBySslConfig: true}"


@pytest.mark.parametrize(
    ("gateway", "settings", "isolated"),
    [(SSL_GATEWAY, "{}", False), (SSL_GATEWAY, ISOLATE, True), (ANNOTATED, "{}", True), (REFUSED, ISOLATE, False)],
)
def test_isolation_gives_each_chain_its_own_virtual_hosts(gateway: str, settings: str, isolated: bool) -> None:
    """The settings or, before them, the gateway's annotation isolate virtual hosts by their TLS configuration."""
    services = [
        secure("a", tls("s1", "a.com")),
        secure("b", tls("s2", "b.com")),
        secure("c", tls("s1", "c.com")),
        secure("d", tls("s3", "d.com"), "[a.com]"),
    ]
    outcome = behind(*services, settings=settings, gateway=gateway)
    groups = outcome.listener(LISTENER).http
    if not isolated:
        assert len(groups) == 1
        assert len(outcome.problems) == 3
        return
    assert outcome.said() == []
    assert [[host.source.name for host in group.virtual_hosts] for group in groups] == [["a", "c"], ["b"], ["d"]]
    assert [[list(config.sni_domains) for config, _ in group.ssl] for group in groups] == [
        [["a.com", "c.com"]],
        [["b.com"]],
        [["d.com"]],
    ]
    names = {group.route_config for group in groups}
    assert len(names) == 3
    assert all(name.startswith("listener-::-8443-routes-") for name in names)


def test_isolation_does_not_matter_without_ssl() -> None:
    """A plain gateway has one group, isolated or not."""
    outcome = translate({"Gateway": [GATEWAY], "VirtualService": [service()]}, ISOLATE)
    assert outcome.group().route_config == "listener-::-8080-routes"


@pytest.mark.parametrize(
    ("more", "settings", "expected"),
    [
        ("", "{}", None),
        ("", "gateway: {virtualServiceOptions: {oneWayTls: true}}", True),
        ("oneWayTls: false", "gateway: {virtualServiceOptions: {oneWayTls: true}}", False),
        ("oneWayTls: true", "gateway: {virtualServiceOptions: {oneWayTls: false}}", True),
    ],
)
def test_settings_give_the_default_of_one_way_tls(more: str, settings: str, expected: bool | None) -> None:
    """virtualServiceOptions.oneWayTls counts only where a virtual service says nothing."""
    outcome = behind(secure("a", tls("s", "a.com", more)), settings=settings)
    ((config, _),) = outcome.group(LISTENER).ssl
    assert to_document(config).get("oneWayTls") == expected
    assert outcome.host("gloo-system.a", LISTENER).ssl == config


def test_server_name_of_two_configurations_is_left_to_the_envoy_stage() -> None:
    """Which of them is served depends on their certificates, which are not known here."""
    outcome = behind(secure("z", tls("s1", "a.com, z.com")), secure("b", tls("s2", "a.com, b.com")))
    assert chains(outcome) == [("s2", ["a.com", "b.com"], ["b"]), ("s1", ["a.com", "z.com"], ["z"])]
    assert outcome.said() == []


@pytest.mark.parametrize("name", ["''", "'*a.com'", "'a.*.com'", "'*.'", "'a b'"])
def test_server_name_that_envoy_refuses_is_left_out(name: str) -> None:
    """A bad server name is an error; the chain is made of the others, and never becomes one for any name."""
    outcome = behind(
        secure("a", tls("s1", f"a.com, {name}")), secure("b", tls("s2", name)), secure("c", tls("s3", "c.com"))
    )
    assert chains(outcome) == [("s1", ["a.com"], ["a"]), ("s3", ["c.com"], ["c"])]
    told = [(problem.ref.name, problem.path) for problem in outcome.problems]
    assert told == [("a", "sslConfig.sniDomains[1]"), ("b", "sslConfig.sniDomains[0]")]


def test_without_any_chain_there_is_no_listener() -> None:
    """A gateway for TLS never falls back to plain text."""
    outcome = behind(secure("a", tls("s", "'*a.com'"), "['']"))
    assert outcome.proxies[0].listeners == ()


def test_rejected_virtual_service_keeps_its_chain() -> None:
    """The chain of a virtual service that is left out stays, so that its last good version can be reached."""
    outcome = behind(secure("a", tls("s", "a.com"), "['']"))
    assert chains(outcome) == [("s", ["a.com"], ["a"])]
    assert outcome.hosts(LISTENER) == {}


def test_routes_change_without_their_tls() -> None:
    """An edit of the routes of a virtual service leaves the TLS configurations the same objects."""
    world = World()
    world.put("Gateway", SSL_GATEWAY)
    world.put("VirtualService", secure("a", tls("s1", "a.com")), secure("b", tls("s2", "b.com")))
    before = world.translate().group(LISTENER)
    world.put("VirtualService", secure("a", tls("s1", "a.com"), "[a.com, new.com]"))
    after = world.translate().group(LISTENER)
    assert after is not before
    assert after.ssl is before.ssl
    world.put("VirtualService", secure("a", tls("s9", "a.com")))
    last = world.translate().group(LISTENER)
    assert [config is old for (config, _), (old, _) in zip(last.ssl, before.ssl, strict=True)] == [False, True]
