"""Troubles of the folder in which the daemon keeps what it serves, ends without warning, and worlds that come late."""

import itertools
import random
import resource
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gloo_nomad.api.kinds import VIRTUAL_SERVICE
from gloo_nomad.api.refs import Ref
from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.openbao import OpenBao
from gloo_nomad.demo.processes import wait_until
from gloo_nomad.kept.file import read_file
from tests.daemon import Daemon
from tests.kept_world import PLAIN, SERVICE, KeptWorld, sources_of
from tests.site import Place, Site, direct, host, put_gateways, to_service

pytestmark = [pytest.mark.consul, pytest.mark.envoy, pytest.mark.bao]
MOST_BYTES = 128 * 1024
KILLS = 20


@pytest.fixture
def world(
    place: Place,
    new_consul: Callable[..., ConsulAgent],
    new_openbao: Callable[..., OpenBao],
    run_echo: Callable[..., int],
) -> KeptWorld:
    """Servers of the test's own."""
    return KeptWorld(place, new_consul, new_openbao, run_echo)


def failure_of(daemon: Daemon) -> str:
    """Why what is served cannot be kept."""
    found: str = daemon.admin("/healthz")["lastKnown"]["failure"]
    return found


def large(text: str) -> dict[str, Any]:
    """A virtual service that does not fit into a file of ``MOST_BYTES``."""
    routes = [{**direct(text * 2000), "matchers": [{"prefix": f"/{number}"}]} for number in range(100)]
    return host("large.test", *routes)


def test_a_disk_that_is_full(world: KeptWorld) -> None:
    """What cannot be written is told in one line, serving goes on, what was kept stays, and later it is kept."""
    daemon, site = world.open()
    before = (world.folder / "configuration.kept").read_bytes()
    pid = daemon.server.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_FSIZE, (MOST_BYTES, resource.RLIM_INFINITY))
    daemon.put("VirtualService", "large", large("a"))
    wait_until(lambda: "cannot be kept" in failure_of(daemon), "the report", 30)
    daemon.put("VirtualService", "plain", host(PLAIN, direct("changed")))
    site.wait_for(PLAIN, 200, "changed", 30)
    assert (world.folder / "configuration.kept").read_bytes() == before
    assert sorted(path.name for path in world.folder.iterdir()) == [
        "configuration.kept",
        "secrets.kept",
        "services.kept",
    ]
    lines = [line for line in daemon.server.log.read_text().splitlines() if "last_known_not_kept" in line]
    assert len(lines) == 1
    assert "File too large" in lines[0]
    assert "gloo_nomad_last_known_failing 1.0" in fetch(daemon.admin_port, "/metrics").text
    resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
    wait_until(lambda: not failure_of(daemon), "the end of the report", 60)
    assert len((world.folder / "configuration.kept").read_bytes()) > MOST_BYTES


def test_a_folder_that_cannot_be_written(world: KeptWorld) -> None:
    """A daemon whose folder cannot even be made serves all the same, and says why nothing is kept."""
    world.folder.write_text("a file where the folder should be")
    daemon = world.start()
    daemon.put("VirtualService", "plain", host(PLAIN, direct("plain")))
    site = world.place.open(daemon)
    site.wait_for(PLAIN, 200, "plain", 30)
    wait_until(lambda: "cannot be kept" in failure_of(daemon), "the report", 30)
    assert daemon.terminate() < 10


def test_killed_again_and_again(world: KeptWorld) -> None:
    """A daemon that is killed while it writes starts with what one moment before was served, twenty times."""
    daemon, _ = world.open()
    key = daemon.key("VirtualService", "large")
    dice = random.Random(7)  # any numbers will do
    for number in range(KILLS):
        until = time.monotonic() + dice.uniform(0.9, 1.6)
        for turn in itertools.count():
            world.consul.put(key, _yaml(f"{number}-{turn}", daemon))
            if time.monotonic() > until:
                break
        daemon.server.kill()
        daemon = replace(world.start(), root=daemon.root)
        log = daemon.server.log.read_text()
        assert "last_known_refused" not in log, log
        assert "Traceback" not in log, log
    place = {"namespace": "gloo-system", "settings": "gloo-system.default", "rootKey": daemon.root}
    place |= {"directory": "", "datacenter": ""}
    assert read_file(world.folder / "configuration.kept", "configuration", place) is not None


