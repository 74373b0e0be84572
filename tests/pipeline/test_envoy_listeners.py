"""Listeners: addresses, filter chains, TLS, defaults for the edge, and how little an error costs."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2

from gloo_nomad.api.gen import http_listener_options_pb2, listener_options_pb2, proxy_pb2, ssl_pb2
from gloo_nomad.api.kinds import GATEWAY as GATEWAY_KIND
from gloo_nomad.api.kinds import VIRTUAL_SERVICE
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.envoy.translate import translate_proxy
from gloo_nomad.proxies import HttpGroup, Listener, Proxy
from gloo_nomad.resources import CLUSTER, LISTENER, ROUTES, SECRET
from gloo_nomad.store.memo import Memo
from tests.pipeline.certificates import make_pair, tls_secret
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

PAIR = make_pair("a.example.com")
SECURE = "listener-::-8443"


def ssl(config: str) -> str:
    """The sslConfig of a virtual service."""
    return f"sslConfig: {config}"


def secret_ref(name: str = "s", more: str = "") -> str:
    """An sslConfig with a secret."""
    return ssl(f"{{secretRef: {{name: {name}, namespace: gloo-system}}{more}}}")


def secure_world(*objects: str, **settings: Any) -> World:
    """A world with a TLS gateway, an upstream and a secret."""
    return make_world(SSL_GATEWAY, upstream(), tls_secret("s", PAIR), *objects, settings=settings)


def context_of(chain: Any) -> Any:
    """The TLS context of a filter chain."""
    context = tls_pb2.DownstreamTlsContext()
    assert chain.transport_socket.typed_config.Unpack(context)
    return context


def chains(world: World) -> list[Any]:
    """The filter chains of the TLS listener."""
    return list(world.listener(SECURE).filter_chains)


def test_plain_listener() -> None:
    """An address for both IP versions, one chain, bounded buffers, no listener filter."""
    listener = make_world(GATEWAY, upstream(), virtual_service(TO_UP)).listener()
    address = listener.address.socket_address

    assert (address.address, address.port_value, address.ipv4_compat) == ("::", 8080, True)
    assert listener.per_connection_buffer_limit_bytes.value == 32768
    assert len(listener.filter_chains) == 1
    assert not listener.listener_filters


def test_ipv4_listener() -> None:
    """A pure IPv4 address is not made compatible with itself."""
    world = make_world(GATEWAY.replace('"::"', "127.0.0.1"), upstream(), virtual_service(TO_UP))

    assert world.listener("listener-127.0.0.1-8080").address.socket_address.ipv4_compat is False


def test_defaults_for_the_edge() -> None:
    """The connection manager follows Envoy's best practices for the edge."""
    (manager,) = managers(make_world(GATEWAY, upstream(), virtual_service(TO_UP)).listener())

    assert (manager.stat_prefix, manager.codec_type) == ("http", manager.AUTO)
    assert manager.rds.route_config_name == "listener-::-8080-routes"
    assert manager.rds.config_source.HasField("ads")
    assert manager.normalize_path.value is True
    assert manager.merge_slashes is True
    assert manager.path_with_escaped_slashes_action == manager.UNESCAPE_AND_REDIRECT
    assert manager.use_remote_address.value is True
    assert manager.xff_num_trusted_hops == 0
    assert manager.common_http_protocol_options.headers_with_underscores_action == 1
    assert manager.stream_idle_timeout.seconds == 300
    assert manager.http2_protocol_options.max_concurrent_streams.value == 100
    assert [upgrade.upgrade_type for upgrade in manager.upgrade_configs] == ["websocket"]
    assert manager.http_filters[-1].name == "envoy.filters.http.router"


def test_filters_appear_with_their_use() -> None:
    """A filter is in the chain as soon as one route needs it, in the order of stages, the router last."""
    cors = (
        "{matchers: [{prefix: /}], routeAction: {single: {upstream: {name: up}}},"
        " options: {cors: {allowOrigin: ['https://a.com']}}}"
    )
    world = make_world(GATEWAY, upstream(), virtual_service(TO_UP))
    unused = [item.name for item in managers(world.listener())[0].http_filters]
    assert unused == ["envoy.filters.http.grpc_web", "envoy.filters.http.router"]

    world.put(virtual_service(cors))

    names = [item.name for item in managers(world.listener())[0].http_filters]
    assert names == ["envoy.filters.http.cors", *unused]


