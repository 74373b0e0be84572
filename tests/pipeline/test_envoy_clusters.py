"""Upstreams as clusters: types, TLS, protocols, and what is left out."""

from typing import Any

import pytest
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf import json_format

from gloo_nomad.resources import CLUSTER, SECRET
from tests.pipeline.certificates import make_pair, tls_secret
from tests.pipeline.envoy_world import GATEWAY, TO_UP, World, make_world, upstream, virtual_service

UP = "up_gloo-system"


def world_of(spec: str, *more: str, settings: dict[str, Any] | None = None) -> World:
    """A world with one upstream and a route to it."""
    return make_world(GATEWAY, virtual_service(TO_UP), upstream(spec=spec), *more, settings=settings)


def context_of(socket: Any) -> Any:
    """The TLS context in a transport socket."""
    context = tls_pb2.UpstreamTlsContext()
    assert socket.typed_config.Unpack(context)
    return context


def hosts(cluster: Any) -> list[tuple[str, int]]:
    """Addresses and ports of a cluster's endpoints."""
    found = [endpoint.endpoint.address.socket_address for endpoint in cluster.load_assignment.endpoints[0].lb_endpoints]
    return [(address.address, address.port_value) for address in found]


def test_static_addresses() -> None:
    """Only addresses: Envoy keeps them, with bounded buffers and five seconds to connect."""
    cluster = world_of("static: {hosts: [{addr: 10.0.0.1, port: 80}, {addr: '::1', port: 81}]}").cluster(UP)

    assert cluster.type == cluster.STATIC
    assert hosts(cluster) == [("10.0.0.1", 80), ("::1", 81)]
    assert cluster.connect_timeout.seconds == 5
    assert cluster.per_connection_buffer_limit_bytes.value == 32768
    assert not cluster.HasField("transport_socket")


def test_static_name_is_resolved() -> None:
    """Any name: all are resolved, IPv4 only as in the reference."""
    cluster = world_of("static: {hosts: [{addr: a.example.com, port: 80}, {addr: 10.0.0.1, port: 80}]}").cluster(UP)

    assert cluster.type == cluster.STRICT_DNS
    assert cluster.dns_lookup_family == cluster.V4_ONLY


def test_static_host_details() -> None:
    """Weight, metadata and the host's name for rewrites and health checks."""
    spec = (
        "static: {hosts: [{addr: a.example.com, port: 80, loadBalancingWeight: 3, metadata: {envoy.lb: {zone: a}}},"
        " {addr: b.example.com, port: 80}]}"
    )
    first, second = world_of(spec).cluster(UP).load_assignment.endpoints[0].lb_endpoints

    assert (first.load_balancing_weight.value, second.HasField("load_balancing_weight")) == (3, False)
    assert json_format.MessageToDict(first.metadata.filter_metadata["envoy.lb"]) == {"zone": "a"}
    assert first.endpoint.hostname == first.endpoint.health_check_config.hostname == "a.example.com"


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ("static: {hosts: [{addr: 10.0.0.1, port: 443}]}", True),
        ("static: {hosts: [{addr: 10.0.0.1, port: 443}], useTls: false}", False),
        ("static: {hosts: [{addr: 10.0.0.1, port: 80}], useTls: true}", True),
        ("static: {hosts: [{addr: 10.0.0.1, port: 80}]}\nsslConfig: {}", True),
        ("static: {hosts: [{addr: 10.0.0.1, port: 80}]}", False),
    ],
)
def test_when_tls_is_spoken(spec: str, wanted: bool) -> None:
    """UseTls decides, port 443 when it is not set; an sslConfig always does."""
    assert world_of(spec).cluster(UP).HasField("transport_socket") is wanted


def test_server_name_is_the_hosts_name() -> None:
    """One host: its name is sent, an address never."""
    named = world_of("static: {hosts: [{addr: a.example.com, port: 443}]}").cluster(UP)
    bare = world_of("static: {hosts: [{addr: 10.0.0.1, port: 443}]}").cluster(UP)

    assert context_of(named.transport_socket).sni == "a.example.com"
    assert context_of(bare.transport_socket).sni == ""


