"""Several replicas: who writes, what Envoys notice of one that goes, and what a killed one leaves behind.

``make kills KILLS=100`` kills that many leaders; otherwise it is a few.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.envoy import Envoy, build_bootstrap
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.processes import wait_until
from tests.daemon import Daemon, start_daemon
from tests.meanwhile import meanwhile
from tests.site import Place, Site, direct, host, put_gateways

pytestmark = [pytest.mark.consul, pytest.mark.envoy]

KILLS = int(os.environ.get("KILLS", "3"))
SESSION = 3
"""Seconds: less than Consul takes by itself, so that the tests take less time."""
SETTINGS = {"extensions": {"configs": {"gloo-nomad": {"leaderSessionSeconds": SESSION}}}}
ALL_ROLES = ("gloo", "gateway", "discovery")


@dataclass
class Replicas:
    """Daemons that serve one Envoy, which knows all of them."""

    place: Place
    daemons: list[Daemon] = field(default_factory=list)
    restarts: int = 0

    def start(self, count: int) -> None:
        """Starts them all."""
        for _ in range(count):
            self.daemons.append(self.place.start(settings=SETTINGS))

    def open(self) -> Site:
        """An Envoy that connects to any of them."""
        port, tls_port = self.place.free_port(), self.place.free_port()
        put_gateways(self.daemons[0], port, tls_port)
        bootstrap = build_bootstrap(xds_port=self.daemons[0].xds_port, admin_port=self.place.free_port())
        assignment = bootstrap["static_resources"]["clusters"][0]["load_assignment"]
        assignment["endpoints"] = [{"lb_endpoints": [_endpoint(daemon.xds_port) for daemon in self.daemons]}]
        return Site(self.daemons[0], self.place.run_envoy(bootstrap, ready=True), port, tls_port)

    def leader(self) -> Daemon | None:
        """The one that writes statuses, if it lives."""
        key = f"{self.place.root}/gloo-nomad/leader/gloo-system/gloo"
        found = self.place.consul.request("GET", f"kv/{key}")
        if not (found and found[0].get("Session")):
            return None
        pid = int((self.place.consul.get(key) or b"0").split()[-1])
        return next((daemon for daemon in self.daemons if daemon.server.pid == pid), None)

    def wait_leader(self) -> Daemon:
        """The leader, once there is one."""
        wait_until(lambda: self.leader() is not None, "a leader", 60)
        found = self.leader()
        assert found is not None
        return found

    def serving(self) -> Daemon:
        """The one to which Envoy is connected."""
        wait_until(lambda: any(daemon.admin("/clients") for daemon in self.daemons if _lives(daemon)), "a stream", 30)
        return next(daemon for daemon in self.daemons if _lives(daemon) and daemon.admin("/clients"))

    def replace(self, killed: Daemon) -> Daemon:
        """Starts a killed one anew, at the same port of xDS."""
        self.restarts += 1
        folder = self.place.folder / f"again-{self.restarts}"
        anew = start_daemon(
            folder,
            self.place.consul,
            self.place.root,
            self.place.free_port,
            settings={"consul": {"httpAddress": self.place.consul.address}, **SETTINGS},
            xds_port=killed.xds_port,
        )
        self.place.started.append(anew)
        self.daemons[self.daemons.index(killed)] = anew
        return anew


def _endpoint(port: int) -> dict[str, Any]:
    return {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}}


def _is_said(daemon: Daemon, state: str) -> bool:
    return bool(daemon.status("VirtualService", "vs").get("state") == state)


def _lives(daemon: Daemon) -> bool:
    return daemon.server.process.poll() is None


def kill(daemon: Daemon) -> None:
    """``kill -9``."""
    daemon.server.process.kill()
    daemon.server.process.wait(10)


@pytest.fixture
def replicas(
    place: Place, new_consul: Callable[..., ConsulAgent], run_envoy: Callable[..., Envoy]
) -> Iterator[Replicas]:
    """Replicas on a Consul of their own, where a session may be short."""
    place.consul = new_consul(config={"session_ttl_min": "1s"})
    found = Replicas(place)
    yield found
    for daemon in found.daemons:
        if _lives(daemon):
            daemon.server.process.send_signal(signal.SIGCONT)


@contextmanager
def indexes_of(daemon: Daemon, name: str) -> Iterator[list[int]]:
    """The ModifyIndexes that a virtual service goes through meanwhile."""
    seen: list[int] = []

    def look() -> None:
        index = daemon.index("VirtualService", name)
        if index not in seen:
            seen.append(index)

    with meanwhile(look, 0.005):
        yield seen


def edit(number: int) -> tuple[dict[str, Any], str]:
    """The virtual service of a round, every other one wrong, and the state that it is to get."""
    if number % 2:
        return host("vs.test", {"matchers": [{"prefix": "//"}]}), "Rejected"
    return host("vs.test", direct(f"round {number}")), "Accepted"


def test_killed_leaders(replicas: Replicas) -> None:
    """The leader is killed again and again in the moment of an edit: no request fails, each status comes once."""
    replicas.start(3)
    site = replicas.open()
    first = replicas.daemons[0]
    first.put("VirtualService", "vs", edit(0)[0])
    first.put("VirtualService", "still", host("still.test", direct("still")))
    first.wait_status("VirtualService", "vs", "Accepted")
    site.wait_for("vs.test", 200, "round 0")
    chance, takeovers = random.Random(7), []  # no secret
    with site.asked("still.test") as counts:
        for number in range(1, KILLS + 1):
            leader = replicas.wait_leader()
            document, state = edit(number)
            with indexes_of(first, "vs") as seen:
                first.put("VirtualService", "vs", document)
                time.sleep(chance.random() * 0.3)
                kill(leader)
                began = time.monotonic()
                replicas.replace(leader)
                wait_until(partial(_is_said, first, state), f"{number} being {state}", 60)
                replicas.wait_leader()
                takeovers.append(time.monotonic() - began)
                time.sleep(0.2)
            assert len([index for index in seen if index]) <= 3, seen
            if state == "Accepted":
                site.wait_for("vs.test", 200, f"round {number}", 30)
        for daemon in replicas.daemons:
            assert daemon.waiting_for() == []
    asked = sum(counts.values())
    print(f"{KILLS} kills, {asked} requests, {asked - counts['still.test', 200]} failed,")
    print(f"restart, leader and status after {max(takeovers):.1f} s at most, {sum(takeovers) / KILLS:.1f} s on average")
    assert dict(counts) == {("still.test", 200): asked}
    assert asked > 10 * KILLS


def test_a_leader_that_sleeps_writes_nothing(replicas: Replicas) -> None:
    """One that is stopped, loses the lock and wakes up with work to do changes nothing, and is a replica again."""
    replicas.start(2)
    first, second = replicas.daemons
    put_gateways(first, replicas.place.free_port(), replicas.place.free_port())
    first.put("VirtualService", "vs", edit(0)[0])
    first.wait_status("VirtualService", "vs", "Accepted")
    sleeper = replicas.wait_leader()
    other = second if sleeper is first else first
    sleeper.server.process.send_signal(signal.SIGSTOP)
    other.put("VirtualService", "vs", edit(1)[0])
    wait_until(lambda: replicas.leader() is other, "the other one being the leader", 60)
    other.put("VirtualService", "new", edit(1)[0])
    wait_until(lambda: other.status("VirtualService", "new").get("state") == "Rejected", "its first status", 30)
    wait_until(lambda: other.status("VirtualService", "vs").get("state") == "Rejected", "the other status", 30)
    with indexes_of(other, "vs") as seen:
        sleeper.server.process.send_signal(signal.SIGCONT)
        time.sleep(SESSION + 1.0)
    assert len(seen) == 1
    assert replicas.leader() is other
    assert sleeper.admin("/readyz")["ready"]
    assert other.terminate() < 8
    wait_until(lambda: replicas.leader() is sleeper, "the first one being the leader again", 10)


def test_envoy_goes_to_another_one(replicas: Replicas) -> None:
    """The one that serves Envoy stops: not ready first, no request fails, and the next one has nothing to send."""
    replicas.start(2)
    site = replicas.open()
    replicas.daemons[0].put("VirtualService", "vs", edit(0)[0])
    site.wait_for("vs.test", 200, "round 0")
    old = replicas.serving()
    new = next(daemon for daemon in replicas.daemons if daemon is not old)
    wait_until(lambda: "round 0" in str(new.admin("/snapshots/xds")), "the other one having it as well", 20)
    with site.asked("vs.test") as counts:
        old.server.process.terminate()
        wait_until(lambda: bool(new.admin("/clients")), "Envoy being there", 30)
        assert old.server.process.wait(10) == 0
        time.sleep(1.0)
    assert set(counts) == {("vs.test", 200)}
    assert _sent(new) == 0
    new.put("VirtualService", "vs", edit(2)[0])
    site.wait_for("vs.test", 200, "round 2")
    assert _sent(new) == 1
    assert "Traceback" not in old.server.log.read_text()


def _sent(daemon: Daemon) -> int:
    lines = fetch(daemon.admin_port, "/metrics").text.splitlines()
    return sum(int(float(line.split()[-1])) for line in lines if line.startswith("gloo_nomad_xds_resources_total{"))


def test_it_is_not_ready_before_it_ends(replicas: Replicas) -> None:
    """While Envoys are connected there is a moment in which it still serves and is no longer recommended."""
    replicas.start(1)
    site = replicas.open()
    (daemon,) = replicas.daemons
    daemon.put("VirtualService", "vs", edit(0)[0])
    site.wait_for("vs.test", 200, "round 0")
    daemon.server.process.terminate()
    wait_until(lambda: fetch(daemon.admin_port, "/readyz").status == 503, "not being ready", 5)
    assert daemon.waiting_for() == ["the end of this process"]
    assert daemon.admin("/clients")
    assert daemon.server.process.wait(10) == 0


def test_killed_at_any_moment(replicas: Replicas) -> None:
    """Whatever moment of its life ``kill -9`` hits: the next one starts, leads and writes."""
    chance = random.Random(11)  # no secret
    place = replicas.place
    for _ in range(6):
        daemon = place.start(settings=SETTINGS, roles=ALL_ROLES, ready=False, services=True)
        time.sleep(chance.random() * 1.5)
        kill(daemon)
    last = place.start(settings=SETTINGS, roles=ALL_ROLES, services=True)
    put_gateways(last, place.free_port(), place.free_port())
    last.put("VirtualService", "vs", edit(0)[0])
    wait_until(lambda: last.status("VirtualService", "vs").get("state") == "Accepted", "a status", 60)

    def holders() -> set[str]:
        """The processes with a session."""
        sessions = place.consul.request("GET", "session/list") or []
        return {str(session["Name"]).split()[-1] for session in sessions}

    wait_until(lambda: holders() == {str(last.server.pid)}, "the end of the sessions of the dead", 60)