def test_proxy_protocol_comes_first() -> None:
    """UseProxyProto reads the PROXY header before TLS."""
    world = secure_world(virtual_service(TO_UP, more=secret_ref()), SSL_GATEWAY + "useProxyProto: true\n")

    assert [item.name for item in world.listener(SECURE).listener_filters] == [
        "envoy.filters.listener.proxy_protocol",
        "envoy.filters.listener.tls_inspector",
    ]


def test_tls_chain() -> None:
    """Certificate by SDS, h2 and HTTP/1.1, plain requests refused, server names in lower case."""
    world = secure_world(virtual_service(TO_UP, more=secret_ref(more=", sniDomains: [A.example.com, '*.b.com']")))
    (chain,) = chains(world)
    context = context_of(chain)
    (config,) = context.common_tls_context.tls_certificate_sds_secret_configs

    assert world.problems() == []
    assert list(chain.filter_chain_match.server_names) == ["a.example.com", "*.b.com"]
    assert (config.name, config.sds_config.HasField("ads")) == ("tls/gloo-system/s", True)
    assert list(context.common_tls_context.alpn_protocols) == ["h2", "http/1.1"]
    assert not context.HasField("require_client_certificate")
    assert world.names(SECRET) == ["tls/gloo-system/s"]
    host = world.route_config(SECURE + "-routes").virtual_hosts[0]
    assert host.require_tls == host.ALL


def test_client_certificates() -> None:
    """Root certificates ask for client certificates, unless oneWayTls."""
    secret = tls_secret("s", PAIR, authority=PAIR.certificate)
    both = secure_world(secret, virtual_service(TO_UP, more=secret_ref(more=", verifySubjectAltName: [c.com]")))
    one_way = secure_world(secret, virtual_service(TO_UP, more=secret_ref(more=", oneWayTls: true")))
    by_default = secure_world(
        secret, virtual_service(TO_UP, more=secret_ref()), gateway={"virtualServiceOptions": {"oneWayTls": True}}
    )

    context = context_of(chains(both)[0])
    combined = context.common_tls_context.combined_validation_context
    assert context.require_client_certificate.value is True
    assert combined.validation_context_sds_secret_config.name == "ca/gloo-system/s"
    assert combined.default_validation_context.match_typed_subject_alt_names[0].matcher.exact == "c.com"
    for world in (one_way, by_default):
        context = context_of(chains(world)[0])
        assert not context.HasField("require_client_certificate")
        assert context.common_tls_context.WhichOneof("validation_context_type") is None


def test_tls_details() -> None:
    """Versions, suites, curves, ALPN, session resumption and the time-out of a handshake."""
    more = (
        ", parameters: {minimumProtocolVersion: TLSv1_2, maximumProtocolVersion: TLSv1_3,"
        " cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256, TLS_AES_128_GCM_SHA256], ecdhCurves: [X25519]},"
        " alpnProtocols: [allow_empty], disableTlsSessionResumption: true, transportSocketConnectTimeout: 3s"
    )
    world = secure_world(virtual_service(TO_UP, more=secret_ref(more=more)))
    (chain,) = chains(world)
    context = context_of(chain)
    parameters = context.common_tls_context.tls_params

    assert (parameters.tls_minimum_protocol_version, parameters.tls_maximum_protocol_version) == (3, 4)
    assert list(parameters.cipher_suites) == ["ECDHE-RSA-AES128-GCM-SHA256"]
    assert list(parameters.ecdh_curves) == ["X25519"]
    assert list(context.common_tls_context.alpn_protocols) == []
    assert context.disable_stateless_session_resumption
    assert chain.transport_socket_connect_timeout.seconds == 3
    assert [text.split(": ")[0] for text in world.said("VirtualService", "vs")] == [
        "warning sslConfig.parameters.cipherSuites[1]"
    ]


def test_certificates_from_files() -> None:
    """Envoy reads its own files; the names of the secrets are the paths."""
    files = ssl("{sslFiles: {tlsCert: /tls/a.crt, tlsKey: /tls/a.key, rootCa: /tls/ca.crt}}")
    world = secure_world(virtual_service(TO_UP, more=files))
    certificate = world.secret("tls-files//tls/a.crt|/tls/a.key").tls_certificate

    assert world.problems() == []
    assert (certificate.certificate_chain.filename, certificate.private_key.filename) == ("/tls/a.crt", "/tls/a.key")
    assert world.secret("ca-file//tls/ca.crt").validation_context.trusted_ca.filename == "/tls/ca.crt"


