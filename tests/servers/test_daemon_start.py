"""How the daemon begins: without what it needs, with what it needs one after the other, and never half."""

import asyncio
import socket
import time
from collections.abc import Callable
from dataclasses import replace

import psutil
import pytest
import yaml

from gloo_nomad.demo.certificates import Authority
from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.openbao import OpenBao
from gloo_nomad.demo.processes import wait_until
from gloo_nomad.resources import LISTENER
from tests.daemon import NAMESPACE, Daemon
from tests.faults import Proxy
from tests.site import Place, direct, host, put_gateways
from tests.xds_client import DeltaClient

pytestmark = pytest.mark.consul


def first_listeners(daemon: Daemon, seconds: float) -> list[str] | None:
    """The listeners of the first response that an Envoy gets; None if there is none within that time."""

    async def ask() -> list[str] | None:
        async with DeltaClient(f"127.0.0.1:{daemon.xds_port}") as client:
            await client.subscribe(LISTENER)
            if await client.is_quiet(seconds):
                return None
            return [resource.name for resource in (await client.accept()).resources]

    return asyncio.run(ask())


def test_a_consul_that_comes_later(place: Place, new_consul: Callable[..., ConsulAgent]) -> None:
    """Without Consul the daemon waits, tells why, serves nothing and burns nothing; with it everything begins."""
    port = place.free_port()
    settings = {"consul": {"httpAddress": f"127.0.0.1:{port}"}}
    daemon = place.start(settings=settings, roles=("gloo", "gateway", "discovery"), ready=False)
    wait_until(lambda: daemon.admin("/healthz")["status"] == "degraded", "the report", 10)
    missing = ["consul-kv", "first configuration"]
    wait_until(lambda: daemon.waiting_for() == missing, "only Consul being missing", 10)
    assert f"127.0.0.1:{port}" in str(daemon.admin("/healthz"))
    assert first_listeners(daemon, 1.0) is None
    process = psutil.Process(daemon.server.pid)
    before = sum(process.cpu_times()[:2])
    time.sleep(2.0)
    assert sum(process.cpu_times()[:2]) - before < 0.4

    daemon = replace(daemon, consul=new_consul(port=port))
    wait_until(lambda: daemon.waiting_for() == [], "being ready", 20)
    wait_until(lambda: daemon.stored("Gateway", "gateway-proxy") is not None, "the default gateways", 10)
    daemon.put("VirtualService", "vs", host("*", direct("hello")))
    daemon.wait_status("VirtualService", "vs", "Accepted")
    assert daemon.admin("/healthz")["status"] == "ok"
    assert daemon.terminate() < 6


def test_a_vault_that_comes_later(place: Place, new_openbao: Callable[..., OpenBao]) -> None:
    """Without Vault nothing is served, so that no Envoy loses a listener; what is served first has the certificate."""
    vault = new_openbao()
    vault.put_secret(NAMESPACE, "cert", Authority().issue("tls.test").build_secret())
    with Proxy(vault.port) as proxy:
        settings = {"vaultSecretSource": {"address": f"http://{proxy.address}", "accessToken": vault.token}}
        with proxy.down():
            daemon = place.start(settings=settings, ready=False)
            put_gateways(daemon, place.free_port(), place.free_port())
            daemon.put("VirtualService", "plain", host("plain.test", direct("plain")))
            daemon.put("VirtualService", "tls", host("tls.test", direct("tls"), tls="cert"))
            missing = {"vault", "pki", "first configuration"}
            wait_until(lambda: set(daemon.waiting_for()) == missing, "only what is in Vault being missing", 10)
            assert first_listeners(daemon, 1.0) is None
        wait_until(lambda: daemon.waiting_for() == [], "being ready", 20)
        assert len(first_listeners(daemon, 5.0) or []) == 2


