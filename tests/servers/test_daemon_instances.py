"""Instances of Consul that have a warning, or a host name, through a whole daemon and a real Envoy."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.echo import EchoServer
from gloo_nomad.demo.processes import wait_until
from tests.daemon import Daemon
from tests.site import Place, Site, host, to_service

pytestmark = [pytest.mark.consul, pytest.mark.envoy]
PATIENCE = 30.0
Serve = Callable[..., int]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts an echo service under a name, on an address of loopback, and returns its port."""
    running: list[tuple[EchoServer, threading.Thread]] = []

    def start(name: str, address: str = "127.0.0.1", port: int = 0) -> int:
        server = EchoServer((address, port), name)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        running.append((server, thread))
        return int(server.server_address[1])

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


def answering(site: Site, domain: str, requests: int = 60) -> Counter[str]:
    """Who answered how many of so many requests."""
    found: Counter[str] = Counter()
    for _ in range(requests):
        status, body = site.get(domain)
        found[json.loads(body)["instance"] if status == 200 else str(status)] += 1
    return found


def wait_answering(site: Site, domain: str, *names: str, requests: int = 30) -> None:
    """Waits until exactly these answer."""
    wait_until(lambda: answering(site, domain, requests).keys() == {*names}, f"answers of {names}", PATIENCE)


def choose(daemon: Daemon, **own: Any) -> None:
    """Settings of our own, laid over the file."""
    daemon.put("Settings", "default", {"extensions": {"configs": {"gloo-nomad": own}}})


def test_warnings(consul: ConsulAgent, place: Place, serve: Serve) -> None:
    """An instance with a warning gets nothing, its small share, or what the others cannot take: as it is set, live."""
    service = f"warned-{place.root}"
    good, bad = ("one", "two", "three"), "warned"
    for name in (*good, bad):
        check = {"CheckID": f"{service}-{name}", "TTL": "600s", "Status": "passing"}
        weights = {"Passing": 9, "Warning": 3}
        consul.register(service, serve(name), instance=f"{service}-{name}", Check=check, Weights=weights)
    daemon = place.start(services=True)
    daemon.put("VirtualService", "web", host("web.test", to_service(service)))
    site = place.open(daemon)

    def say(state: str, *names: str) -> None:
        for name in names:
            consul.request("PUT", f"agent/check/{state}/{service}-{name}")

    wait_answering(site, "web.test", *good, bad)
    say("warn", bad)
    wait_answering(site, "web.test", *good)

    choose(daemon, warningInstances=True)
    wait_answering(site, "web.test", *good, bad)
    assert 1 <= answering(site, "web.test")[bad] <= 12  # 3 of 30, where an equal share were 15 of 60

    choose(daemon, degradeWarningInstances=True)
    wait_answering(site, "web.test", *good)
    say("fail", *good)
    wait_answering(site, "web.test", bad)
    say("pass", *good)
    wait_answering(site, "web.test", *good)

    say("fail", *good, bad)
    wait_answering(site, "web.test", "503")
    for name in (*good, bad):
        consul.deregister(f"{service}-{name}")


def test_host_names(new_consul: Callable[..., ConsulAgent], place: Place, serve: Serve) -> None:
    """An instance is where DNS says that its name is, looked up again after its TTL, and the last answer holds."""
    agent = place.consul = new_consul(config={"dns_config": {"service_ttl": {"lasting": "600s"}}})
    port = serve("here")
    serve("there", "127.0.0.2", port)
    put_node(agent, "127.0.0.1")
    agent.register("lasting", 1)
    agent.register("quick", port, Address="box.node.consul")
    agent.register("slow", port, Address="lasting.service.consul")
    dns = {"dnsAddress": f"127.0.0.1:{agent.dns_port}", "dnsPollingInterval": "0.3s"}
    daemon = place.start(settings={"consul": {"httpAddress": agent.address, "serviceDiscovery": {}, **dns}})
    for service in ("quick", "slow"):
        daemon.put("VirtualService", service, host(f"{service}.test", to_service(service)))
    site = place.open(daemon)
    wait_answering(site, "quick.test", "here", requests=5)
    wait_answering(site, "slow.test", "here", requests=5)

    agent.register("lasting", 1, Address="127.0.0.2")
    for address, name in (("127.0.0.2", "there"), ("127.0.0.1", "here"), ("127.0.0.2", "there")):
        put_node(agent, address)
        wait_answering(site, "quick.test", name, requests=5)
    assert answering(site, "slow.test", 5) == {"here": 5}

    with site.asked("quick.test") as counts:
        agent.request("PUT", "catalog/deregister", json.dumps({"Node": "box"}).encode())
        wait_until(lambda: is_failing(daemon), "the failure on the page", PATIENCE)
        assert answering(site, "quick.test", 5) == {"there": 5}
    assert {status for _, status in counts} == {200}

    put_node(agent, "127.0.0.1")
    wait_answering(site, "quick.test", "here", requests=5)
    wait_until(lambda: not is_failing(daemon), "the end of the failure", PATIENCE)


def is_failing(daemon: Daemon) -> bool:
    """Whether ``/healthz`` tells of the name."""
    return "box.node.consul" in json.dumps(daemon.admin("/healthz"))


def put_node(agent: ConsulAgent, address: str) -> None:
    """A node ``box`` with this address."""
    agent.request("PUT", "catalog/register", json.dumps({"Node": "box", "Address": address}).encode())
