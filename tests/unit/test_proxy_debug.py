"""Proxies as messages of the contract, and the gRPC service that gives them out."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from grpc import aio

from gloo_nomad.admin.label_text import parse_requirements
from gloo_nomad.admin.proxy_debug import serving_proxies
from gloo_nomad.admin.proxy_messages import build_proxy
from gloo_nomad.api.gen import proxy_debug_pb2, proxy_debug_pb2_grpc
from gloo_nomad.api.refs import Ref
from gloo_nomad.gateway.labels import admits
from gloo_nomad.proxies import Proxy
from gloo_nomad.serving import ServingError
from tests.pipeline.gateway_world import GATEWAY, SSL_GATEWAY, service, translate

HYBRID = """
metadata: {name: hybrid, namespace: gloo-system}
bindAddress: "::"
bindPort: 9000
useProxyProto: true
hybridGateway:
  matchedGateways:
  - matcher: {sourcePrefixRanges: [{addressPrefix: 10.0.0.0, prefixLen: 8}]}
    httpGateway: {}
  - matcher: {}
    tcpGateway:
      tcpHosts: [{name: t, destination: {single: {upstream: {name: u, namespace: gloo-system}}}}]
"""
TCP = """
metadata: {name: tcp, namespace: gloo-system}
bindAddress: 127.0.0.1
bindPort: 9001
options: {perConnectionBufferLimitBytes: 1024}
tcpGateway:
  options: {tcpProxySettings: {maxConnectAttempts: 3}}
  tcpHosts: [{name: t, destination: {single: {upstream: {name: u, namespace: gloo-system}}}}]