def _yaml(text: str, daemon: Daemon) -> str:
    assert daemon.key("VirtualService", "large") == VIRTUAL_SERVICE.key(daemon.root, Ref("gloo-system", "large"))
    lines = ["metadata: {name: large, namespace: gloo-system}", "virtualHost:", "  domains: [large.test]", "  routes:"]
    for number in range(60):
        lines.append(f"  - matchers: [{{prefix: /{number}}}]")
        lines.append(f"    directResponseAction: {{status: 200, body: '{text * 200}'}}")
    return "\n".join(lines)


@pytest.mark.parametrize("first", ["consul", "vault"])
def test_a_world_that_comes_late(world: KeptWorld, first: str) -> None:
    """A daemon that starts with nothing at all needs no restart, whatever comes first."""
    ports = {"consul": world.consul.port, "vault": world.bao.port}
    world.stop_world()
    daemon = world.start(ready=False)
    site_ports = world.place.free_port(), world.place.free_port()
    for name in ("consul", "vault") if first == "consul" else ("vault", "consul"):
        if name == "vault":
            world.bao = world.new_openbao(port=ports[name])
            pair = world.authority.issue("secure.test")
            world.certificate = pair.der
            world.bao.put_secret("gloo-system", "cert", pair.build_secret())
        else:
            world.consul = world.place.consul = world.new_consul(port=ports[name])
            daemon = replace(daemon, consul=world.consul)
            fill(world, daemon, *site_ports)
        if name == first:
            time.sleep(1.0)
            assert fetch(daemon.admin_port, "/readyz").status == 503
    wait_until(lambda: daemon.waiting_for() == [], "being ready", 60)
    site = Site(daemon, world.place.run_envoy(world.bootstrap(), ready=True), *site_ports)
    world.check(site, 60)
    assert sources_of(daemon) == []
    assert daemon.server.running


def fill(world: KeptWorld, daemon: Daemon, port: int, tls_port: int) -> None:
    """Writes into a new Consul what the world is made of."""
    put_gateways(daemon, port, tls_port)
    world.consul.register("echo", world.run_echo("one"))
    daemon.put("VirtualService", "plain", host(PLAIN, direct("plain")))
    daemon.put("VirtualService", "secure", host("secure.test", direct("secure"), tls="cert"))
    daemon.put("VirtualService", "service", host(SERVICE, to_service("echo")))


def test_an_envoy_that_has_something(world: KeptWorld) -> None:
    """What was kept, older than what an Envoy has and without secrets, is not for it; with Consul and Vault it is."""
    world.environ = {}
    daemon, site = world.open()
    old = world.place.folder / "old"
    shutil.copytree(world.folder, old)
    daemon.put("VirtualService", "newer", host("newer.test", direct("newer")))
    site.wait_for("newer.test", 200, "newer", 30)
    kv = world.consul.request("GET", f"kv/{daemon.root}?recurse")
    world.stop_world()
    daemon.server.kill()
    shutil.rmtree(world.folder)
    shutil.copytree(old, world.folder)

    daemon = world.start()
    wait_until(lambda: len(daemon.admin("/clients")) == 1, "the Envoy being connected", 30)
    time.sleep(3.0)
    assert site.get("newer.test") == (200, "newer")
    assert world.shown(site) == world.certificate

    world.come_back(kv)
    daemon = replace(daemon, consul=world.consul)
    wait_until(lambda: sources_of(daemon) == [], "all being read", 60)
    daemon.put("VirtualService", "newest", host("newest.test", direct("newest")))
    site.wait_for("newest.test", 200, "newest", 30)
    assert site.get("newer.test") == (200, "newer")
    wait_until(lambda: world.shown(site) == world.certificate, "HTTPS", 30)
