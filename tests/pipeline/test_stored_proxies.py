"""Proxy objects in place of Gateways: what is computed and stored means the same when it is read again."""

import base64
import json
import zlib

import pytest
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2

from gloo_nomad.admin.proxy_messages import build_proxy
from gloo_nomad.gateway.stored import MAX_UNPACKED, pack
from gloo_nomad.resources import LISTENER, ROUTES
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

STORED = {"gateway": {"enableGatewayController": False}}
SECRET = tls_secret("shop", make_pair("shop.example.com"))
SECURE = virtual_service(
    TO_UP,
    name="secure",
    more="sslConfig: {secretRef: {name: shop, namespace: gloo-system}, sniDomains: [shop.example.com]}",
)
TCP = """
kind: Gateway
metadata: {name: tcp, namespace: gloo-system}
bindAddress: "::"
bindPort: 9000
options: {perConnectionBufferLimitBytes: 1024}
tcpGateway: {tcpHosts: [{name: t, destination: {single: {upstream: {name: up, namespace: gloo-system}}}}]}
"""
HYBRID = """
kind: Gateway
metadata: {name: hybrid, namespace: gloo-system}
bindAddress: "::"
bindPort: 9001
hybridGateway:
  matchedGateways:
  - matcher: {sourcePrefixRanges: [{addressPrefix: 10.0.0.0, prefixLen: 8}]}
    httpGateway: {options: {router: {suppressEnvoyHeaders: true}}}
  - matcher: {}
    tcpGateway: {tcpHosts: [{name: t, destination: {single: {upstream: {name: up, namespace: gloo-system}}}}]}
"""
PREFIXES = """
kind: Proxy
metadata: {name: gateway-proxy, namespace: gloo-system}
listeners:
- name: h
  bindAddress: "::"
  bindPort: 8080
  httpListener:
    statPrefix: shop
    virtualHosts: [{name: v, domains: ["*"], routes: [{matchers: [{prefix: /}], directResponseAction: {status: 200}}]}]
- name: t
  bindAddress: "::"
  bindPort: 8000
  tcpListener:
    statPrefix: queue
    tcpHosts: [{name: t, destination: {single: {upstream: {name: up, namespace: gloo-system}}}}]
"""
AGGREGATE = """
kind: Proxy
metadata: {name: gateway-proxy, namespace: gloo-system}
listeners:
- name: l
  bindAddress: "::"
  bindPort: 8443
  aggregateListener:
    httpResources:
      virtualHosts:
        shop: {name: shop, domains: ["*"], routes: [{matchers: [{prefix: /}], directResponseAction: {status: 204}}]}
      httpOptions:
        quiet: {router: {suppressEnvoyHeaders: true}}
    httpFilterChains:
    - matcher: {sslConfig: {secretRef: {name: shop, namespace: gloo-system}, sniDomains: [shop.example.com]}}
      httpOptionsRef: quiet
      virtualHostRefs: [shop, missing]
    tcpListeners:
    - matcher: {sourcePrefixRanges: [{addressPrefix: 10.0.0.0, prefixLen: 8}]}
      tcpListener: {tcpHosts: [{name: t, destination: {single: {upstream: {name: up, namespace: gloo-system}}}}]}
"""


def _read_again(world: World, *, packed: bool = False) -> World:
    (proxy,) = world.translation.proxies
    message = build_proxy(proxy)
    if packed:
        message.compressedSpec = pack(message)
        message.ClearField("listeners")
    return make_world(upstream(), SECRET, settings=STORED).put_message("Proxy", message)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
@pytest.mark.parametrize(
    "objects",
    [(GATEWAY, virtual_service(TO_UP)), (SSL_GATEWAY, SECURE), (TCP,), (HYBRID, virtual_service(TO_UP))],
    ids=["http", "tls", "tcp", "hybrid"],
)
def test_what_is_stored_means_the_same(objects: tuple[str, ...], packed: bool) -> None:
    """Envoy is sent the same listeners and routes, byte for byte."""
    world = make_world(*objects, upstream(), SECRET)
    again = _read_again(world, packed=packed)

    assert again.problems() == []
    for type_url in (LISTENER, ROUTES):
        expected = {name: resource.body for name, resource in world.snapshot().of(type_url).items()}
        assert {name: resource.body for name, resource in again.snapshot().of(type_url).items()} == expected
    assert world.names(LISTENER)