def test_missing_secret_costs_its_own_chain() -> None:
    """Another virtual service is served on the same port; the chain appears with the secret."""
    waits = virtual_service(
        TO_UP, name="waits", domains="[b.example.com]", more=secret_ref("t", ", sniDomains: [b.example.com]")
    )
    works = virtual_service(TO_UP, domains="[a.example.com]", more=secret_ref(more=", sniDomains: [a.example.com]"))
    world = secure_world(works, waits)

    assert [list(chain.filter_chain_match.server_names) for chain in chains(world)] == [["a.example.com"]]
    assert world.said("VirtualService", "vs") == []
    assert world.said("VirtualService", "waits")[0].startswith("error sslConfig.secretRef: SSL secret not found")

    world.put(tls_secret("t", make_pair("b.example.com")))

    assert len(chains(world)) == 2
    assert world.problems() == []


def test_missing_secret_may_be_a_warning() -> None:
    """With warnMissingTlsSecret the object is only warned; the chain waits all the same."""
    world = secure_world(
        virtual_service(TO_UP, more=secret_ref("t")), gateway={"validation": {"warnMissingTlsSecret": True}}
    )

    assert world.said("VirtualService", "vs")[0].startswith("warning sslConfig.secretRef: ")
    assert world.names(LISTENER) == []


def test_listener_without_any_chain_is_not_sent() -> None:
    """Never plain text on a TLS port."""
    world = make_world(SSL_GATEWAY, GATEWAY, upstream(), virtual_service(TO_UP, more=secret_ref("gone")))

    assert world.names(LISTENER) == []
    assert world.names(ROUTES) == []


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ("{secretRef: {name: s, namespace: gloo-system}, sniDomains: ['*a.com']}", "sslConfig.sniDomains[0]"),
        ("{secretRef: {name: s, namespace: gloo-system}, ocspStaplePolicy: MUST_STAPLE}", "sslConfig.ocspStaplePolicy"),
        ("{sds: {targetUri: a}}", "sslConfig.sds"),
        ("{}", "sslConfig"),
        ("{secretRef: {name: s, namespace: gloo-system}, verifySubjectAltName: [a]}", "sslConfig.verifySubjectAltName"),
        (
            "{secretRef: {name: s, namespace: gloo-system}, transportSocketConnectTimeout: -1s}",
            "sslConfig.transportSocketConnectTimeout",
        ),
    ],
)
def test_invalid_tls_is_said_to_its_virtual_service(config: str, path: str) -> None:
    """An error that names the field; the one on the same port goes on."""
    good = virtual_service(TO_UP, domains="[a.example.com]", more=secret_ref(more=", sniDomains: [a.example.com]"))
    world = secure_world(good, virtual_service(TO_UP, name="bad", domains="[b.example.com]", more=ssl(config)))

    errors = [text.split(": ")[0] for text in world.said("VirtualService", "bad") if text.startswith("error")]
    assert errors == [f"error {path}"]
    assert [list(chain.filter_chain_match.server_names) for chain in chains(world)] == [["a.example.com"]]


def test_any_server_name() -> None:
    """``*`` among sniDomains means every name."""
    world = secure_world(virtual_service(TO_UP, more=secret_ref(more=", sniDomains: ['*']")))

    assert [list(chain.filter_chain_match.server_names) for chain in chains(world)] == [[]]


def test_rotated_certificate_changes_a_secret_only() -> None:
    """No listener, route or cluster changes when a certificate is renewed, so nothing drains."""
    world = secure_world(virtual_service(TO_UP, more=secret_ref()))
    before = world.snapshot()

    world.put(tls_secret("s", make_pair("renewed")))

    after = world.snapshot()
    for type_url in (LISTENER, ROUTES, CLUSTER):
        assert all(after.of(type_url)[name] is resource for name, resource in before.of(type_url).items())
    assert after.of(SECRET)["tls/gloo-system/s"].version != before.of(SECRET)["tls/gloo-system/s"].version


def test_no_key_in_listeners() -> None:
    """Private keys are in secrets alone."""
    snapshot = secure_world(virtual_service(TO_UP, more=secret_ref())).snapshot()
    key = PAIR.key.encode()

    assert all(key not in item.body for kind in (LISTENER, CLUSTER, ROUTES) for item in snapshot.of(kind).values())
    assert any(key in item.body for item in snapshot.of(SECRET).values())


