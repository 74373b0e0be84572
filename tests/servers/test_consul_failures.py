"""A Consul that fails is not an empty one: endpoints stay, the failure is shown, and it ends without a restart."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.processes import wait_until
from tests.consul_servers import ConsulServer
from tests.daemon import PROGRAM, Daemon
from tests.faults import Fault, Garbage, Proxy, Reset, Slow, Status, Truncated, with_index
from tests.site import Place, Site, host, to_service

pytestmark = [pytest.mark.consul, pytest.mark.envoy]
RunEcho = Callable[..., int]
WEB = "/v1/health/service/web"


@pytest.fixture
def proxy(consul: ConsulAgent) -> Iterator[Proxy]:
    """What stands between the daemon and Consul."""
    with Proxy(consul.port) as running:
        yield running


@pytest.fixture
def web(consul: ConsulAgent, run_echo: RunEcho) -> Iterator[str]:
    """An instance of the service ``web``; all of its instances are gone afterwards."""
    yield consul.register("web", run_echo("one"))
    for name in ("web", "other"):
        for entry in consul.request("GET", f"catalog/service/{name}"):
            consul.deregister(entry["ServiceID"])


def open_site(place: Place, port: int) -> Site:
    """An Envoy of a daemon that knows Consul on this port, with routes to two services."""
    consul = {"httpAddress": f"127.0.0.1:{port}", "serviceDiscovery": {}}
    daemon = place.start(settings={"consul": consul, "refreshRate": "5s"})
    for name in ("web", "other"):
        daemon.put("VirtualService", name, host(f"{name}.test", to_service(name)))
    site = place.open(daemon)
    site.wait_for("web.test", 200, "one")
    return site


def told(daemon: Daemon) -> str:
    """What ``/healthz`` says is wrong with the sources."""
    return json.dumps([source["error"] for source in daemon.admin("/healthz")["sources"] if source["error"]])


def wait_told(daemon: Daemon, text: str) -> None:
    """Waits until the failure is shown by ``/healthz``, the metrics and ``gloo-nomad check``."""
    wait_until(lambda: text in told(daemon), f"{text} in {told(daemon)}", 30)
    assert 'gloo_nomad_source_failing{source="consul-' in fetch(daemon.admin_port, "/metrics").text
    failing = [line for line in fetch(daemon.admin_port, "/metrics").text.splitlines() if "source_failing{" in line]
    assert any(line.endswith(" 1.0") for line in failing), failing
    assert text in check(daemon)


def check(daemon: Daemon) -> str:
    """What ``gloo-nomad check`` prints."""
    command: list[str | Path] = [PROGRAM, "check", "--admin-address", f"127.0.0.1:{daemon.admin_port}", "-o", "json"]
    command += ["--consul-address", daemon.consul.address, "--consul-root-key", daemon.root]
    done = subprocess.run(command, env=os.environ, capture_output=True, check=False, timeout=60)
    return (done.stdout + done.stderr).decode()


def wait_well(daemon: Daemon) -> None:
    """Waits until nothing is wrong any more."""
    wait_until(lambda: told(daemon) == "[]", f"the end of {told(daemon)}", 30)


FAULTS: list[tuple[Fault, str]] = [
    (Status(429), "429"),
    (Status(500), "500"),
    (Reset(), "Consul"),
    (Truncated(), "Consul"),
    (Garbage(), "Consul"),
]


@pytest.mark.parametrize("broken", FAULTS, ids=["429", "500", "reset", "truncated", "garbage"])
@pytest.mark.usefixtures("web")
def test_one_service_cannot_be_read(
    place: Place, proxy: Proxy, consul: ConsulAgent, run_echo: RunEcho, broken: tuple[Fault, str]
) -> None:
    """Its instances stay, other services are followed; afterwards it is followed again."""
    fault, text = broken
    site = open_site(place, proxy.port)
    with site.asked("web.test") as counts:
        with proxy.fault(WEB, fault):
            consul.register("web", run_echo("two"))  # so that what waits is answered, and the answer is broken
            wait_told(site.daemon, text)
            consul.register("other", run_echo("beside"))
            site.wait_for("other.test", 200, "beside", 30)
        wait_well(site.daemon)
        site.wait_for("web.test", 200, "two", 30)
    assert {status for _, status in counts} == {200}, counts


@pytest.mark.usefixtures("web")
def test_everything_is_refused_for_a_while(place: Place, proxy: Proxy, consul: ConsulAgent, run_echo: RunEcho) -> None:
    """429 for every question, as from an agent that limits its clients: nothing is lost, and nobody spins."""
    site = open_site(place, proxy.port)
    with site.asked("web.test") as counts:
        with proxy.fault("/v1/", Status(429)):
            wait_told(site.daemon, "429")
            proxy.forget()
            wait_until(lambda: proxy.count("/v1/") > 3, "more questions", 30)
        consul.register("web", run_echo("two"))
        site.wait_for("web.test", 200, "two", 60)
        wait_well(site.daemon)
    assert {status for _, status in counts} == {200}, counts


@pytest.mark.usefixtures("web")
def test_a_slow_answer_holds_nothing_up(place: Place, proxy: Proxy, consul: ConsulAgent, run_echo: RunEcho) -> None:
    """While one service answers late, others are followed at once."""
    site = open_site(place, proxy.port)
    with proxy.fault(WEB, Slow(5)):
        consul.register("web", run_echo("two"))
        consul.register("other", run_echo("beside"))
        site.wait_for("other.test", 200, "beside", 30)
        site.wait_for("web.test", 200, "two", 60)


@pytest.mark.usefixtures("web")
def test_an_index_that_goes_backwards(place: Place, proxy: Proxy, consul: ConsulAgent, run_echo: RunEcho) -> None:
    """The service is read anew and goes on being followed; its endpoints stay."""
    site = open_site(place, proxy.port)
    with site.asked("web.test") as counts:
        with proxy.fault(WEB, with_index(1)):
            consul.register("web", run_echo("two"))
            site.wait_for("web.test", 200, "two", 30)
        consul.register("web", run_echo("three"))
        site.wait_for("web.test", 200, "three", 30)
    assert {status for _, status in counts} == {200}, counts


def test_a_restored_snapshot(place: Place, new_consul: Callable[..., ConsulAgent], run_echo: RunEcho) -> None:
    """Instances are those of the snapshot afterwards, and are followed from there."""
    agent = place.consul = new_consul()
    put_instance(agent, "one", run_echo("one"))
    site = open_site(place, agent.port)
    file = place.folder / "consul.snapshot"
    agent.command("snapshot", "save", str(file))
    with site.asked("web.test") as counts:
        put_instance(agent, "two", run_echo("two"))
        site.wait_for("web.test", 200, "two")
        remove_instance(agent, "one")
        wait_until(lambda: all("two" in site.get("web.test")[1] for _ in range(10)), "only the second", 20)
        agent.command("snapshot", "restore", str(file))
        wait_until(lambda: all("one" in site.get("web.test")[1] for _ in range(10)), "only the first", 30)
        put_instance(agent, "three", run_echo("three"))
        site.wait_for("web.test", 200, "three", 30)
        wait_well(site.daemon)
    assert {status for _, status in counts} == {200}, counts


def put_instance(agent: ConsulAgent, identity: str, port: int) -> None:
    """An instance that no agent looks after: it is in a snapshot, and comes back with that alone."""
    service = {"ID": identity, "Service": "web", "Address": "127.0.0.1", "Port": port}
    body = {"Node": "outside", "Address": "127.0.0.1", "Service": service}
    agent.request("PUT", "catalog/register", json.dumps(body).encode())


def remove_instance(agent: ConsulAgent, identity: str) -> None:
    """Takes such an instance away."""
    body = {"Node": "outside", "ServiceID": identity}
    agent.request("PUT", "catalog/deregister", json.dumps(body).encode())


@pytest.fixture
def servers(tmp_path: Path, consul: ConsulAgent, free_port: Callable[[], int]) -> Iterator[list[ConsulServer]]:
    """Two servers that need each other for a leader; both run."""
    first = ConsulServer(tmp_path / "server-1", consul.binary, free_port, 2)
    second = ConsulServer(tmp_path / "server-2", consul.binary, free_port, 2, [first])
    first.start()
    second.start()
    try:
        first.wait_leader()
        second.wait_leader()
        yield [first, second]
    finally:
        first.stop()
        second.stop()


def test_the_leader_is_lost(place: Place, servers: list[ConsulServer], run_echo: RunEcho) -> None:
    """Without a leader all stays as it is and is shown; with one again, changes are taken without a restart."""
    first, second = servers
    agent = place.consul = first.agent
    agent.register("web", run_echo("one"))
    site = open_site(place, agent.port)
    with site.asked("web.test") as counts:
        second.stop()
        wait_until(lambda: not first.has_leader(), "the loss of the leader", 60)
        wait_told(site.daemon, "leader")
        second.start()
        first.wait_leader()
        agent.register("web", run_echo("two"))
        site.wait_for("web.test", 200, "two", 60)
        wait_well(site.daemon)
    assert {status for _, status in counts} == {200}, counts


def test_the_agent_is_restarted(
    place: Place, tmp_path: Path, consul: ConsulAgent, free_port: Callable[[], int], run_echo: RunEcho
) -> None:
    """An agent that comes back with its data: nothing is lost meanwhile, and what is new then is seen."""
    server = ConsulServer(tmp_path / "server", consul.binary, free_port)
    agent = place.consul = server.start()
    try:
        server.wait_leader()
        agent.register("web", run_echo("one"))
        site = open_site(place, agent.port)
        with site.asked("web.test") as counts:
            server.stop()
            wait_told(site.daemon, "Consul")
            server.start()
            server.wait_leader()
            agent.register("web", run_echo("two"))
            site.wait_for("web.test", 200, "two", 60)
            wait_well(site.daemon)
        assert {status for _, status in counts} == {200}, counts
    finally:
        server.stop()