def test_settings_in_consul_count_from_the_beginning(place: Place, openbao: OpenBao) -> None:
    """A source that only the Settings object in Consul KV names is read before anything is served."""
    openbao.put_secret(NAMESPACE, "cert", Authority().issue("tls.test").build_secret(), root=place.root)
    first = place.start()
    vault = {"address": openbao.address, "accessToken": openbao.token, "rootKey": place.root}
    first.put("Settings", "default", {"vaultSecretSource": vault})
    put_gateways(first, place.free_port(), place.free_port())
    first.put("VirtualService", "plain", host("plain.test", direct("plain")))
    first.put("VirtualService", "tls", host("tls.test", direct("tls"), tls="cert"))
    first.wait_status("VirtualService", "tls", "Accepted")
    first.terminate()
    for _ in range(3):
        again = place.start(ready=False)
        assert len(first_listeners(again, 15.0) or []) == 2
        again.terminate()


def test_default_gateways_only_where_there_are_none(place: Place) -> None:
    """A daemon that starts over an existing Gateway, however many objects there are, makes no other."""
    texts = {f"vs-{number}": yaml.safe_dump(host(f"{number}.test", direct("x"))) for number in range(100)}
    for name, text in texts.items():
        key = f"{place.root}/gateway.solo.io/v1/VirtualService/{NAMESPACE}/{name}"
        place.consul.put(key, f"metadata: {{name: {name}, namespace: {NAMESPACE}}}\n{text}")
    own = f"metadata: {{name: own, namespace: {NAMESPACE}}}\nbindAddress: '::'\nbindPort: 8080\nhttpGateway: {{}}\n"
    place.consul.put(f"{place.root}/gateway.solo.io/v1/Gateway/{NAMESPACE}/own", own)
    daemon = place.start(roles=("gateway",))
    time.sleep(0.5)
    assert daemon.stored("Gateway", "gateway-proxy") is None


def test_discovery_alone(place: Place) -> None:
    """The role ``discovery`` writes Upstreams, no statuses, no Gateways, and serves no Envoy and no REST API."""
    service = f"alone-{place.root}"
    instance = place.consul.register(service, 18099)
    daemon = place.start(services=True, roles=("discovery",))
    daemon.put("VirtualService", "vs", host("*", direct("x")))
    wait_until(lambda: daemon.stored("Upstream", service) is not None, "the Upstream", 10)
    time.sleep(1.0)
    assert daemon.status("VirtualService", "vs") == {}
    assert "namespacedStatuses" not in (daemon.stored("Upstream", service) or {})
    assert daemon.stored("Gateway", "gateway-proxy") is None
    assert not is_open(daemon.xds_port)
    assert not is_open(daemon.front_door_port)
    assert [source["name"] for source in daemon.admin("/healthz")["sources"]] == ["consul-kv", "consul-catalog"]
    place.consul.deregister(instance)
    assert daemon.terminate() < 5


def test_the_gateway_alone(place: Place) -> None:
    """The role ``gateway`` serves the REST API and makes the default Gateways; statuses and Envoys are not its job."""
    daemon = place.start(roles=("gateway",))
    wait_until(lambda: daemon.stored("Gateway", "gateway-proxy-ssl") is not None, "the default gateways", 10)
    assert fetch(daemon.front_door_port, "/v1/objects/Gateway").json()["items"]
    time.sleep(1.0)
    assert daemon.status("Gateway", "gateway-proxy") == {}
    assert not is_open(daemon.xds_port)
    assert daemon.terminate() < 5


def test_gloo_alone(place: Place) -> None:
    """The role ``gloo`` serves Envoys and writes statuses; it makes no Gateways, no Upstreams and no REST API."""
    service = f"gloo-{place.root}"
    instance = place.consul.register(service, 18098)
    daemon = place.start(services=True, roles=("gloo",))
    daemon.put("VirtualService", "vs", host("*", direct("x")))
    daemon.wait_status("VirtualService", "vs", "Accepted")
    assert is_open(daemon.xds_port)
    assert not is_open(daemon.front_door_port)
    assert daemon.stored("Gateway", "gateway-proxy") is None
    assert daemon.stored("Upstream", service) is None
    place.consul.deregister(instance)


def is_open(port: int) -> bool:
    """Whether somebody listens."""
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", port)) == 0
