"""The fault matrix, Nomad: instances stay, everything else is followed, and recovery needs nobody."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from gloo_nomad.demo.binaries import find_binary
from gloo_nomad.demo.nomad import NomadAgent, start_nomad
from tests.fault_world import PATIENCE, SERVERS, World, open_world
from tests.faults import Fault, Proxy, Reset, Status
from tests.nomad_jobs import echo_job, run_job
from tests.site import REF, host

pytestmark = [pytest.mark.consul, pytest.mark.envoy, pytest.mark.bao, pytest.mark.nomad]
HOLD = 2.0
RULES = 'namespace "default" { capabilities = ["read-job"] }'


@dataclass
class NomadWorld:
    """A world with a Nomad, whose service is one of those that no fault may touch."""

    world: World
    nomad: NomadAgent
    proxy: Proxy
    token: Path

    def issue_token(self) -> str:
        """Gives the daemon a token; the answer is its accessor."""
        asked = {"Name": "gloo", "Type": "client", "Policies": ["gloo"]}
        made = self.nomad.request("PUT", "acl/token", asked)
        self.token.write_text(made["SecretID"])
        accessor: str = made["AccessorID"]
        return accessor

    def end_waiting(self) -> None:
        """Something changes, so that what waits is answered, and asked again."""
        run_job(self.nomad, echo_job("moved", instance="unseen"))

    def move(self) -> None:
        """A job that is run anew is followed."""
        instance = str(uuid4())
        run_job(self.nomad, echo_job("moved", instance=instance))
        self.world.site.wait_for("nomad-moved.test", 200, instance, PATIENCE)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NomadWorld]:
    """One for all faults, one after the other."""
    folder = tmp_path_factory.mktemp("world")
    nomad = start_nomad(folder / "nomad", binary=find_binary("nomad", [SERVERS]), token=str(uuid4()))
    try:
        nomad.request("PUT", "acl/policy/gloo", {"Name": "gloo", "Rules": RULES})
        for name in ("kept", "moved"):
            run_job(nomad, echo_job(name, instance=name))
        with Proxy(nomad.port) as proxy:
            token = folder / "nomad-token"
            token.touch()
            environ = {"NOMAD_ADDR": f"http://{proxy.address}", "NOMAD_TOKEN_FILE": str(token)}
            with open_world(folder, environ=environ) as world:
                scene = NomadWorld(world, nomad, proxy, token)
                scene.issue_token()
                serve_jobs(world)
                yield scene
    finally:
        nomad.stop()


def serve_jobs(world: World) -> None:
    """Routes to both jobs; one of them is among those that no fault may touch."""
    for name in ("kept", "moved"):
        route: dict[str, Any] = {"routeAction": {"single": {"upstream": {"name": f"nomad-svc:{name}", **REF}}}}
        domain = f"nomad-{name}.test"
        world.daemon.put("VirtualService", f"nomad-{name}", host(domain, {"matchers": [{"prefix": "/"}], **route}))
        world.site.wait_for(domain, 200, name, PATIENCE)
    world.untouched["nomad"] = lambda: world.site.get("nomad-kept.test")[0] == 200


def test_down(scene: NomadWorld) -> None:
    """Nobody listens."""
    world = scene.world
    with world.unharmed(scene.move, world.wait_well), scene.proxy.down():
        world.wait_told("Nomad", "cannot connect")
        world.edit()
        time.sleep(HOLD)


@pytest.mark.parametrize("fault", [Reset(), Status(500)], ids=["reset", "500"])
def test_no_good_answer(scene: NomadWorld, fault: Fault) -> None:
    """Connections end, or the server fails."""
    world = scene.world
    with world.unharmed(scene.move, world.wait_well), scene.proxy.fault("/v1/", fault):
        world.wait_told("Nomad")
        world.edit()
        time.sleep(HOLD)


def test_a_revoked_token(scene: NomadWorld) -> None:
    """The next token in its file is used."""
    world = scene.world
    accessor = scene.issue_token()
    scene.move()
    with world.unharmed(scene.move, world.wait_well):
        scene.nomad.request("DELETE", f"acl/token/{accessor}")
        scene.end_waiting()
        world.wait_told("Nomad", "403")
        world.edit()
        time.sleep(HOLD)
        scene.issue_token()


def test_rights_that_were_taken(scene: NomadWorld) -> None:
    """A policy that forbids withdraws nothing."""
    world = scene.world
    with world.unharmed(scene.move, world.wait_well):
        denied = {"Name": "gloo", "Rules": 'namespace "default" { policy = "deny" }'}
        scene.nomad.request("PUT", "acl/policy/gloo", denied)
        scene.end_waiting()
        world.wait_told("Nomad", "403")
        time.sleep(HOLD)
        scene.nomad.request("PUT", "acl/policy/gloo", {"Name": "gloo", "Rules": RULES})