def test_each_host_its_own_server_name() -> None:
    """Several names: endpoints pick the transport socket with theirs."""
    spec = (
        "static: {hosts: [{addr: a.example.com, port: 443}, {addr: 10.0.0.1, port: 443, sniAddr: b.example.com},"
        " {addr: 10.0.0.2, port: 443}]}"
    )
    cluster = world_of(spec).cluster(UP)
    sockets = {match.match["sni"]: context_of(match.transport_socket).sni for match in cluster.transport_socket_matches}
    marks = [
        endpoint.metadata.filter_metadata["envoy.transport_socket_match"]["sni"]
        for endpoint in cluster.load_assignment.endpoints[0].lb_endpoints
    ]

    assert sockets == {"": "", "a.example.com": "a.example.com", "b.example.com": "b.example.com"}
    assert marks == ["a.example.com", "b.example.com", ""]


def test_written_server_name_is_kept() -> None:
    """sslConfig.sni is not replaced by the host's name."""
    spec = "static: {hosts: [{addr: a.example.com, port: 443}]}\nsslConfig: {sni: other.example.com}"

    assert context_of(world_of(spec).cluster(UP).transport_socket).sni == "other.example.com"


def test_server_name_rewrite_can_be_switched_off() -> None:
    """autoSniRewrite: false sends no name by itself."""
    spec = "static: {hosts: [{addr: a.example.com, port: 443}], autoSniRewrite: false}"

    assert context_of(world_of(spec).cluster(UP).transport_socket).sni == ""


def test_secret_goes_by_sds() -> None:
    """The cluster names the secret's parts; key and certificate are in secrets of their own."""
    pair = make_pair("client")
    spec = (
        "static: {hosts: [{addr: a.example.com, port: 443}]}\n"
        "sslConfig: {secretRef: {name: s, namespace: gloo-system}, verifySubjectAltName: [a.example.com, 10.1.1.1]}"
    )
    world = world_of(spec, tls_secret("s", pair, authority=pair.certificate))
    common = context_of(world.cluster(UP).transport_socket).common_tls_context
    combined = common.combined_validation_context

    assert world.problems() == []
    assert [config.name for config in common.tls_certificate_sds_secret_configs] == ["tls/gloo-system/s"]
    assert combined.validation_context_sds_secret_config.name == "ca/gloo-system/s"
    assert [
        (matcher.matcher.exact, matcher.san_type)
        for matcher in combined.default_validation_context.match_typed_subject_alt_names
    ] == [("a.example.com", 2), ("10.1.1.1", 4)]
    assert world.names(SECRET) == ["ca/gloo-system/s", "tls/gloo-system/s"]
    assert world.secret("tls/gloo-system/s").tls_certificate.private_key.inline_string == pair.key
    assert pair.key.encode() not in world.snapshot().of(CLUSTER)[UP].body


def test_key_that_does_not_match_costs_only_its_upstream() -> None:
    """The upstream is rejected; another one is served."""
    one, other = make_pair("a"), make_pair("b")
    mixed = tls_secret("s", one._replace(key=other.key))
    spec = "static: {hosts: [{addr: 10.0.0.1, port: 80}]}\nsslConfig: {secretRef: {name: s, namespace: gloo-system}}"
    world = world_of(spec, mixed, upstream("other"))

    (said,) = world.said("Upstream", "up")
    assert said.startswith("error sslConfig.secretRef: secret gloo-system.s: its tls.privateKey does not belong")
    assert world.names(CLUSTER) == ["other_gloo-system"]


