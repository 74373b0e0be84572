"""How the daemon ends, and how several of them share the work."""

import signal
import threading
import time
from collections.abc import Callable

import pytest

from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.fetch import Connection
from gloo_nomad.demo.processes import wait_until
from tests.daemon import Daemon
from tests.site import Place, direct, host, put_gateways

pytestmark = pytest.mark.consul
ALL_ROLES = ("gloo", "gateway", "discovery")


def sessions(consul: ConsulAgent, daemon: Daemon) -> list[str]:
    """The sessions that a daemon holds in Consul."""
    names = [str(session["Name"]) for session in consul.request("GET", "session/list") or []]
    return sorted(name.split()[0] for name in names if name.endswith(f" {daemon.server.pid}"))


def leader(place: Place) -> int:
    """The process that writes statuses; 0 if there is none."""
    found = place.consul.request("GET", f"kv/{place.root}/gloo-nomad/leader/gloo-system/gloo")
    value = place.consul.get(f"{place.root}/gloo-nomad/leader/gloo-system/gloo") or b""
    return int(value.split()[-1]) if found and found[0].get("Session") else 0


@pytest.mark.envoy
def test_sigterm(place: Place) -> None:
    """With all roles, an Envoy and an open connection: quickly, code 0, no traceback, no session left."""
    daemon = place.start(services=True, roles=ALL_ROLES)
    daemon.put("VirtualService", "vs", host("vs.test", direct("x")))
    site = place.open(daemon)
    site.wait_for("vs.test", 200)
    daemon.wait_status("VirtualService", "vs", "Accepted")
    wait_until(lambda: sessions(place.consul, daemon) == ["discovery", "gloo"], "both sessions", 10)
    with Connection(daemon.front_door_port) as idle:
        assert idle.request("/v1/objects/Gateway").status == 200
        assert daemon.terminate() < 5
    assert sessions(place.consul, daemon) == []
    assert site.get("vs.test") == (200, "x")


def test_sigterm_without_consul(place: Place, new_consul: Callable[..., ConsulAgent]) -> None:
    """A Consul that is gone, or one that takes connections and does not answer, does not hold the end up."""
    consul = place.consul = new_consul()
    daemon = place.start(services=True, roles=ALL_ROLES)
    put_gateways(daemon, place.free_port(), place.free_port())
    daemon.wait_status("Gateway", "gateway-proxy", "Accepted")
    consul.server.process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(0.5)
        assert daemon.terminate() < 8
    finally:
        consul.server.process.send_signal(signal.SIGCONT)


def test_sigterm_at_once(place: Place) -> None:
    """A daemon that is told to end before it is ready ends as well."""
    settings = {"consul": {"httpAddress": f"127.0.0.1:{place.free_port()}"}}
    daemon = place.start(roles=ALL_ROLES, settings=settings, ready=False)
    assert daemon.terminate() < 5


def test_two_replicas(place: Place) -> None:
    """One of two writes statuses, each once; when it ends the other does, at once; both serve all the time."""
    first, second = place.start(), place.start()
    put_gateways(first, place.free_port(), place.free_port())
    by_pid = {daemon.server.pid: daemon for daemon in (first, second)}
    wait_until(lambda: leader(place) in by_pid, "a leader", 10)
    seen: list[int] = []
    stopped = threading.Event()

    def watch() -> None:
        while not stopped.is_set():
            index = first.index("VirtualService", "vs")
            if index not in seen:
                seen.append(index)
            time.sleep(0.01)

    first.put("VirtualService", "vs", host("vs.test", direct("one")))
    thread = threading.Thread(target=watch)
    thread.start()
    first.wait_status("VirtualService", "vs", "Accepted")
    time.sleep(1.0)
    stopped.set()
    thread.join()
    assert len(seen) <= 2
    for daemon in (first, second):
        assert "vs.test" in str(daemon.admin("/snapshots/xds"))

    holder = by_pid.pop(leader(place))
    (other,) = by_pid.values()
    assert holder.terminate() < 5
    wait_until(lambda: leader(place) == other.server.pid, "the other one being the leader", 3)
    other.put("VirtualService", "vs", host("vs.test", {"matchers": [{"prefix": "//"}]}))
    other.wait_status("VirtualService", "vs", "Rejected")