"""


def document(*gateways: str, services: Iterable[str] = ()) -> dict[str, Any]:
    """The only proxy of these objects, as a document."""
    (proxy,) = translate({"Gateway": list(gateways), "VirtualService": list(services)}).proxies
    found: dict[str, Any] = json_format.MessageToDict(build_proxy(proxy))
    return found


def test_a_proxy_names_itself() -> None:
    """Name, namespace and the label by which the reference finds its own proxies."""
    assert document(GATEWAY)["metadata"] == {
        "name": "gateway-proxy",
        "namespace": "gloo-system",
        "labels": {"created_by": "gloo-gateway"},
    }


def test_an_http_listener() -> None:
    """One group without a matcher is a plain HTTP listener with its virtual hosts, and names its Gateway."""
    (listener,) = document(GATEWAY, services=[service()])["listeners"]

    assert listener["name"] == "listener-::-8080"
    assert (listener["bindAddress"], listener["bindPort"]) == ("::", 8080)
    assert [host["domains"] for host in listener["httpListener"]["virtualHosts"]] == [["a.com"]]
    assert listener["metadataStatic"]["sources"] == [
        {"resourceKind": "*v1.Gateway", "resourceRef": {"name": "gateway-proxy", "namespace": "gloo-system"}}
    ]
    assert "sslConfigurations" not in listener


def test_an_ssl_listener() -> None:
    """The TLS configurations of its virtual services are on the listener."""
    tls = service(extra="sslConfig: {secretRef: {name: s, namespace: gloo-system}, sniDomains: [a.com]}")
    (listener,) = document(SSL_GATEWAY, services=[tls])["listeners"]

    assert [config["sniDomains"] for config in listener["sslConfigurations"]] == [["a.com"]]


def test_a_tcp_listener() -> None:
    """One TCP group is a plain TCP listener with its options, those of the listener beside it."""
    (listener,) = document(TCP)["listeners"]

    assert listener["options"] == {"perConnectionBufferLimitBytes": 1024}
    assert listener["tcpListener"]["options"] == {"tcpProxySettings": {"maxConnectAttempts": 3}}
    assert [host["name"] for host in listener["tcpListener"]["tcpHosts"]] == ["t"]


def test_a_hybrid_listener() -> None:
    """Groups with matchers stay apart, each with its own matcher, and the proxy protocol is said."""
    (listener,) = document(HYBRID, services=[service()])["listeners"]
    first, second = listener["hybridListener"]["matchedListeners"]

    assert listener["useProxyProto"] is True
    assert first["matcher"] == {"sourcePrefixRanges": [{"addressPrefix": "10.0.0.0", "prefixLen": 8}]}
    assert [host["domains"] for host in first["httpListener"]["virtualHosts"]] == [["a.com"]]
    assert [host["name"] for host in second["tcpListener"]["tcpHosts"]] == ["t"]


def proxies() -> tuple[Proxy, ...]:
    """Three proxies in two namespaces, in no order."""
    names = [Ref("b", "two"), Ref("a", "one"), Ref("b", "one")]
    return tuple(Proxy(ref) for ref in names)


def ask(scenario: Callable[[Any], Awaitable[None]], source: Callable[[], tuple[Proxy, ...]] = proxies) -> None:
    """Runs a scenario with a stub that is connected to a real server."""

    async def whole() -> None:
        async with (
            serving_proxies("127.0.0.1", 0, source) as port,
            aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            await scenario(proxy_debug_pb2_grpc.ProxyEndpointServiceStub(channel))

    asyncio.run(whole())


@pytest.mark.parametrize(
    ("request_fields", "found"),
    [
        ({}, ["a.one", "b.one", "b.two"]),
        ({"namespace": "b"}, ["b.one", "b.two"]),
        ({"namespace": "b", "name": "two"}, ["b.two"]),
        ({"namespace": "none"}, []),
        ({"selector": {"created_by": "gloo-gateway"}}, ["a.one", "b.one", "b.two"]),
        ({"selector": {"created_by": "somebody"}}, []),
        ({"namespace": "a", "name": "one", "selector": {"created_by": "somebody"}}, ["a.one"]),
        ({"expression_selector": "created_by in (gloo-gateway, other), !canary"}, ["a.one", "b.one", "b.two"]),
        ({"expression_selector": "created_by != gloo-gateway"}, []),
        ({"selector": {"created_by": "somebody"}, "expression_selector": "created_by"}, ["a.one", "b.one", "b.two"]),
    ],
)
def test_get_proxies(request_fields: dict[str, Any], found: list[str]) -> None:
    """By namespace, by name, by labels and by expressions, which replace labels; always in the same order."""

    async def scenario(stub: Any) -> None:
        answer = await stub.GetProxies(proxy_debug_pb2.ProxyEndpointRequest(**request_fields))
        assert [f"{proxy.metadata.namespace}.{proxy.metadata.name}" for proxy in answer.proxies] == found

    ask(scenario)


@pytest.mark.parametrize(
    ("request_fields", "code", "told"),
    [
        ({"name": "one"}, grpc.StatusCode.INVALID_ARGUMENT, "namespace"),
        ({"name": "x", "namespace": "a"}, grpc.StatusCode.NOT_FOUND, "a.x"),
        ({"expression_selector": "a in b"}, grpc.StatusCode.INVALID_ARGUMENT, "in b"),
    ],
)
def test_bad_requests(request_fields: dict[str, Any], code: grpc.StatusCode, told: str) -> None:
    """A request that means nothing is refused with a reason, and the server goes on."""

    async def scenario(stub: Any) -> None:
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.GetProxies(proxy_debug_pb2.ProxyEndpointRequest(**request_fields))
        assert caught.value.code() is code
        assert told in str(caught.value.details())
        answer = await stub.GetProxies(proxy_debug_pb2.ProxyEndpointRequest())
        assert len(answer.proxies) == 3

    ask(scenario)


def test_a_whole_proxy_over_the_wire() -> None:
    """What the client reads is the message with all its virtual hosts."""
    many = [service(f"domains: [h{number}.com]", f"vs{number}") for number in range(50)]
    found = translate({"Gateway": [GATEWAY], "VirtualService": many}).proxies

    async def scenario(stub: Any) -> None:
        answer = await stub.GetProxies(proxy_debug_pb2.ProxyEndpointRequest())
        (listener,) = answer.proxies[0].listeners
        assert len(listener.http_listener.virtual_hosts) == 50

    ask(scenario, lambda: found)


def test_a_taken_port_is_told() -> None:
    """The address is in the text of the error."""

    async def scenario() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(ServingError, match=f"proxy debug server cannot listen on 127.0.0.1:{port}"):
                async with serving_proxies("127.0.0.1", port, proxies):
                    pass

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("text", "admitted"),
    [
        ("", True),
        ("  ", True),
        ("app", True),
        ("!app", False),
        ("! other", True),
        ("app=web", True),
        ("app == web", True),
        ("app!=web", False),
        ("other!=web", True),
        ("app in (web)", True),
        ("app in(api,web)", True),
        ("app notin (api, web)", False),
        ("size > 2", True),
        ("size<2", False),
        ("app=web, size>2,!canary", True),
        ("app=web,size>3", False),
        ("example.com/app", False),
    ],
)
def test_label_expressions(text: str, *, admitted: bool) -> None:
    """Every form of Kubernetes' syntax means what it means there."""
    assert admits(parse_requirements(text), {"app": "web", "size": "3"}) is admitted


@pytest.mark.parametrize(
    "text", [",", "a,,b", "a in", "a in ()b", "a in (b", "=b", "a=b c", "a > x", "a,", "!!a", "in (x)", "a" * 5000, "é"]
)
def test_label_expressions_that_are_none(text: str) -> None:
    """Anything else is refused with a ``ValueError``."""
    with pytest.raises(ValueError) as caught:
        parse_requirements(text)
    assert len(str(caught.value)) < 200
