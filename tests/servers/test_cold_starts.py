"""A daemon that starts while there is nothing at all: Consul, Vault and Nomad appear later, in any order."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import permutations

import pytest

from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.demo.fetch import fetch
from gloo_nomad.demo.nomad import NomadAgent
from gloo_nomad.demo.openbao import OpenBao
from gloo_nomad.demo.processes import wait_until
from tests.daemon import Daemon
from tests.e2e.scene import to_upstream
from tests.kept_world import PLAIN, SECURE, SERVICE, KeptWorld, sources_of
from tests.nomad_jobs import echo_job, run_job
from tests.site import Place, Site, direct, host, put_gateways, to_service

pytestmark = [pytest.mark.consul, pytest.mark.envoy, pytest.mark.bao, pytest.mark.nomad]

KNOWN_TO_NOMAD = "nomad.test"
JOB = "late"
HOLD = 1.0


@dataclass
class Late:
    """Servers of a world that are not there yet, each with its port."""

    world: KeptWorld
    new_nomad: Callable[..., NomadAgent]
    nomad_port: int
    daemon: Daemon
    ports: tuple[int, int]
    """Of the gateways."""
    appeared: list[str] = field(default_factory=list)

    def appear(self, name: str) -> None:
        """One of them is there from now on, with what belongs into it."""
        {"consul": self._consul, "vault": self._vault, "nomad": self._nomad}[name]()
        self.appeared.append(name)

    def _consul(self) -> None:
        world = self.world
        world.consul = world.place.consul = world.new_consul(port=world.consul.port)
        daemon = self.daemon = replace(self.daemon, consul=world.consul)
        world.consul.register("echo", world.echo)
        put_gateways(daemon, *self.ports)
        daemon.put("VirtualService", "plain", host(PLAIN, direct("plain")))
        daemon.put("VirtualService", "secure", host(SECURE, direct("secure"), tls="cert"))
        daemon.put("VirtualService", "service", host(SERVICE, to_service("echo")))
        daemon.put("VirtualService", "nomad", host(KNOWN_TO_NOMAD, to_upstream(f"nomad-svc:{JOB}")))

    def _vault(self) -> None:
        self.world.bao = self.world.new_openbao(port=self.world.bao.port)
        self.world.bao.put_secret("gloo-system", "cert", self.world.secret)

    def _nomad(self) -> None:
        run_job(self.new_nomad(port=self.nomad_port), echo_job(JOB, instance="late"))


@pytest.fixture
def late(
    place: Place,
    new_consul: Callable[..., ConsulAgent],
    new_openbao: Callable[..., OpenBao],
    new_nomad: Callable[..., NomadAgent],
    run_echo: Callable[..., int],
) -> Late:
    """A daemon that knows where they will be."""
    world = KeptWorld(place, new_consul, new_openbao, run_echo)
    world.stop_world()
    port = place.free_port()
    daemon = world.start(ready=False, own={"nomadAddress": f"http://127.0.0.1:{port}"})
    return Late(world, new_nomad, port, daemon, (place.free_port(), place.free_port()))


@pytest.mark.parametrize("order", list(permutations(("consul", "vault", "nomad"))), ids=" ".join)
def test_a_world_that_comes_late(late: Late, order: tuple[str, ...]) -> None:
    """It needs no restart, whatever comes first or last; without Consul or Vault it is not ready."""
    for name in order:
        if not {"consul", "vault"} <= set(late.appeared):
            assert fetch(late.daemon.admin_port, "/readyz").status == 503
        late.appear(name)
        time.sleep(HOLD)
    wait_until(lambda: late.daemon.waiting_for() == [], "being ready", 60)
    world = late.world
    site = Site(late.daemon, world.place.run_envoy(world.bootstrap(), ready=True), *late.ports)
    world.check(site, 60)
    site.wait_for(KNOWN_TO_NOMAD, 200, '"instance": "late"', 60)
    wait_until(lambda: late.daemon.admin("/healthz")["status"] == "ok", "everything being well", 60)
    assert sources_of(late.daemon) == []
    assert late.daemon.server.running