def test_statistics_have_the_prefix_of_the_proxy() -> None:
    """``statPrefix`` of a listener is Envoy's, and is kept when the proxy is shown or stored again."""
    world = make_world(PREFIXES, upstream(), settings=STORED)
    (manager,) = managers(world.listener("h"))
    tcp = tcp_proxy_pb2.TcpProxy()
    world.listener("t").filter_chains[0].filters[0].typed_config.Unpack(tcp)

    assert world.problems() == []
    assert (manager.stat_prefix, tcp.stat_prefix) == ("shop", "queue")
    http, plain = build_proxy(world.translation.proxies[0]).listeners
    assert (http.http_listener.stat_prefix, plain.tcp_listener.stat_prefix) == ("shop", "queue")


def test_an_aggregate_listener_is_served() -> None:
    """Its chains share virtual hosts and options by name."""
    world = make_world(AGGREGATE, upstream(), SECRET, settings=STORED)
    listener = world.listener("l")

    assert world.problems() == []
    assert [[*chain.filter_chain_match.server_names] for chain in listener.filter_chains] == [["shop.example.com"], []]
    (routes,) = world.names(ROUTES)
    assert [host.name for host in world.route_config(routes).virtual_hosts] == ["shop"]


def test_proxies_are_not_read_while_gateways_are() -> None:
    """By default a stored Proxy is a copy that nobody asks."""
    world = make_world(AGGREGATE, upstream(), SECRET)

    assert world.translation.proxies == ()


def test_an_unchanged_proxy_is_not_translated_again() -> None:
    """A change of one leaves the other the same object."""
    other = AGGREGATE.replace("gateway-proxy", "other").replace("8443", "8444")
    world = make_world(AGGREGATE, other, upstream(), SECRET, settings=STORED)
    before = {proxy.ref.name: proxy for proxy in world.translation.proxies}
    world.put(AGGREGATE.replace("204", "205"))
    after = {proxy.ref.name: proxy for proxy in world.translation.proxies}

    assert after["other"] is before["other"]
    assert after["gateway-proxy"] is not before["gateway-proxy"]


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("no base64!", "is not JSON packed by zlib and base64"),
        (base64.b64encode(b"no zlib").decode(), "is not JSON packed"),
        (base64.b64encode(zlib.compress(b"no json")).decode(), "is not JSON packed"),
        (base64.b64encode(zlib.compress(b'{"nothing": 1}')).decode(), 'has no field named "nothing"'),
        (base64.b64encode(zlib.compress(b"[" * 100_000)).decode(), "is not JSON packed"),
        (base64.b64encode(zlib.compress(b" " * (MAX_UNPACKED + 1))).decode(), "is cut off, or has more than"),
    ],
    ids=["base64", "zlib", "json", "field", "nested", "bomb"],
)
def test_what_cannot_be_unpacked_is_said(spec: str, told: str) -> None:
    """The object at fault is named; nothing else is lost."""
    document = {"kind": "Proxy", "metadata": {"name": "gateway-proxy", "namespace": "gloo-system"}}
    world = make_world(json.dumps({**document, "compressedSpec": spec}), settings=STORED)

    (said,) = world.said("Proxy", "gateway-proxy")
    assert told in said


def test_listeners_have_different_names() -> None:
    """The second of one name is an error, the first is served."""
    listener = '{name: l, bindAddress: "::", bindPort: %d, httpListener: {}}'
    text = "{kind: Proxy, metadata: {name: gateway-proxy, namespace: gloo-system}, listeners: [%s, %s]}"
    world = make_world(text % (listener % 1000, listener % 1001), settings=STORED)

    assert world.said("Proxy", "gateway-proxy") == [
        "error listeners[1].name: is called 'l' like another one, which is served"
    ]
    assert world.listener("l").address.socket_address.port_value == 1000