def test_missing_secret_then_there() -> None:
    """The cluster appears as soon as its secret does."""
    spec = "static: {hosts: [{addr: 10.0.0.1, port: 80}]}\nsslConfig: {secretRef: {name: s, namespace: gloo-system}}"
    world = world_of(spec)
    assert world.names(CLUSTER) == []
    assert world.said("Upstream", "up")[0].startswith("error sslConfig.secretRef: SSL secret not found")

    world.put(tls_secret("s", make_pair("a")))

    assert world.names(CLUSTER) == [UP]
    assert world.said("Upstream", "up") == []


def test_default_parameters_come_from_the_settings() -> None:
    """upstreamOptions.sslParameters are for upstreams without parameters of their own."""
    settings = {"upstreamOptions": {"sslParameters": {"minimumProtocolVersion": "TLSv1_2"}}}
    spec = "static: {hosts: [{addr: 10.0.0.1, port: 443}]}"
    own = spec + "\nsslConfig: {parameters: {minimumProtocolVersion: TLSv1_3}}"

    for text, version in ((spec, 3), (own, 4)):
        context = context_of(world_of(text, settings=settings).cluster(UP).transport_socket)
        assert context.common_tls_context.tls_params.tls_minimum_protocol_version == version


def test_http2() -> None:
    """useHttp2 with bounded windows; the upstream's own win."""
    spec = "static: {hosts: [{addr: 10.0.0.1, port: 80}]}\nuseHttp2: true\ninitialStreamWindowSize: 100000"
    cluster = world_of(spec).cluster(UP)
    options = http_protocol_options_pb2.HttpProtocolOptions()
    (packed,) = cluster.typed_extension_protocol_options.values()
    assert packed.Unpack(options)
    http2 = options.explicit_http_config.http2_protocol_options

    assert http2.initial_stream_window_size.value == 100_000
    assert http2.initial_connection_window_size.value == 1_048_576


def test_http2_options_alone_are_warned_of() -> None:
    """A window without useHttp2 does nothing, and says so."""
    world = world_of("static: {hosts: [{addr: 10.0.0.1, port: 80}]}\nmaxConcurrentStreams: 5")

    assert world.said("Upstream", "up") == ["warning maxConcurrentStreams: has no effect without useHttp2"]


def test_connect_timeout_and_circuit_breakers() -> None:
    """Both from the upstream; circuit breakers else from the settings."""
    settings = {"gloo": {"circuitBreakers": {"maxConnections": 7, "maxRetries": 2}}}
    spec = "static: {hosts: [{addr: 10.0.0.1, port: 80}]}\nconnectionConfig: {connectTimeout: 1.5s}"
    cluster = world_of(spec, settings=settings).cluster(UP)
    own = world_of(spec + "\ncircuitBreakers: {maxRequests: 9}", settings=settings).cluster(UP)

    assert (cluster.connect_timeout.seconds, cluster.connect_timeout.nanos) == (1, 500_000_000)
    assert cluster.circuit_breakers.thresholds[0].max_connections.value == 7
    assert own.circuit_breakers.thresholds[0].max_requests.value == 9
    assert not own.circuit_breakers.thresholds[0].HasField("max_connections")


def test_pipe() -> None:
    """A Unix socket."""
    cluster = world_of("pipe: {path: /run/app.sock}").cluster(UP)

    assert cluster.load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.pipe.path == "/run/app.sock"


