"""Proxies in Consul KV: written by one daemon, and served by another one that makes none of its own."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gloo_nomad.api import codec
from gloo_nomad.api.gen import proxy_pb2
from gloo_nomad.api.kinds import PROXY
from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.envoy import Envoy, build_bootstrap
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.processes import wait_until
from gloo_nomad.gateway.stored import pack, unpack
from tests.daemon import Daemon, start_daemon
from tests.site import direct, host

SECONDS = 20.0
MADE_BY_HAND = {
    "metadata": {"name": "by-hand", "namespace": "gloo-system"},
    "listeners": [{"name": "l", "bindAddress": "::", "bindPort": 9, "httpListener": {}}],
}


def _stored(daemon: Daemon) -> proxy_pb2.Proxy | None:
    value = daemon.consul.get(daemon.key("Proxy", "gateway-proxy"))
    decoded = codec.decode(PROXY, value if isinstance(value, bytes) else value.encode()) if value else None
    message = decoded.message if decoded is not None else None
    assert message is None or isinstance(message, proxy_pb2.Proxy)
    return message


def _bodies(message: proxy_pb2.Proxy | None) -> list[str]:
    if message is None:
        return []
    return [
        route.direct_response_action.body
        for listener in unpack(message)
        for virtual_host in listener.http_listener.virtual_hosts
        for route in virtual_host.routes
    ]


def test_proxies_are_stored_while_that_is_asked_for(
    consul: ConsulAgent, root_key: str, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """They follow the objects, are packed on demand, and go again; one that somebody else made stays."""
    daemon = start_daemon(tmp_path, consul, root_key, free_port)
    with daemon.server:
        daemon.put("Proxy", "by-hand", MADE_BY_HAND)
        daemon.put("Gateway", "gateway-proxy", {"bindAddress": "::", "bindPort": 8080, "httpGateway": {}})
        daemon.put("VirtualService", "vs", host("a.test", direct("first")))
        daemon.wait_status("VirtualService", "vs", "Accepted")
        assert _stored(daemon) is None

        daemon.put("Settings", "default", {"gateway": {"persistProxySpec": True}})
        wait_until(lambda: _bodies(_stored(daemon)) == ["first"], "the Proxy", SECONDS)
        stored = _stored(daemon)
        assert stored is not None
        assert dict(stored.metadata.labels) == {"created_by": "gloo-gateway"}
        daemon.put("VirtualService", "vs", host("a.test", direct("second")))
        wait_until(lambda: _bodies(_stored(daemon)) == ["second"], "the Proxy with the change", SECONDS)

        daemon.put("Settings", "default", {"gateway": {"persistProxySpec": True, "compressedProxySpec": True}})
        wait_until(lambda: bool((packed := _stored(daemon)) and packed.compressedSpec), "the packed Proxy", SECONDS)
        packed = _stored(daemon)
        assert packed is not None
        assert not packed.listeners
        assert _bodies(packed) == ["second"]

        daemon.delete("Settings", "default")
        wait_until(lambda: _stored(daemon) is None, "the end of the Proxy", SECONDS)
        assert daemon.stored("Proxy", "by-hand") == MADE_BY_HAND


def test_a_proxy_that_does_not_fit_is_not_stored(
    consul: ConsulAgent, root_key: str, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """A warning on the Settings says so and what helps; packed it fits."""
    daemon = start_daemon(tmp_path, consul, root_key, free_port)
    with daemon.server:
        daemon.put("Gateway", "gateway-proxy", {"bindAddress": "::", "bindPort": 8080, "httpGateway": {}})
        for name in ("a", "b"):
            route = {**direct(name), "options": {"envoyMetadata": {"note": {"text": "x" * 300_000}}}}
            daemon.put("VirtualService", name, host(f"{name}.test", route))
            daemon.wait_status("VirtualService", name, "Accepted")
        daemon.put("Settings", "default", {"gateway": {"persistProxySpec": True}})
        wait_until(lambda: "524288 at most" in json.dumps(daemon.admin("/problems")), "the warning", SECONDS)
        assert "try compressedProxySpec" in json.dumps(daemon.admin("/problems"))
        assert _stored(daemon) is None
        daemon.wait_status("Settings", "default", "Warning")

        daemon.put("Settings", "default", {"gateway": {"persistProxySpec": True, "compressedProxySpec": True}})
        wait_until(lambda: sorted(_bodies(_stored(daemon))) == ["a", "b"], "the packed Proxy", SECONDS)
        wait_until(lambda: "524288" not in json.dumps(daemon.admin("/problems")), "the end of the warning", SECONDS)


@pytest.mark.envoy
def test_stored_proxies_are_served(
    consul: ConsulAgent,
    root_key: str,
    tmp_path: Path,
    free_port: Callable[[], int],
    run_envoy: Callable[..., Envoy],
) -> None:
    """Without the gateway stage a Proxy is served as it stands, plain or packed, live, and gets a status."""
    port = free_port()
    settings = {"gateway": {"enableGatewayController": False}}
    daemon = start_daemon(tmp_path, consul, root_key, free_port, settings=settings)

    def put(body: str, *, packed: bool = False) -> None:
        virtual_host = {"name": "shop", "domains": ["*"], "routes": [direct(body)]}
        listener = {
            "name": "l",
            "bindAddress": "127.0.0.1",
            "bindPort": port,
            "httpListener": {"virtualHosts": [virtual_host]},
        }
        document = {"metadata": {"name": "gateway-proxy", "namespace": "gloo-system"}, "listeners": [listener]}
        if packed:
            message = codec.decode(PROXY, json.dumps(document).encode()).message
            assert isinstance(message, proxy_pb2.Proxy)
            document = {"metadata": document["metadata"], "compressedSpec": pack(message)}
        daemon.put("Proxy", "gateway-proxy", document)

    def served() -> str:
        return fetch(port, "/", host="a.test").text

    with daemon.server:
        daemon.put("Gateway", "ignored", {"bindAddress": "::", "bindPort": 8080, "httpGateway": {}})
        put("plain")
        run_envoy(build_bootstrap(xds_port=daemon.xds_port, admin_port=free_port()), ready=True)
        wait_until(lambda: served() == "plain", "the first answer", SECONDS)
        daemon.wait_status("Proxy", "gateway-proxy", "Accepted")
        put("packed", packed=True)
        wait_until(lambda: served() == "packed", "the packed one", SECONDS)

        daemon.put("Proxy", "gateway-proxy", {"compressedSpec": "bm90IHpsaWI="})
        status = daemon.wait_status("Proxy", "gateway-proxy", "Rejected")
        assert "compressedSpec: is not JSON packed by zlib and base64" in status["reason"]
        assert served() == "packed"
        put("mended")
        wait_until(lambda: served() == "mended", "the mended one", SECONDS)