def make_group(*configs: tuple[str, list[str]]) -> HttpGroup:
    """A group with a TLS configuration for each owner, as the gateway stage would never make it."""
    found = []
    for owner, names in configs:
        config = ssl_pb2.SslConfig(sni_domains=names)
        config.secret_ref.name, config.secret_ref.namespace = "s", "gloo-system"
        found.append((config, (ObjectRef(VIRTUAL_SERVICE.name, "gloo-system", owner),)))
    source = ObjectRef(GATEWAY_KIND.name, "gloo-system", "gw")
    return HttpGroup(source, "routes", http_listener_options_pb2.HttpListenerOptions(), (), tuple(found))


def translate(group: HttpGroup, world: World, address: str = "::", port: int = 8443) -> Any:
    """A proxy with one listener of one group."""
    return translate_groups([group], world, address, port)


def translate_groups(groups: Sequence[HttpGroup], world: World, address: str = "::", port: int = 8443) -> Any:
    """A proxy with one listener."""
    listener = Listener(
        groups[0].source,
        "l",
        address,
        port,
        listener_options_pb2.ListenerOptions(),
        listener_options_pb2.RouteConfigurationOptions(),
        use_proxy_proto=False,
        http=tuple(groups),
    )
    proxy = Proxy(Ref("gloo-system", "p"), (listener,))
    return translate_proxy(proxy, world.store.snapshot, world.settings, Memo())


def test_overlapping_server_names_go_to_the_older() -> None:
    """Envoy refuses a listener with one server name in two chains; the younger configuration loses that name."""
    world = secure_world(virtual_service(name="old"), virtual_service(name="young"))
    proxy = translate(make_group(("young", ["a.com", "b.com"]), ("old", ["a.com"])), world)
    found = listener_pb2.Listener.FromString(proxy.listeners["l"].body)

    assert [list(chain.filter_chain_match.server_names) for chain in found.filter_chains] == [["b.com"], ["a.com"]]
    assert [(problem.ref.name, problem.path) for problem in proxy.problems] == [("young", "sslConfig.sniDomains")]


def ranges(*prefixes: str) -> proxy_pb2.Matcher:
    """A matcher for clients in these address ranges."""
    matcher = proxy_pb2.Matcher()
    for prefix in prefixes:
        address, _, length = prefix.partition("/")
        matcher.source_prefix_ranges.add(address_prefix=address).prefix_len.value = int(length)
    return matcher


def test_address_ranges_tell_chains_apart() -> None:
    """The same server name for other clients is no conflict; overlapping lists of ranges are one."""
    world = secure_world(virtual_service(name="old"), virtual_service(name="young"))
    old, young = make_group(("old", ["a.com"])), make_group(("young", ["a.com"]))
    apart = [replace(old, matcher=ranges("10.0.0.0/8")), replace(young, matcher=ranges("11.0.0.0/8"))]
    mixed = [replace(old, matcher=ranges("10.1.2.3/8", "12.0.0.0/8")), replace(young, matcher=ranges("10.0.0.0/8"))]

    assert translate_groups(apart, world).problems == ()
    problems = translate_groups(mixed, world).problems
    assert [(problem.ref.name, problem.path) for problem in problems] == [("young", "sslConfig.sniDomains")]


@pytest.mark.parametrize("prefix", ["example.com/8", "10.0.0.0/33", "::1%lo/64"])
def test_impossible_address_range(prefix: str) -> None:
    """A range that is none costs its chain."""
    proxy = translate(replace(make_group(("vs", [])), matcher=ranges(prefix)), secure_world())

    assert dict(proxy.listeners) == {}
    assert proxy.problems[0].path == "matcher.sourcePrefixRanges[0]"


@pytest.mark.parametrize(("address", "port", "path"), [("example.com", 80, "bindAddress"), ("::", 0, "bindPort")])
def test_impossible_address(address: str, port: int, path: str) -> None:
    """An address that Envoy cannot bind is an error on the Gateway, and the listener is not sent."""
    proxy = translate(make_group(("vs", [])), secure_world(), address, port)

    assert dict(proxy.listeners) == {}
    assert dict(proxy.routes) == {}
    assert [(problem.ref.kind, problem.path) for problem in proxy.problems] == [("Gateway", path)]