PLAIN = "static: {hosts: [{addr: a, port: 80}]}\n"
TLS = "static: {hosts: [{addr: a, port: 443}]}\nsslConfig: "
REVERSED = "{minimumProtocolVersion: TLSv1_3, maximumProtocolVersion: TLSv1_2}"


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ("static: {}", "static.hosts"),
        ("static: {hosts: [{port: 80}]}", "static.hosts[0].addr"),
        ("static: {hosts: [{addr: 'a b', port: 80}]}", "static.hosts[0].addr"),
        ("static: {hosts: [{addr: 'fe80::1%eth0', port: 80}]}", "static.hosts[0].addr"),
        ("static: {hosts: [{addr: a, port: 0}]}", "static.hosts[0].port"),
        ("static: {hosts: [{addr: a, port: 99999}]}", "static.hosts[0].port"),
        ("static: {hosts: [{addr: a, port: 80, loadBalancingWeight: 0}]}", "static.hosts[0].loadBalancingWeight"),
        ("pipe: {}", "pipe.path"),
        ("pipe: {path: /%s}" % ("a" * 108), "pipe.path"),
        ("consul: {}", "consul.serviceName"),
        (TLS + "{verifySubjectAltName: [a]}", "sslConfig.verifySubjectAltName"),
        (TLS + "{sslFiles: {tlsCert: /a}}", "sslConfig.sslFiles"),
        (TLS + "{sds: {targetUri: a}}", "sslConfig.sds"),
        (TLS + "{parameters: {cipherSuites: [NONE]}}", "sslConfig.parameters.cipherSuites[0]"),
        (TLS + "{parameters: {ecdhCurves: [P-224]}}", "sslConfig.parameters.ecdhCurves[0]"),
        (TLS + "{parameters: " + REVERSED + "}", "sslConfig.parameters"),
        (TLS + "{alpnProtocols: ['']}", "sslConfig.alpnProtocols[0]"),
        (TLS + "{sni: %s}" % ("a" * 256), "sslConfig.sni"),
        (PLAIN + "connectionConfig: {connectTimeout: 0s}", "connectionConfig.connectTimeout"),
        (PLAIN + "useHttp2: true\ninitialStreamWindowSize: 1", "useHttp2"),
    ],
)
def test_invalid_upstream_is_left_out_alone(spec: str, path: str) -> None:
    """One error that names the field; the other upstreams are served."""
    world = world_of(spec, upstream("other"))

    errors = [text.split(": ")[0] for text in world.said("Upstream", "up") if text.startswith("error")]
    assert errors == [f"error {path}"]
    assert world.names(CLUSTER) == ["other_gloo-system"]


@pytest.mark.parametrize(
    "spec",
    [
        "kube: {serviceName: a}",
        "aws: {region: a}",
        "awsEc2: {region: a}",
        "azure: {functionAppName: a}",
        "gcp: {host: a}",
        "ai: {openai: {}}",
    ],
)
def test_a_type_that_is_not_served_is_a_warning(spec: str) -> None:
    """One warning; there is no cluster, so that requests are answered with 503, and all others are served."""
    world = make_world(GATEWAY, upstream("up", spec), upstream("other"), virtual_service(TO_UP))

    (said,) = world.said("Upstream", "up")
    assert said.startswith(f"warning {spec.split(':', maxsplit=1)[0]}: is not supported: ")
    assert "503" in said
    assert world.names(CLUSTER) == ["other_gloo-system"]
    assert world.routes()[0].route.cluster == "up_gloo-system"


def test_upstream_without_type() -> None:
    """The types that work are named."""
    world = world_of("{}".replace("{}", "useHttp2: false"))

    assert world.said("Upstream", "up") == ["error has no upstream type; give it one of consul, pipe, static"]


def test_fields_that_nothing_makes_work_are_named() -> None:
    """Health checks are not dropped in silence."""
    world = world_of("static: {hosts: [{addr: 10.0.0.1, port: 80}]}\nfailover: {}")

    assert any(text.startswith("warning failover: ") for text in world.said("Upstream", "up"))


def test_two_upstreams_with_one_cluster_name() -> None:
    """Names that run together are refused on one of them; Envoy knows a cluster by its name alone."""
    one = upstream("a_b").replace("gloo-system", "c")
    other = upstream("a").replace("gloo-system", "b_c")
    world = make_world(GATEWAY, one, other)

    said = world.said("Upstream", "a_b") + world.said("Upstream", "a")
    assert len(said) == 1
    assert "its cluster would be named a_b_c" in said[0]
    assert world.translation.clusters.clusters.keys() == {"a_b_c"}
